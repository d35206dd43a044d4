"""Boxes of CAER-S, in the forms in which they circulate: rows of text, JSON, and a text file for each image.

Boxes find their image by class and by file name without extension, in any case: a box list may say `Anger/1.jpg` where
the folder has `Angry/1.png`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clef.datasets.cards import Card
from clef.datasets.folders import is_junk
from clef.datasets.parsing import require_pixels
from clef.datasets.person import Reading, parse_box, parse_path
from clef.errors import DataError
from clef.geometry import Box

Key = tuple[str, str]
"""An image within the train or test folder: its class, and its file name without extension in lower case."""
_FOLDER_OF = {"train": "train", "test": "test", "val": "test"}
"""The folder that the first part of a path means: where a list has a val, its images lie in the test folder."""


@dataclass(frozen=True)
class BoxRow:
    """What a box file states about one image."""

    where: str
    """The file and the place in it, for errors."""
    folder: str | None
    """`train` or `test`, when the path begins with it."""
    key: Key
    label: str
    """As written: a class's number or name, or empty."""
    box: Box | None
    """None: no face (or person) was found in the image."""


def frame_key(card: Card, folder: str, name: str) -> Key:
    """Return an image's key. A folder that isn't a class is kept as it is."""
    return card.canonical(folder) or folder.lower(), Path(name).stem.lower()


def read_boxes(path: Path, card: Card, allow_no_box: bool = False) -> list[BoxRow]:
    """Return all rows of a box file, or of a folder of them, in any of the forms. Raises DataError.

    `allow_no_box`: rows may end after the path or the label.
    """
    if path.is_dir():
        files = [file for file in path.glob("*/*.txt") if not is_junk(file.name) and not is_junk(file.parent.name)]
        return [_read_crop(file, card) for file in sorted(files)]
    text = _read_text(path)
    if path.suffix.lower() == ".json":
        return list(_parse_json(path, text, card))
    return list(_parse_lines(path, text, card, allow_no_box))


def collect_boxes(rows: Iterable[BoxRow], card: Card, reading: Reading) -> dict[Key, BoxRow]:
    """Return the first row of each image. Rows that repeat or contradict it are counted in `reading`."""
    boxes: dict[Key, BoxRow] = {}
    for row in rows:
        if row.label and _label_class(row.label, card) != row.key[0]:
            reading.keeps("label_conflict", f"{row.where}: label {row.label!r:.40}, folder {row.key[0]}")
        first = boxes.setdefault(row.key, row)
        if first is row:
            continue
        if repr(first.box) == repr(row.box):  # as text, because NaN != NaN
            reading.notes["rows of a box file that repeat another"] += 1
        else:
            reading.keeps("box_conflict", f"{row.where}: {row.box}, but {first.box} in {first.where}")
    stated = [row for row in boxes.values() if row.box]
    require_pixels([row.box for row in stated if row.box], stated[0].where if stated else "")
    return boxes


def _label_class(label: str, card: Card) -> str | None:
    """Return the class that a label states by its number or name, or None."""
    if label.isascii() and label.isdecimal():
        return dict(enumerate(card.classes)).get(int(label[:9]))
    return card.canonical(label)


def _parse_lines(path: Path, text: str, card: Card, allow_no_box: bool) -> Iterator[BoxRow]:
    """Parse rows `Class/file.png,label,x1,y1,x2,y2`, or the same with blanks or tabs between; no face: 0,0,0,0."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        name, *values = _split_fields(line)
        if len(values) != 5 and not (allow_no_box and len(values) < 2):
            raise DataError(f"{where}: Class/file.png,label,x1,y1,x2,y2 is expected, not {line!r:.80}")
        box = parse_box(values[1:], where) if values[1:] else None
        yield _parse_row(where, name, card, box, values[0].strip() if values else "")


def _split_fields(line: str) -> list[str]:
    """Return the fields of a row. Commas separate them or, without any, blanks; the file's name may have some, too."""
    if "," in line:
        return line.split(",")
    fields = line.rsplit(maxsplit=5)
    if len(fields) == 6:
        return fields
    name, label = ("", *line.rsplit(maxsplit=1))[-2:]
    return [name, label] if Path(name).suffix and "." not in label else [line]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, so that a key that occurs twice isn't lost."""


def _parse_json(path: Path, text: str, card: Card) -> Iterator[BoxRow]:
    """Parse `{"Class/file.png": [x1, y1, x2, y2] or null}`."""
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
        yield _parse_row(where, name, card, None if value is None else parse_box(value, where))


def _read_crop(path: Path, card: Card) -> BoxRow:
    """Read the box file of one image, `x1,y1,x2,y2` or `x1 y1 x2 y2`; no face: 0,0,0,0."""
    box = parse_box(re.split(r"\s*[,;\s]\s*", _read_text(path).strip()), str(path))
    return _parse_row(str(path), f"{path.parent.name}/{path.name}", card, box)


def _parse_row(where: str, name: str, card: Card, box: Box | None, label: str = "") -> BoxRow:
    *above, folder, file = ("", "", *parse_path(name, where).split("/"))  # so that there are at least three
    if not folder:
        raise DataError(f"{where}: Class/file.png is expected, not {name!r:.80}")
    return BoxRow(
        where,
        _FOLDER_OF.get(above[-1].lower()),
        frame_key(card, folder, file),
        label,
        box if box and any(box) else None,  # 0,0,0,0
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: text in UTF-8 is expected: {error}") from None
