"""The file that a cue is kept in: `<source>/cues/<cue>.jsonl`, a line a person or image, written by any tool.

The first line says what made it; every other line is one finding. A cue of a person is keyed by the person's id,
one of an image by the image's path below the source; a value of null says that nothing was found. Whatever can
write lines of JSON can supply cues, in an environment of its own. Values are in pixels of the source image:

    {"cue": "pose", "extractor": "mediapipe", "version": "0.10.21"}
    {"key": "mscoco/images/x.jpg#0", "value": [[x, y, confidence], ... 17 of them]}

face, person: [x1, y1, x2, y2]. landmarks: 68 x [x, y]. regions: a list of boxes, the best first. depth: the path of a
grey image beside this file, brighter is nearer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from clef import files
from clef.cues.points import JOINTS, LANDMARKS
from clef.datasets.person import Cues, Person
from clef.errors import DataError

CueName = Literal["face", "person", "landmarks", "pose", "regions", "depth"]
OF_PERSON: tuple[CueName, ...] = ("face", "person", "landmarks", "pose")
OF_IMAGE: tuple[CueName, ...] = ("regions", "depth")
_SHAPES: dict[str, tuple[int | None, int]] = {
    "landmarks": (LANDMARKS, 2),
    "pose": (len(JOINTS), 3),
    "regions": (None, 4),
}


@dataclass(frozen=True)
class CueFile:
    """One cue of a dataset, by key."""

    path: Path
    cue: CueName
    extractor: str
    version: str
    values: dict[str, Any]

    @property
    def made_by(self) -> str:
        """What the manifest says of it."""
        return f"{self.extractor} {self.version}"


def path_of(source: Path, cue: str) -> Path:
    """Where the cue of a dataset lies."""
    return source / "cues" / f"{cue}.jsonl"


def image_key(source: Path, image: Path) -> str:
    """The key of an image: its path below the source."""
    return image.relative_to(source).as_posix()


def head(cue: CueName, extractor: str, version: str) -> str:
    """The first line of a cue file."""
    return json.dumps({"cue": cue, "extractor": extractor, "version": version}) + "\n"


def line(key: str, value: Any) -> str:
    """One finding; None says that nothing was found."""
    return json.dumps({"key": key, "value": value}, separators=(",", ":")) + "\n"


def read(path: Path) -> CueFile:
    """A cue file. DataError, with the line, for one that is not as documented."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read: {error}") from None
    first = _parsed(path, 1, lines[0] if lines else "")
    cue = first.get("cue")
    if cue != path.stem or cue not in OF_PERSON + OF_IMAGE or not {"extractor", "version"} <= set(first):
        raise DataError(f'{path}:1: {{"cue": "{path.stem}", "extractor": ..., "version": ...}} is expected')
    values = {}
    for number, text in enumerate(lines[1:], 2):
        entry = _parsed(path, number, text)
        if set(entry) != {"key", "value"}:
            raise DataError(f'{path}:{number}: {{"key": ..., "value": ...}} is expected, not {text[:80]!r}')
        values[str(entry["key"])] = _checked(path, number, cue, entry["value"])
    return CueFile(path, cue, str(first["extractor"]), str(first["version"]), values)


def found(source: Path) -> list[CueFile]:
    """The cue files of a dataset, by name."""
    return [read(path_of(source, cue)) for cue in OF_PERSON + OF_IMAGE if path_of(source, cue).is_file()]


def joined(people: Sequence[Person], source: Path, cue_files: Sequence[CueFile]) -> list[Person]:
    """The people with their cues. The source's own face boxes go before a detector's."""
    others = _others(people)
    return [
        replace(
            person,
            face=person.face or _found(person, source, cue_files).get("face"),
            cues=Cues(**_found(person, source, cue_files), others=others[i]),
        )
        for i, person in enumerate(people)
    ]


def digest(cue_files: Sequence[CueFile]) -> str:
    """A hash of the files' bytes, for the fingerprint of a set of shards."""
    return " ".join(f"{file.cue}:{files.sha256(file.path)}" for file in cue_files)


def _found(person: Person, source: Path, cue_files: Sequence[CueFile]) -> dict[str, Any]:
    keys = {cue: person.id for cue in OF_PERSON} | {cue: image_key(source, person.image) for cue in OF_IMAGE}
    return {file.cue: _typed(file, file.values.get(keys[file.cue])) for file in cue_files}


def _typed(file: CueFile, value: Any) -> Any:
    if value is None:
        return None
    if file.cue == "depth":
        return file.path.parent / value
    return tuple(value) if file.cue in ("face", "person") else tuple(tuple(row) for row in value)


def _others(people: Sequence[Person]) -> list[tuple[Any, ...]]:
    by_image: dict[Path, list[int]] = {}
    for i, person in enumerate(people):
        by_image.setdefault(person.image, []).append(i)
    return [
        tuple(box for j in by_image[person.image] if j != i and (box := people[j].box) not in (None, person.box))
        for i, person in enumerate(people)
    ]


def _parsed(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise DataError(f"{path}:{number}: a line of JSON is expected, not {text[:80]!r}; was the file cut short?")
    return entry


def _checked(path: Path, number: int, cue: str, value: Any) -> Any:
    if value is None:
        return None
    if cue == "depth":
        good = isinstance(value, str) and not Path(value).is_absolute() and ".." not in Path(value).parts
    elif cue in ("face", "person"):
        good = _numbers(value, 4)
    else:
        rows, columns = _SHAPES[cue]
        good = (
            isinstance(value, list) and len(value) == (rows or len(value)) and all(_numbers(v, columns) for v in value)
        )
    if not good:
        raise DataError(f"{path}:{number}: not a value of the cue {cue}: {str(value)[:80]}")
    return value


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e6 for v in value)
    )
