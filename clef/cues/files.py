"""Cue files, `<source>/cues/<cue>.jsonl`: their format, and how their values are joined to the people of a dataset.

The first line says what made the file; every other line is one finding. The key of a person's cue is the person's id,
that of an image's cue is the image's path below the source. A value of null says that nothing was found. Any tool that
writes lines of JSON can supply cues, in an environment of its own. Values are in pixels of the source image as stored,
before it is turned as its EXIF data says:

    {"cue": "pose", "extractor": "mediapipe", "version": "0.10.21"}
    {"key": "mscoco/images/x.jpg#0", "value": [[x, y, confidence], ... 17 of them]}

face, person: [x1, y1, x2, y2]. landmarks: 68 x [x, y]. regions: a list of boxes, the best first. depth: the path of a
grey image, below this file's folder; brighter is nearer.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from clef import io
from clef.datasets.cards import Card
from clef.datasets.parsing import require_pixels
from clef.datasets.person import Cues, Person, Reading
from clef.errors import DataError
from clef.geometry import JOINTS, NUM_LANDMARKS, Box

CueName = Literal["face", "person", "landmarks", "pose", "regions", "depth"]
PERSON_CUES: tuple[CueName, ...] = ("face", "person", "landmarks", "pose")
IMAGE_CUES: tuple[CueName, ...] = ("regions", "depth")
ALL_CUES: tuple[CueName, ...] = PERSON_CUES + IMAGE_CUES
_MAX_COORDINATE = 1e6
"""Pixels. A larger coordinate is an error, since no image is so large."""


@dataclass(frozen=True)
class CueFile:
    """The contents of one cue file."""

    path: Path
    cue: CueName
    extractor: str
    version: str
    values: dict[str, Any]
    """By key: tuples of numbers, or the path of a depth image; None where nothing was found."""

    @property
    def made_by(self) -> str:
        """Return the extractor and its version, as the shards' manifest states them."""
        return f"{self.extractor} {self.version}".strip()


def cue_path(source: Path, cue: str) -> Path:
    """Return where the file of a dataset's cue is."""
    return source / "cues" / f"{cue}.jsonl"


def image_key(source: Path, image: Path) -> str:
    """Return the key of an image: its path below the source, or its whole path if it is not below the source."""
    return (image.relative_to(source) if image.is_relative_to(source) else image).as_posix()


def header_line(cue: CueName, extractor: str, version: str) -> str:
    """Return the first line of a cue file."""
    return json.dumps({"cue": cue, "extractor": extractor, "version": version}) + "\n"


def finding_line(key: str, value: Any) -> str:
    """Return the line of one finding; a value of None says that nothing was found."""
    return json.dumps({"key": key, "value": value}, separators=(",", ":")) + "\n"


def read_cue_file(path: Path, head_only: bool = False) -> CueFile:
    """Read a cue file, or only what its first line says of it.

    Raises DataError, with the line's number, for one that is not as documented.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return _read_lines(path, enumerate(islice(lines, 1) if head_only else lines, 1))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read: {error}") from None


def find_cue_files(source: Path) -> list[CueFile]:
    """Read the cue files of a dataset, in the order of `ALL_CUES`."""
    return [read_cue_file(cue_path(source, cue)) for cue in ALL_CUES if cue_path(source, cue).is_file()]


def digest_files(cue_files: Sequence[CueFile]) -> str:
    """Return hashes of the files and of the sizes of the depth images, for the fingerprint of a set of shards."""
    parts = [f"{file.cue}:{io.sha256(file.path)}" for file in cue_files]
    for file in cue_files:
        if file.cue == "depth":
            sizes = hashlib.sha256()
            for image in filter(None, file.values.values()):
                sizes.update(b"%d " % (image.stat().st_size if image.is_file() else -1))
            parts.append(f"depth images:{sizes.hexdigest()}")
    return " ".join(parts)


def check_value(cue: CueName, value: Any) -> Any:
    """Return a cue's value from JSON as tuples; a depth image's path and None stay as they are.

    Raises ValueError for what is not a value of this cue.
    """
    if value is None:
        return None
    if cue == "depth":
        valid, result = isinstance(value, str) and _is_path_below(value), value
    elif cue in ("face", "person"):
        valid = _is_box(value)
        result = valid and tuple(value)
    else:
        rows = value if isinstance(value, (list, tuple)) else [None]
        valid = {
            "landmarks": lambda: len(rows) == NUM_LANDMARKS and all(_are_numbers(row, 2) for row in rows),
            "pose": lambda: len(rows) == len(JOINTS) and all(_is_joint(row) for row in rows),
            "regions": lambda: all(_is_box(row) for row in rows),
        }[cue]()
        result = valid and tuple(map(tuple, rows))
    if not valid:
        raise ValueError(f"not a value of the cue {cue}: {str(value)[:80]}")
    return result


def _read_lines(path: Path, lines: Iterator[tuple[int, str]]) -> CueFile:
    """Return the contents of the numbered lines of a cue file."""
    _, text = next(lines, (1, ""))
    first = _parse_line(path, 1, text)
    cue = first.get("cue")
    if cue != path.stem or cue not in ALL_CUES or not {"extractor", "version"} <= set(first):
        raise DataError(f'{path}:1: {{"cue": "{path.stem}", "extractor": ..., "version": ...}} is expected')
    values: dict[str, Any] = {}
    for number, text in lines:
        entry = _parse_line(path, number, text)
        if set(entry) != {"key", "value"}:
            raise DataError(f'{path}:{number}: {{"key": ..., "value": ...}} is expected, not {text[:80].strip()!r}')
        key = str(entry["key"])
        if key in values:
            raise DataError(f"{path}:{number}: {key} has a line already; keep one of the two")
        try:
            value = check_value(cue, entry["value"])
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        values[key] = path.parent / value if cue == "depth" and value else value
    if cue in ("face", "person"):
        require_pixels([box for box in values.values() if box], str(path))
    return CueFile(path, cue, str(first["extractor"]), str(first["version"]), values)


def _parse_line(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise DataError(
            f"{path}:{number}: a line of JSON is expected, not {text[:80].strip()!r}; was the file cut short?"
        )
    return entry


def _is_path_below(value: str) -> bool:
    return bool(value) and not Path(value).is_absolute() and ".." not in Path(value).parts


def _are_numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == count
        and set(map(type, value)) <= {int, float}
        and all(-_MAX_COORDINATE < v < _MAX_COORDINATE for v in value)
    )


def _is_box(value: Any) -> bool:
    return _are_numbers(value, 4) and value[0] < value[2] and value[1] < value[3]


def _is_joint(value: Any) -> bool:
    return _are_numbers(value, 3) and 0 <= value[2] <= 1


CueFilesByRoot = dict[str, list[CueFile]]
"""The cue files of a dataset by the folder below the source in which a part of it lies (`SplitSource.root`)."""


def load_cue_files(card: Card, source: Path) -> CueFilesByRoot:
    """Read the cue files of every root.

    Raises DataError unless all roots have the same cues, by the same extractors.
    """
    roots = {part.root: find_cue_files(source / part.root) for part in card.splits.values()}
    made_by = {root: {file.cue: file.made_by for file in cue_files} for root, cue_files in roots.items()}
    for cue in ALL_CUES:
        makers = {root: cues.get(cue, "nobody") for root, cues in made_by.items()}
        if len(set(makers.values())) > 1:
            files = "; ".join(f"{cue_path(source / root, cue)} by {maker}" for root, maker in makers.items())
            raise DataError(
                f"the cue {cue} must come from one extractor in all of {card.name}: {files}. "
                f"Move the others elsewhere, and run python -m clef.cues --dataset {card.name} --cue {cue}"
            )
    return roots


def makers_by_cue(roots: CueFilesByRoot) -> dict[str, str]:
    """Return the extractor and version that made each cue."""
    return {file.cue: file.made_by for cue_files in roots.values() for file in cue_files}


def digest_roots(roots: CueFilesByRoot) -> str:
    """Return the digests of all cue files, for the fingerprint of a set of shards; an empty text if there are none."""
    return "".join(f"{root} {digest_files(cue_files)}\n" for root, cue_files in roots.items() if cue_files)


def join_cues(card: Card, source: Path, readings: Mapping[str, Reading], roots: CueFilesByRoot) -> None:
    """Give the people in `readings` (by split) their cues, and note how many have none.

    Raises DataError for a cue file none of whose keys matches: it is another dataset's.
    """
    for root, cue_files in roots.items():
        in_root = [reading for name, reading in readings.items() if card.splits[name].root == root]
        everyone = [person for reading in in_root for person in reading.people]
        unmatched = {file.cue: _count_unmatched_keys(file, everyone, source / root) for file in cue_files}
        for reading in in_root:
            reading.notes += _count_without_line(reading.people, source / root, cue_files)
            reading.people = with_cues(reading.people, source / root, cue_files)
        # A cue file serves all splits of its root: keys that match none of them are noted once, at the first.
        in_root[0].notes += Counter({f"cue {cue}: keys that match nobody": n for cue, n in unmatched.items()})


def with_cues(people: Sequence[Person], source: Path, cue_files: Sequence[CueFile]) -> list[Person]:
    """Return the people with their cues. A face box that the dataset itself gives goes before a detector's."""
    ambiguous = ambiguous_ids(people)
    result = []
    for person, others in zip(people, _other_boxes(people), strict=True):
        values = {file.cue: file.values.get(cue_key(file, person, source)) for file in cue_files}
        if person.id in ambiguous:
            values |= dict.fromkeys(set(values) & set(PERSON_CUES))
        result.append(replace(person, face=person.face or values.get("face"), cues=Cues(**values, others=others)))
    return result


def ambiguous_ids(people: Iterable[Person]) -> set[str]:
    """Return the ids of more than one subject (another image or box), for whom no cue of a person can be looked up."""
    subjects: dict[str, set[Any]] = defaultdict(set)
    for person in people:
        subjects[person.id].add((person.image, person.box))
    return {person_id for person_id, different in subjects.items() if len(different) > 1}


def cue_key(file: CueFile, person: Person, source: Path) -> str:
    """Return the key in a cue file of a person, or of their image."""
    return image_key(source, person.image) if file.cue in IMAGE_CUES else person.id


def _count_without_line(people: Sequence[Person], source: Path, cue_files: Sequence[CueFile]) -> Counter[str]:
    """Return a note for each cue, with the number of people without a line in its file: nobody looked for their cue."""
    without_line = {
        f"cue {file.cue}: no line in its file": sum(
            cue_key(file, person, source) not in file.values for person in people
        )
        for file in cue_files
    }
    return +Counter(without_line)  # the plus drops zeros


def _count_unmatched_keys(file: CueFile, people: Sequence[Person], source: Path) -> int:
    """Return how many keys of a cue file match nobody. Raises DataError if none matches anybody."""
    keys = {cue_key(file, person, source) for person in people}
    unmatched = file.values.keys() - keys
    if unmatched and len(unmatched) == len(file.values):
        raise DataError(
            f"{file.path}: none of its {len(unmatched):,} keys is known in {source}: one is {min(unmatched)!r}, "
            f"where {min(keys, default='nothing')!r} is expected; is it another dataset's?"
        )
    return len(unmatched)


def _other_boxes(people: Sequence[Person]) -> list[tuple[Box, ...]]:
    """Return for each person the boxes of the other people in the image."""
    by_image: dict[Path, list[Person]] = defaultdict(list)
    for person in people:
        by_image[person.image].append(person)
    return [
        tuple(o.box for o in by_image[person.image] if o is not person and o.box and o.box != person.box)
        for person in people
    ]
