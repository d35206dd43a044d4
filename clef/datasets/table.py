"""Any set of people in images as one CSV, or one a split: `path, x1, y1, x2, y2, labels, split` and more.

docs/datasets.md shows the columns, and how a card alone reads a table that calls them otherwise.

The columns of a table of people: what they are called, which there must be, and where the splits come from.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from clef.config import Strict
from clef.config.base import unknown, validate
from clef.datasets import parsing
from clef.datasets.cards import Card
from clef.datasets.parsing import Faults, LeftOut, Row, column_names, read_rows
from clef.datasets.person import Box, Person, Reading, parse_box, parse_path
from clef.errors import ConfigError, DataError

BOX = ("x1", "y1", "x2", "y2")
FACE = tuple(f"face_{name}" for name in BOX)
VAD = ("v", "a", "d")
COLUMNS = ("path", *BOX, "labels", *FACE, *VAD, "split", "id")


class Options(Strict):
    """What a card may say in `reader_options`."""

    file: str = "people.csv"
    """Below the source. With `{split}` in it there is one for each split, and no column says it."""
    images: str = "."
    """The folder that paths start from, below the source; an image that is not there is looked for beside the table."""
    columns: dict[str, str] = {}
    """What the table calls a column of ours: `{labels: Category}`."""
    ignore_columns: tuple[str, ...] = ()
    """Columns of the table that are not read. Any other that is not ours is an error: it may be a slip of the pen."""
    ignore_splits: tuple[str, ...] = ()
    """Likewise: splits of the table that no split of the card stands for."""
    parts: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    """Where the table states no splits: the part of the images that each gets. A hash of the path decides."""
    box_origin: Literal[0, 1] = 0
    """Whether boxes count pixels from 0 and are half-open, or from 1 and are inclusive."""

    @property
    def by_column(self) -> bool:
        """Whether a column says who is in which split."""
        return not self.parts and "{split}" not in self.file


def check(options: Options, splits: set[str], where: str) -> None:
    """ConfigError, at `where`, for options that contradict each other or the table's names of the splits."""
    for key, names, valid in (("columns", options.columns, COLUMNS), ("parts", options.parts, splits)):
        if strange := [name for name in names if name not in valid]:
            raise ConfigError(unknown(f"{where}: {key}: {strange[0]}", strange[0], valid))
    parts = options.parts
    if parts and (abs(sum(parts.values()) - 1) > 1e-6 or "{split}" in options.file):
        raise ConfigError(f"{where}: parts: for one table, and shares that add up to 1 are expected, not {parts}")


def read(path: Path, options: Options, vad: bool) -> list[Row]:
    """The rows of a table by our names of its columns. DataError when one is missing, or not known."""
    table = read_rows(path)
    theirs = {name: options.columns.get(name, name) for name in COLUMNS}
    for name in table.header:
        if name not in (*theirs.values(), *options.ignore_columns):
            told = unknown(f"{path}: column {name!r:.80}", name, theirs.values())
            raise DataError(f"{told} (or reader_options.ignore_columns names it)")
    read = set(table.header) - set(options.ignore_columns)
    ours = {name: column for name, column in theirs.items() if column in read}
    if lacking := [theirs[name] for name in _required(ours, options, vad) if name not in ours]:
        raise DataError(f"{path}: no column {', '.join(lacking)}; there are: {column_names(table.header)}")
    if "split" in ours and not options.by_column:
        raise DataError(
            f"{path}: states the splits, and so does reader_options.{'parts' if options.parts else 'file'}: "
            "put this column into reader_options.ignore_columns, or take the other out"
        )
    return [Row(row.where, {name: row.values[column] for name, column in ours.items()}) for row in table.rows]


def _required(ours: dict[str, str], options: Options, vad: bool) -> list[str]:
    """The columns that must be there; of a box either all or none."""
    names = ["path", "labels", *(["split"] if options.by_column else []), *(VAD if vad else [])]
    return names + [name for box in (BOX, FACE) if any(part in ours for part in box) for name in box]


class TableReader:
    """Reads the people of a table. An empty box stands for the whole frame, an empty face box for none."""

    def __init__(self, root: Path, card: Card) -> None:
        where = f"card {card.name}: reader_options"
        self.root, self.card = root, card
        self.options = validate(Options, card.reader_options, where)
        self.splits = {part.split for part in card.splits.values()} | set(self.options.ignore_splits)
        """All that the table may call a split."""
        check(self.options, self.splits, where)
        self.places: dict[str, Path] = {}

    def read(self, split: str) -> Reading:
        """The people of a split, in the order of the table."""
        reading = Reading(policies=self.card.policies)
        path = self._path(split)
        seen: set[str] = set()
        images: set[str] = set()
        numbers = Counter[str]()
        for row in read(path, self.options, self.card.vad):
            image = parse_path(row.values["path"], row.where)
            name = row.values.get("id", "").strip() or f"{image}#{numbers[image]}"
            numbers[image] += 1
            if name in seen:
                raise DataError(f"{row.where}: the id {name!r:.80} stands further up")
            seen.add(name)
            if self._split(row, image, split) == split:
                self._add(row, name, self._locate(image, path), reading)
                images.add(image)
        reading.images = len(images)
        return reading

    def _path(self, split: str) -> Path:
        path = self.root / self.options.file.replace("{split}", split)
        if not path.is_file():
            raise DataError(
                f"{path}: {self.card.title} not found. Expected, with <source> = {self.root}:\n"
                f"{self.card.layout.rstrip()}\nRequest the set at {self.card.request}."
            )
        return path

    def _split(self, row: Row, image: str, asked: str) -> str:
        """The split of a row, by the table's names."""
        if self.options.parts:
            return _part(image, self.options.parts)
        if not self.options.by_column:
            return asked
        split = row.values["split"].strip()
        if split not in self.splits:
            told = unknown(f"{row.where}: split {split!r:.80}", split, self.splits)
            raise DataError(f"{told} (or reader_options.ignore_splits names it)")
        return split

    def _add(self, row: Row, name: str, image: Path, reading: Reading) -> None:
        """The person of a row, unless the policies leave them out."""
        met = Faults(reading, f"{row.where}: {name}")
        spellings = [text.strip() for text in row.values["labels"].replace("|", ";").split(";")]
        box, face = self._box(row, BOX), self._box(row, FACE)
        numbers = [_number(row, part) for part in VAD] if self.card.vad else None
        try:
            labels = parsing.labels(self.card, [text for text in spellings if text], met)
            vad = parsing.vad(numbers, met) if numbers else None
        except LeftOut:
            return
        reading.people.append(Person(name, image, box, labels, face, vad, met.flags()))

    def _box(self, row: Row, names: tuple[str, ...]) -> Box | None:
        texts = [row.values.get(name, "").strip() for name in names]
        if not any(texts):
            return None
        x1, y1, x2, y2 = parse_box(texts, row.where)
        first = self.options.box_origin
        return x1 - first, y1 - first, x2, y2

    def _locate(self, image: str, table: Path) -> Path:
        if image not in self.places:
            usual, beside = self.root / self.options.images / image, table.parent / image
            self.places[image] = beside if not usual.is_file() and beside.is_file() else usual
        return self.places[image]


def _part(image: str, parts: dict[str, float]) -> str:
    """The part that an image falls into: always the same, whatever else the table holds."""
    place = int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big") / 2**64
    for name, share in parts.items():
        place -= share
        if place < 0:
            return name
    return name  # the shares add up to 1 but for rounding


def _number(row: Row, column: str) -> float:
    text = row.values[column].strip()
    try:
        return float(text or "nan")
    except ValueError:
        raise DataError(f"{row.where}: {column}: a number is expected, not {text!r:.80}") from None
