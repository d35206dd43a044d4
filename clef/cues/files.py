"""The file that a cue is kept in: `<source>/cues/<cue>.jsonl`, a line a person or image, written by any tool.

The first line says what made it; every other line is one finding. A cue of a person is keyed by the person's id,
one of an image by the image's path below the source; a value of null says that nothing was found. Whatever can
write lines of JSON can supply cues, in an environment of its own. Values are in pixels of the source image:

    {"cue": "pose", "extractor": "mediapipe", "version": "0.10.21"}
    {"key": "mscoco/images/x.jpg#0", "value": [[x, y, confidence], ... 17 of them]}

face, person: [x1, y1, x2, y2]. landmarks: 68 x [x, y]. regions: a list of boxes, the best first. depth: the path of a
grey image, below this file's folder, brighter is nearer.

Cues join the people of a dataset, by id and by image, as the shards are made.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from clef import io
from clef.datasets.cards import Card
from clef.datasets.person import Box, Cues, Person, Reading
from clef.errors import DataError
from clef.geometry import JOINTS, LANDMARKS

CueName = Literal["face", "person", "landmarks", "pose", "regions", "depth"]
OF_PERSON: tuple[CueName, ...] = ("face", "person", "landmarks", "pose")
OF_IMAGE: tuple[CueName, ...] = ("regions", "depth")
ALL: tuple[CueName, ...] = OF_PERSON + OF_IMAGE
_LIMIT = 1e6
"""Pixels; no image is so large."""


@dataclass(frozen=True)
class CueFile:
    """One cue of a dataset, by key. Values are tuples, or the depth image's path; None: nothing was found."""

    path: Path
    cue: CueName
    extractor: str
    version: str
    values: dict[str, Any]

    @property
    def made_by(self) -> str:
        """What the manifest says of it."""
        return f"{self.extractor} {self.version}".strip()


def path_of(source: Path, cue: str) -> Path:
    """Where the cue of a dataset lies."""
    return source / "cues" / f"{cue}.jsonl"


def image_key(source: Path, image: Path) -> str:
    """The key of an image: its path below the source, or all of its path when it lies elsewhere."""
    return (image.relative_to(source) if image.is_relative_to(source) else image).as_posix()


def head(cue: CueName, extractor: str, version: str) -> str:
    """The first line of a cue file."""
    return json.dumps({"cue": cue, "extractor": extractor, "version": version}) + "\n"


def line(key: str, value: Any) -> str:
    """One finding; None says that nothing was found."""
    return json.dumps({"key": key, "value": value}, separators=(",", ":")) + "\n"


def read(path: Path) -> CueFile:
    """A cue file. DataError, with the line, for one that is not as documented."""
    try:
        with path.open(encoding="utf-8") as lines:
            return _read(path, enumerate(lines, 1))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read: {error}") from None


def found(source: Path) -> list[CueFile]:
    """The cue files of a dataset, by name."""
    return [read(path_of(source, cue)) for cue in ALL if path_of(source, cue).is_file()]


def digest(cue_files: Sequence[CueFile]) -> str:
    """A hash of the files' bytes, and the sizes of the depth images, for the fingerprint of a set of shards."""
    parts = [f"{file.cue}:{io.sha256(file.path)}" for file in cue_files]
    for file in cue_files:
        if file.cue == "depth":
            sizes = hashlib.sha256()
            for image in filter(None, file.values.values()):
                sizes.update(b"%d " % (image.stat().st_size if image.is_file() else -1))
            parts.append(f"depth images:{sizes.hexdigest()}")
    return " ".join(parts)


def checked(cue: CueName, value: Any) -> Any:
    """A value as JSON gives it, as tuples (a depth image's path as it is). ValueError for one that is not the cue's."""
    if value is None:
        return None
    if cue == "depth":
        good, result = isinstance(value, str) and _below(value), value
    elif cue in ("face", "person"):
        good = _is_box(value)
        result = good and tuple(value)
    else:
        rows = value if isinstance(value, (list, tuple)) else [None]
        good = {
            "landmarks": lambda: len(rows) == LANDMARKS and all(_numbers(row, 2) for row in rows),
            "pose": lambda: len(rows) == len(JOINTS) and all(_is_joint(row) for row in rows),
            "regions": lambda: all(_is_box(row) for row in rows),
        }[cue]()
        result = good and tuple(map(tuple, rows))
    if not good:
        raise ValueError(f"not a value of the cue {cue}: {str(value)[:80]}")
    return result


def _read(path: Path, lines: Iterator[tuple[int, str]]) -> CueFile:
    _, text = next(lines, (1, ""))
    first = _parsed(path, 1, text)
    cue = first.get("cue")
    if cue != path.stem or cue not in ALL or not {"extractor", "version"} <= set(first):
        raise DataError(f'{path}:1: {{"cue": "{path.stem}", "extractor": ..., "version": ...}} is expected')
    values: dict[str, Any] = {}
    for number, text in lines:
        entry = _parsed(path, number, text)
        if set(entry) != {"key", "value"}:
            raise DataError(f'{path}:{number}: {{"key": ..., "value": ...}} is expected, not {text[:80].strip()!r}')
        key = str(entry["key"])
        if key in values:
            raise DataError(f"{path}:{number}: {key} has a line already; remove one of the two")
        try:
            value = checked(cue, entry["value"])
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        values[key] = path.parent / value if cue == "depth" and value else value
    return CueFile(path, cue, str(first["extractor"]), str(first["version"]), values)


def _parsed(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise DataError(
            f"{path}:{number}: a line of JSON is expected, not {text[:80].strip()!r}; was the file cut short?"
        )
    return entry


def _below(value: str) -> bool:
    return bool(value) and not Path(value).is_absolute() and ".." not in Path(value).parts


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == count
        and set(map(type, value)) <= {int, float}
        and all(-_LIMIT < v < _LIMIT for v in value)
    )


def _is_box(value: Any) -> bool:
    return _numbers(value, 4) and value[0] < value[2] and value[1] < value[3]


def _is_joint(value: Any) -> bool:
    return _numbers(value, 3) and 0 <= value[2] <= 1


Roots = dict[str, list[CueFile]]
"""The cue files below each root of a dataset (`SplitSource.root`)."""


def cue_files(card: Card, source: Path) -> Roots:
    """The cue files of every root. DataError when the roots do not have the same cues by the same extractors."""
    roots = {part.root: found(source / part.root) for part in card.splits.values()}
    made = {root: {file.cue: file.made_by for file in found} for root, found in roots.items()}
    for cue in ALL:
        makers = {root: cues.get(cue, "nobody") for root, cues in made.items()}
        if len(set(makers.values())) > 1:
            said = "; ".join(f"{path_of(source / root, cue)} by {maker}" for root, maker in makers.items())
            raise DataError(
                f"the cue {cue} must come from one extractor in all of {card.name}: {said}. "
                f"Remove what is not wanted, and run python -m clef.cues --dataset {card.name} --cue {cue}"
            )
    return roots


def made_by(roots: Roots) -> dict[str, str]:
    """What extracted each cue."""
    return {file.cue: file.made_by for found in roots.values() for file in found}


def cues_digest(roots: Roots) -> str:
    """A hash of all cue files, for the fingerprint of a set of shards; empty when there are none."""
    return "".join(f"{root} {digest(found)}\n" for root, found in roots.items() if found)


def join(card: Card, source: Path, readings: Mapping[str, Reading], roots: Roots) -> None:
    """Give the people in `readings` (by split) their cues, and note who has none.

    Raises DataError for a cue file whose keys match nobody: it is another dataset's.
    """
    for root, found in roots.items():
        own = {name: reading for name, reading in readings.items() if card.splits[name].root == root}
        everyone = [person for reading in own.values() for person in reading.people]
        strangers = {file.cue: _strangers(file, everyone, source / root) for file in found}
        for reading in own.values():
            reading.notes += _lacking(reading.people, source / root, found)
            reading.people = joined(reading.people, source / root, found)
        # A cue file serves all splits of its root: what matches none of them is noted once, at the first.
        next(iter(own.values())).notes += Counter(
            {f"cue {cue}: keys that match nobody": n for cue, n in strangers.items()}
        )


def joined(people: Sequence[Person], source: Path, cue_files: Sequence[CueFile]) -> list[Person]:
    """The people with their cues. The source's own face boxes go before a detector's."""
    shared = ambiguous(people)
    result = []
    for person, others in zip(people, _others(people), strict=True):
        own = {file.cue: file.values.get(_key(file, person, source)) for file in cue_files}
        if person.id in shared:
            own |= dict.fromkeys(set(own) & set(OF_PERSON))
        result.append(replace(person, face=person.face or own.get("face"), cues=Cues(**own, others=others)))
    return result


def ambiguous(people: Iterable[Person]) -> set[str]:
    """Ids that stand for more than one subject (another image or box): no cue of a person can be told to be theirs."""
    subjects: dict[str, set[Any]] = defaultdict(set)
    for person in people:
        subjects[person.id].add((person.image, person.box))
    return {name for name, found in subjects.items() if len(found) > 1}


def _key(file: CueFile, person: Person, source: Path) -> str:
    return image_key(source, person.image) if file.cue in OF_IMAGE else person.id


def _lacking(people: Sequence[Person], source: Path, cue_files: Sequence[CueFile]) -> Counter[str]:
    """People who have no line in a cue file at all: their cue was never looked for."""
    lacking = {
        f"cue {file.cue}: no line in its file": sum(_key(file, person, source) not in file.values for person in people)
        for file in cue_files
    }
    return +Counter(lacking)


def _strangers(file: CueFile, people: Sequence[Person], source: Path) -> int:
    """How many keys of a cue file are nobody's. DataError when all are."""
    keys = {_key(file, person, source) for person in people}
    strangers = file.values.keys() - keys
    if strangers and len(strangers) == len(file.values):
        raise DataError(
            f"{file.path}: none of its {len(strangers):,} keys is known in {source}: it says {min(strangers)!r}, "
            f"where {min(keys, default='nothing')!r} is expected; is it another dataset's?"
        )
    return len(strangers)


def _others(people: Sequence[Person]) -> list[tuple[Box, ...]]:
    by_image: dict[Path, list[Person]] = defaultdict(list)
    for person in people:
        by_image[person.image].append(person)
    return [
        tuple(o.box for o in by_image[person.image] if o is not person and o.box and o.box != person.box)
        for person in people
    ]
