"""The forms in which boxes of CAER-S circulate: rows, JSON, and a small text file for each image.

Images go by class and stem, in any case: a box list may call `Anger/1.jpg` what the folder calls `Angry/1.png`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clef.datasets.cards import Card
from clef.datasets.person import Box, Reading, parse_box, parse_path
from clef.errors import DataError

Key = tuple[str, str]
"""An image within a folder of the layout: its class, and its name without the extension, in lower case."""
_FOLDER_OF = {"train": "train", "test": "test", "val": "test"}
"""The folder that the first part of a path names; where lists have a val, its images lie in the test folder."""


@dataclass(frozen=True)
class BoxRow:
    """What a box file says of one image."""

    where: str
    folder: str | None
    """`train` or `test`, when the path begins with it."""
    key: Key
    label: str
    """As written: a class's number or name, or nothing."""
    box: Box | None
    """None: looked for and not found."""


def key_of(card: Card, folder: str, name: str) -> Key:
    """How an image is known; a folder that is no class stands for itself."""
    return card.canonical(folder) or folder.lower(), Path(name).stem.lower()


def read(path: Path, card: Card, bare: bool = False) -> list[BoxRow]:
    """All that a file or folder says, in whichever form it is. `bare`: rows may end before the box."""
    if path.is_dir():
        return [_crop(file, card) for file in sorted(path.glob("*/*.txt"))]
    text = _text(path)
    return list(_pairs(path, text, card) if path.suffix.lower() == ".json" else _lines(path, text, card, bare))


def collect(rows: Iterable[BoxRow], card: Card, reading: Reading) -> dict[Key, BoxRow]:
    """The first row of each image. Rows that repeat it, or contradict it or the folder, are counted in `reading`."""
    found: dict[Key, BoxRow] = {}
    for row in rows:
        if row.label and _class(row.label, card) != row.key[0]:
            reading.keeps("label_conflict", f"{row.where}: label {row.label!r:.40}, folder {row.key[0]}")
        first = found.setdefault(row.key, row)
        if first is row:
            continue
        if repr(first.box) == repr(row.box):  # NaN equals nothing
            reading.notes["rows of a box file that repeat another"] += 1
        else:
            reading.keeps("box_conflict", f"{row.where}: {row.box}, but {first.box} in {first.where}")
    return found


def _class(label: str, card: Card) -> str | None:
    if label.isascii() and label.isdecimal():
        return dict(enumerate(card.classes)).get(int(label[:9]))
    return card.canonical(label)


def _lines(path: Path, text: str, card: Card, bare: bool) -> Iterator[BoxRow]:
    """`Class/file.png,label,x1,y1,x2,y2`; no face: 0,0,0,0."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        name, *values = line.split(",")
        if len(values) != 5 and not (bare and len(values) < 2):
            raise DataError(f"{where}: Class/file.png,label,x1,y1,x2,y2 is expected, not {line!r:.80}")
        box = parse_box(values[1:], where) if values[1:] else None
        yield _row(where, name, card, box, values[0].strip() if values else "")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a key that stands twice is not lost."""


def _pairs(path: Path, text: str, card: Card) -> Iterator[BoxRow]:
    """`{"Class/file.png": [x1, y1, x2, y2] or null}`."""
    try:
        content = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: JSON is expected: {error}") from None
    if not isinstance(content, _Pairs):
        raise DataError(f'{path}: {{"Class/file.png": [x1, y1, x2, y2] or null, ...}} is expected')
    for name, value in content:
        where = f"{path}: {name!r:.80}"
        if value is not None and (type(value) is not list or not all(type(v) in (int, float) for v in value)):
            raise DataError(f"{where}: [x1, y1, x2, y2] or null is expected, not {value!r:.80}")
        yield _row(where, name, card, None if value is None else parse_box(value, where))


def _crop(path: Path, card: Card) -> BoxRow:
    """A file of its own for an image, `x1,y1,x2,y2`; no face: 0,0,0,0."""
    box = parse_box(_text(path).strip().split(","), str(path))
    return _row(str(path), f"{path.parent.name}/{path.name}", card, box)


def _row(where: str, name: str, card: Card, box: Box | None, label: str = "") -> BoxRow:
    *above, folder, file = ("", "", *parse_path(name, where).split("/"))
    if not folder:
        raise DataError(f"{where}: Class/file.png is expected, not {name!r:.80}")
    found = box if box and any(box) else None
    return BoxRow(where, _FOLDER_OF.get(above[-1].lower()), key_of(card, folder, file), label, found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: text in UTF-8 is expected: {error}") from None
