"""The columns of a table of people: what they are called, which there must be, and where the splits come from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from clef.config import Strict
from clef.config.base import unknown
from clef.datasets.rows import Row, column_names, read_rows
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
