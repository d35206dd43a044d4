"""The file that a cue is kept in: `<source>/cues/<cue>.jsonl`, a line a person or image, written by any tool.

The first line says what made it; every other line is one finding. A cue of a person is keyed by the person's id,
one of an image by the image's path below the source; a value of null says that nothing was found. Whatever can
write lines of JSON can supply cues, in an environment of its own. Values are in pixels of the source image:

    {"cue": "pose", "extractor": "mediapipe", "version": "0.10.21"}
    {"key": "mscoco/images/x.jpg#0", "value": [[x, y, confidence], ... 17 of them]}

face, person: [x1, y1, x2, y2]. landmarks: 68 x [x, y]. regions: a list of boxes, the best first. depth: the path of a
grey image, below this file's folder, brighter is nearer.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clef import io
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
