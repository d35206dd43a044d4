"""EMOTIC's annotations as common ports convert them: `train.csv`, `val.csv`, `test.csv`, a row a person.

Lists are Python literals. The ports drop people of unknown VAD, and cut boxes to the frame without making them 0-based.
"""

import ast
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clef.datasets.emotic_mat import Record, image_path
from clef.datasets.person import Reading, parse_box
from clef.datasets.rows import Row, column_names, read_rows
from clef.errors import DataError

SPLITS = ("train", "val", "test")
_COLUMNS = ("folder", "filename", "bbox", "categoricallabels", "continuouslabels")
_LONGEST = 2000
"""Characters of a literal. All 26 categories take under 400; what is much longer may not even be parsed."""


class CsvFiles:
    """The annotations in a folder of CSV files."""

    people = "csv"
    """People are numbered within what the port left, not as in the `.mat`: their ids must not be taken for its."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self, split: str, reading: Reading) -> Iterator[Record]:
        """The people of a split, in the order of its file."""
        path = self.path / f"{split}.csv"
        table = read_rows(path)
        columns = {_plain(name): name for name in table.header}
        if lacking := [name for name in _COLUMNS if name not in columns]:
            raise DataError(
                f"{path}: no column {' or '.join(lacking)}; Index, Folder, Filename, Image Size, BBox, "
                f"Categorical_Labels, Continuous_Labels, Gender, Age are expected, not {column_names(table.header)}"
            )
        for row in table.rows:
            yield _record(Row(row.where, {name: row.values[columns[name]] for name in _COLUMNS}))


def _record(row: Row) -> Record:
    box = _numbers(row, "bbox", 4)
    v, a, d = _numbers(row, "continuouslabels", 3)
    categories = tuple(_literal(row, "categoricallabels", str))
    image = image_path(row.values["folder"], row.values["filename"], row.where)
    return Record(row.where, image, parse_box(box, row.where), categories, (v, a, d))


def _numbers(row: Row, column: str, length: int) -> list[float]:
    """So many numbers, `nan` among them; an empty list is as many NaN."""
    values = _literal(row, column, (int, float, type(None))) or [None] * length
    try:
        if len(values) == length:
            return [math.nan if value is None else float(value) for value in values]
    except OverflowError:
        pass
    raise DataError(f"{row.where}: {column}: {length} numbers are expected, not {row.values[column]!r:.80}")


def _literal(row: Row, column: str, kinds: type | tuple[type, ...]) -> list[Any]:
    """The list in a field. Where it isn't one of names, `nan` may stand for a number: None."""
    text = row.values[column].strip()
    try:
        if len(text) > _LONGEST:
            raise ValueError
        value = ast.literal_eval(text if kinds is str else re.sub(r"\bnan\b", "None", text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, kinds) and type(v) is not bool for v in value):
        raise DataError(f"{row.where}: {column}: a list as Python prints it is expected, not {text!r:.80}")
    return list(value)


def _plain(name: str) -> str:
    """A column's name without what differs between copies: case, blanks, underscores."""
    return re.sub(r"[\s_-]", "", name).lower()
