"""The file of a table, with the options by which it is read: its form, its columns, the splits that it states."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from clef.datasets.cards import Card
from clef.datasets.parsing import CsvRow, column_names, read_csv
from clef.errors import ConfigError, DataError
from clef.yaml_config import Strict, unknown

BOX = ("x1", "y1", "x2", "y2")
FACE = tuple(f"face_{name}" for name in BOX)
VAD = ("v", "a", "d")
COLUMNS = ("path", *BOX, "labels", *FACE, *VAD, "split", "subject", "id")
_ZERO_OR_ONE = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
"""What a column of a class may hold, in lower case."""


class TableOptions(Strict):
    """What a card may state in `reader_options`."""

    file: str = "people.csv"
    """The table, below the source. With `{split}` in it there is a table for each split, without a column `split`."""
    delimiter: Literal[",", ";", "|", "\t", "tab"] = ","
    """What separates the fields."""
    encoding: str | None = None
    """Such as `latin-1`. Unless stated: UTF-8, or UTF-16 where the file begins with that encoding's mark."""
    decimal: Literal[".", ","] = "."
    """What precedes the decimals of a number."""
    images: str = "."
    """The folder that paths start from, below the source; an image that isn't there is looked for beside the table."""
    columns: dict[str, str] = {}
    """What the table calls a column: `{labels: Category}`."""
    ignore_columns: tuple[str, ...] = ()
    """Columns of the table that are not read. Any other unknown column is an error: it may be a typing mistake."""
    ignore_splits: tuple[str, ...] = ()
    """Splits of the table that are not read. Any other split that the card doesn't name is an error."""
    parts: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    """Where the table states no splits: the share of the images, or subjects, that each split gets. A hash decides."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Where the table has no val: the share of train's images, or subjects, that become val. A hash decides."""
    seed: int = 0
    """Of that hash."""
    boxes: Literal["pixels", "relative"] | None = None
    """Whether boxes are in pixels or in shares of the frame, 0-1. Unless stated: pixels, and refused if none is one."""
    box_form: Literal["corners", "size"] | None = None
    """Whether x2, y2 are a corner, or width and height as in COCO. Unless stated: a corner, and refused if they seem
    not to be."""
    box_origin: Literal[0, 1] = 0
    """Whether boxes count pixels from 0 and are half-open, or from 1 and are inclusive."""
    vad_range: tuple[float, float] | None = None
    """What valence, arousal and dominance range over. Unless stated: 1 to 10, and refused if they seem not to."""

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, name: str | None) -> str | None:
        try:
            "".encode(name or "utf-8")
        except (LookupError, ValueError):
            raise ValueError("an encoding of text is expected, such as utf-8, utf-16, latin-1 or cp1252") from None
        return name

    @property
    def by_column(self) -> bool:
        """Return whether a column states the split of each person."""
        return not self.parts and "{split}" not in self.file


@dataclass(frozen=True)
class Table:
    """The rows of a table, with its columns renamed to `COLUMNS`."""

    path: Path
    rows: list[CsvRow]
    classes: dict[str, str]
    """The columns that state a class each, and their class; empty where the column `labels` states them."""


def check_options(options: TableOptions, splits: set[str], card: Card, where: str) -> None:
    """Raise ConfigError for options that contradict each other, or name unknown columns or splits."""
    for key, names, valid in (("columns", options.columns, COLUMNS), ("parts", options.parts, splits)):
        for name in names:
            if name not in valid:
                raise ConfigError(unknown(f"{where}: {key}: {name}", name, valid))
    parts = options.parts
    if parts and (abs(sum(parts.values()) - 1) > 1e-6 or "{split}" in options.file):
        raise ConfigError(f"{where}: parts: for one table, and shares that add up to 1 are expected, not {parts}")
    if options.val_fraction and (parts or not {"train", "val"} <= card.splits.keys()):
        raise ConfigError(f"{where}: val_fraction: for a card with train and val is expected, and no parts beside it")
    if options.val_fraction and card.splits["train"].root != card.splits["val"].root:
        raise ConfigError(f"{where}: val_fraction: one root for train and val is expected in the card's splits")
    if options.seed and not (parts or options.val_fraction):
        raise ConfigError(f"{where}: seed: has an effect with parts or val_fraction only")
    if options.vad_range and not card.vad:
        raise ConfigError(f"{where}: vad_range: has an effect with vad: true in the card only")
    if options.boxes == "relative" and options.box_origin:
        raise ConfigError(f"{where}: box_origin: 0 is expected for relative boxes, not {options.box_origin}")
    if options.vad_range and options.vad_range[0] >= options.vad_range[1]:
        raise ConfigError(f"{where}: vad_range: the lower end before the higher is expected, not {options.vad_range}")


def read_table(path: Path, options: TableOptions, card: Card) -> Table:
    """Return a table with its columns renamed. Raises DataError when a column is missing or unknown."""
    table = read_csv(path, "\t" if options.delimiter == "tab" else options.delimiter, options.encoding)
    renamed = {name: options.columns.get(name, name) for name in COLUMNS}  # COLUMNS -> the table's header
    others = [name for name in table.header if name not in (*renamed.values(), *options.ignore_columns)]
    classes = _class_columns(path, others, card) if renamed["labels"] not in table.header else {}
    for column in others:
        if column not in classes:
            message = unknown(f"{path}: column {column!r:.80}", column, renamed.values())
            raise DataError(f"{message} (or reader_options.ignore_columns names it)")
    present = set(table.header) - set(options.ignore_columns)
    columns = {name: column for name, column in renamed.items() if column in present}
    required = [name for name in _required_columns(columns, options, card.vad) if not (name == "labels" and classes)]
    if missing := [renamed[name] for name in required if name not in columns]:
        raise DataError(f"{path}: no column {', '.join(missing)}; there are: {column_names(table.header)}")
    if "split" in columns and not options.by_column:
        raise DataError(
            f"{path}: states the splits, and so does reader_options.{'parts' if options.parts else 'file'}: "
            "put this column into reader_options.ignore_columns, or take the other out"
        )
    columns |= {column: column for column in classes}
    rows = [CsvRow(row.where, {name: row.values[column] for name, column in columns.items()}) for row in table.rows]
    return Table(path, rows, classes)


def _class_columns(path: Path, columns: list[str], card: Card) -> dict[str, str]:
    """Return the columns that are called as a class, and the class: all of them or none. Raises DataError."""
    classes = {column: name for column in columns if (name := card.canonical(column))}
    for name, count in Counter(classes.values()).items():
        if count > 1:
            same = [column for column, other in classes.items() if other == name]
            raise DataError(f"{path}: columns {', '.join(map(repr, same))} are all of the class {name!r}")
    if classes and (missing := [name for name in card.classes if name not in classes.values()]):
        raise DataError(f"{path}: no column of class {', '.join(missing)}, where other classes have one")
    return classes


def _required_columns(columns: dict[str, str], options: TableOptions, vad: bool) -> list[str]:
    """Return the columns that must be there; of the four columns of a box either all or none."""
    names = ["path", "labels", *(["split"] if options.by_column else []), *(VAD if vad else [])]
    return names + [name for box in (BOX, FACE) if any(side in columns for side in box) for name in box]


def is_set(row: CsvRow, column: str) -> bool:
    """Return whether the column of a class says that a person has it. Raises DataError for anything but 0 and 1."""
    text = row.values[column].strip()
    value = _ZERO_OR_ONE.get(text.replace(",", ".").lower())
    if value is None:
        raise DataError(f"{row.where}: {column}: 0 or 1 is expected, not {text!r:.80}")
    return value
