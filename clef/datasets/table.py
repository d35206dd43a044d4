"""Any dataset of people in images, as one CSV file or one for each split: `path, x1, y1, x2, y2, labels, split`, ...

docs/datasets.md shows the columns, and how a card alone reads a table that calls them otherwise.
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from clef.datasets.cards import Card
from clef.datasets.parsing import CsvRow, Faults, LeftOut, column_names, parse_labels, parse_vad, read_csv
from clef.datasets.person import Person, Reading, parse_box, parse_path
from clef.errors import ConfigError, DataError
from clef.geometry import Box
from clef.yaml_config import Strict, unknown, validate

BOX = ("x1", "y1", "x2", "y2")
FACE = tuple(f"face_{name}" for name in BOX)
VAD = ("v", "a", "d")
COLUMNS = ("path", *BOX, "labels", *FACE, *VAD, "split", "id")


class TableOptions(Strict):
    """What a card may state in `reader_options`."""

    file: str = "people.csv"
    """The table, below the source. With `{split}` in it there is a table for each split, without a column `split`."""
    images: str = "."
    """The folder that paths start from, below the source; an image that isn't there is looked for beside the table."""
    columns: dict[str, str] = {}
    """What the table calls a column: `{labels: Category}`."""
    ignore_columns: tuple[str, ...] = ()
    """Columns of the table that are not read. Any other unknown column is an error: it may be a typing mistake."""
    ignore_splits: tuple[str, ...] = ()
    """Splits of the table that are not read. Any other split that the card doesn't name is an error."""
    parts: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    """Where the table states no splits: the share of the images that each split gets. A hash of the path decides."""
    box_origin: Literal[0, 1] = 0
    """Whether boxes count pixels from 0 and are half-open, or from 1 and are inclusive."""

    @property
    def by_column(self) -> bool:
        """Return whether a column states the split of each person."""
        return not self.parts and "{split}" not in self.file


class TableReader:
    """Reads the people of a table. An empty box is the whole frame; an empty face box means no face."""

    def __init__(self, root: Path, card: Card) -> None:
        where = f"card {card.name}: reader_options"
        self.root, self.card = root, card
        self.options = validate(TableOptions, card.reader_options, where)
        self.splits = {split.split for split in card.splits.values()} | set(self.options.ignore_splits)
        """The names of splits that the table may use."""
        _check_options(self.options, self.splits, where)
        self.paths: dict[str, Path] = {}
        """Where images lie, by path in the table: looked up once, because file systems can be slow."""

    def read(self, split: str) -> Reading:
        """Return the people of a split, in the order of the table. Raises DataError."""
        reading = Reading(policies=self.card.policies)
        path = self._table_path(split)
        ids: set[str] = set()
        images: set[str] = set()
        people_of = Counter[str]()
        for row in _read_table(path, self.options, self.card.vad):
            image = parse_path(row.values["path"], row.where)
            person_id = row.values.get("id", "").strip() or f"{image}#{people_of[image]}"
            people_of[image] += 1
            if person_id in ids:
                raise DataError(f"{row.where}: the id {person_id!r:.80} is in an earlier row, too")
            ids.add(person_id)
            if self._split_of(row, image, split) == split:
                self._add_person(row, person_id, self._locate(image, path), reading)
                images.add(image)
        reading.images = len(images)
        return reading

    def _table_path(self, split: str) -> Path:
        path = self.root / self.options.file.replace("{split}", split)
        if not path.is_file():
            raise DataError(
                f"{path}: {self.card.title} not found. Expected, with <source> = {self.root}:\n"
                f"{self.card.layout.rstrip()}\nRequest the set at {self.card.request}."
            )
        return path

    def _split_of(self, row: CsvRow, image: str, requested: str) -> str:
        """Return the split of a row, as the table calls it."""
        if self.options.parts:
            return _hash_to_part(image, self.options.parts)
        if not self.options.by_column:
            return requested
        split = row.values["split"].strip()
        if split not in self.splits:
            message = unknown(f"{row.where}: split {split!r:.80}", split, self.splits)
            raise DataError(f"{message} (or reader_options.ignore_splits names it)")
        return split

    def _add_person(self, row: CsvRow, person_id: str, image: Path, reading: Reading) -> None:
        """Add the person of a row to the reading, unless the policies leave them out."""
        faults = Faults(reading, f"{row.where}: {person_id}")
        spellings = [text.strip() for text in row.values["labels"].replace("|", ";").split(";")]
        box, face = self._box(row, BOX), self._box(row, FACE)
        values = [_parse_number(row, column) for column in VAD] if self.card.vad else None
        try:
            labels = parse_labels(self.card, [text for text in spellings if text], faults)
            vad = parse_vad(values, faults) if values else None
        except LeftOut:
            return
        reading.people.append(Person(person_id, image, box, labels, face, vad, faults.count()))

    def _box(self, row: CsvRow, columns: tuple[str, ...]) -> Box | None:
        texts = [row.values.get(column, "").strip() for column in columns]
        if not any(texts):
            return None
        x1, y1, x2, y2 = parse_box(texts, row.where)
        origin = self.options.box_origin  # an inclusive 1-based end is a half-open 0-based one
        return x1 - origin, y1 - origin, x2, y2

    def _locate(self, image: str, table: Path) -> Path:
        """Return where an image lies: below `images`, or else beside the table."""
        if image not in self.paths:
            usual, beside = self.root / self.options.images / image, table.parent / image
            self.paths[image] = beside if not usual.is_file() and beside.is_file() else usual
        return self.paths[image]


def _check_options(options: TableOptions, splits: set[str], where: str) -> None:
    """Raise ConfigError for options that contradict each other, or name unknown columns or splits."""
    for key, names, valid in (("columns", options.columns, COLUMNS), ("parts", options.parts, splits)):
        for name in names:
            if name not in valid:
                raise ConfigError(unknown(f"{where}: {key}: {name}", name, valid))
    parts = options.parts
    if parts and (abs(sum(parts.values()) - 1) > 1e-6 or "{split}" in options.file):
        raise ConfigError(f"{where}: parts: for one table, and shares that add up to 1 are expected, not {parts}")


def _read_table(path: Path, options: TableOptions, vad: bool) -> list[CsvRow]:
    """Return the rows of a table, with its columns renamed to `COLUMNS`.

    Raises DataError when a column is missing or unknown.
    """
    table = read_csv(path)
    renamed = {name: options.columns.get(name, name) for name in COLUMNS}  # COLUMNS -> the table's header
    for column in table.header:
        if column not in (*renamed.values(), *options.ignore_columns):
            message = unknown(f"{path}: column {column!r:.80}", column, renamed.values())
            raise DataError(f"{message} (or reader_options.ignore_columns names it)")
    present = set(table.header) - set(options.ignore_columns)
    columns = {name: column for name, column in renamed.items() if column in present}
    if missing := [renamed[name] for name in _required_columns(columns, options, vad) if name not in columns]:
        raise DataError(f"{path}: no column {', '.join(missing)}; there are: {column_names(table.header)}")
    if "split" in columns and not options.by_column:
        raise DataError(
            f"{path}: states the splits, and so does reader_options.{'parts' if options.parts else 'file'}: "
            "put this column into reader_options.ignore_columns, or take the other out"
        )
    return [CsvRow(row.where, {name: row.values[column] for name, column in columns.items()}) for row in table.rows]


def _required_columns(columns: dict[str, str], options: TableOptions, vad: bool) -> list[str]:
    """Return the columns that must be there; of the four columns of a box either all or none."""
    names = ["path", "labels", *(["split"] if options.by_column else []), *(VAD if vad else [])]
    return names + [name for box in (BOX, FACE) if any(side in columns for side in box) for name in box]


def _hash_to_part(image: str, parts: dict[str, float]) -> str:
    """Return the part that an image falls into. It depends on the image's path and nothing else."""
    fraction = int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big") / 2**64
    for name, share in parts.items():
        fraction -= share
        if fraction < 0:
            return name
    return name  # the shares add up to 1 only up to rounding


def _parse_number(row: CsvRow, column: str) -> float:
    text = row.values[column].strip()
    try:
        return float(text or "nan")
    except ValueError:
        raise DataError(f"{row.where}: {column}: a number is expected, not {text!r:.80}") from None
