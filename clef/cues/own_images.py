"""Images that are in no dataset: an image or a folder of them, and the people in them, by options or from a table.

The commands that take such images, `clef.predict` and `clef.cues`, share the options and the people's ids, so that the
cue files that one writes fit what the other is given.
"""

import argparse
import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from clef.datasets.folders import is_junk
from clef.datasets.parsing import CsvRow, column_names, read_csv, require_pixels
from clef.datasets.person import Person, parse_box, parse_path
from clef.errors import ConfigError, DataError
from clef.geometry import Box

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
_BOX = ("x1", "y1", "x2", "y2")
_FACE = tuple(f"face_{side}" for side in _BOX)

PeopleByImage = dict[Path, list[Person]]
"""The people who are given for each image; none: whoever is found. Their boxes are in pixels of the turned image."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who is in an image."""
    parser.add_argument(
        "--box",
        type=_parse_box_option,
        action="append",
        default=[],
        metavar="X1,Y1,X2,Y2",
        help="a subject; repeatable",
    )
    parser.add_argument(
        "--face", type=_parse_box_option, action="append", default=[], metavar="X1,Y1,X2,Y2",
        help="the face of each --box, in the same order",
    )  # fmt: skip
    parser.add_argument(
        "--boxes", type=Path, metavar="CSV",
        help="with a folder: its people, in columns path,x1,y1,x2,y2 and, if you have them, face_x1..face_y2 and id",
    )  # fmt: skip


def list_people(images: Path, args: argparse.Namespace) -> PeopleByImage:
    """Return the people that the options state for an image, or for each image of a folder.

    Raises ConfigError for options that don't fit, and DataError for a folder without images or a table that isn't as
    documented.
    """
    boxes, faces = args.box, args.face
    if faces and len(faces) != len(boxes):
        raise ConfigError(f"--face: one for each --box, in the same order, is expected: {len(boxes)}, not {len(faces)}")
    if not images.is_dir():
        if args.boxes:
            raise ConfigError(f"--boxes {args.boxes}: is for a folder of images, and {images} is none; give --box")
        return {images: _people(images, images.name, boxes, faces)}
    if boxes:
        raise ConfigError(f"--box: is for one image, and {images} is a folder; name its people in a CSV with --boxes")
    return _read_table(args.boxes, images) if args.boxes else {image: [] for image in _list_images(images)}


def source_folder(images: Path) -> Path:
    """Return the folder from which the keys of images and people count."""
    return images if images.is_dir() else images.parent


def person_id(name: str, box: Box) -> str:
    """Return the id of a person who has no other: the image's path and the box, to whom alone a cue belongs."""
    return f"{name}#{','.join(f'{side:.10g}' for side in box)}"


def _people(image: Path, name: str, boxes: Sequence[Box], faces: Sequence[Box]) -> list[Person]:
    return [Person(person_id(name, box), image, box, (), face) for box, face in zip_longest(boxes, faces)]


def _list_images(folder: Path) -> list[Path]:
    below = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES]
    images = [path for path in below if not any(map(is_junk, path.relative_to(folder).parts))]
    if not images:
        raise DataError(f"{folder}: no images in it ({', '.join(sorted(_SUFFIXES))})")
    return images


def _read_table(path: Path, folder: Path) -> PeopleByImage:
    """Return the people of a table, whose paths are below `folder`, by image."""
    table = read_csv(path)
    if missing := [name for name in ("path", *_BOX) if name not in table.header]:
        raise DataError(f"{path}: no column {', '.join(missing)}; there are: {column_names(table.header)}")
    people: PeopleByImage = {}
    ids: dict[str, tuple[str, Box]] = {}
    for row in table.rows:
        name = parse_path(row.values["path"], row.where)
        box = _parse_subject([row.values[side] for side in _BOX], row)
        face_texts = [row.values.get(side, "").strip() for side in _FACE]
        face = _parse_subject(face_texts, row) if any(face_texts) else None
        known = row.values.get("id", "").strip() or person_id(name, box)
        if ids.setdefault(known, (name, box)) != (name, box):
            raise DataError(f"{row.where}: the id {known!r:.80} is in an earlier row, too")
        people.setdefault(folder / name, []).append(Person(known, folder / name, box, (), face))
    if not people:
        raise DataError(f"{path}: no rows")
    require_pixels((box for _, box in ids.values()), str(path))
    return people


def _parse_subject(texts: Sequence[str], row: CsvRow) -> Box:
    box = parse_box(texts, row.where)
    if not _is_box(box):
        raise DataError(f"{row.where}: left, top, right, bottom are expected, not {','.join(texts)!r:.80}")
    return box


def _is_box(box: Box) -> bool:
    x1, y1, x2, y2 = box
    return 0 < x2 - x1 < math.inf and 0 < y2 - y1 < math.inf


def _parse_box_option(text: str) -> Box:
    try:
        x1, y1, x2, y2 = (float(value) for value in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"four numbers x1,y1,x2,y2 are expected, not {text!r}") from None
    if not _is_box((x1, y1, x2, y2)):
        raise argparse.ArgumentTypeError(f"left, top, right, bottom are expected, not {text!r}")
    return x1, y1, x2, y2
