"""CSV files that others hand us: the header, and each row with its place. Whatever is wrong is a DataError."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clef.errors import DataError


@dataclass(frozen=True)
class Row:
    """A row by column; `where` is `file:line`."""

    where: str
    values: dict[str, str]


@dataclass(frozen=True)
class Rows:
    """A CSV file: its column names, outer blanks removed, and its rows."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]


def read_rows(path: Path) -> Rows:
    """A CSV in UTF-8 with a header, split at commas; empty lines are none. Fields are 131,072 characters at most."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)  # else a quote left open swallows the rest of the file
            header = tuple(name.strip() for name in next(lines, []))
            _unique(header, path)
            return Rows(header, tuple(_row(header, values, f"{path}:{lines.line_num}") for values in lines if values))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a CSV in UTF-8 is expected: {error}") from None
    except csv.Error as error:
        raise DataError(f"{path}:{lines.line_num}: a CSV is expected: {error}") from None


def column_names(header: Iterable[str]) -> str:
    """Column names as an error shows them."""
    return f"{', '.join(name or '(no name)' for name in header):.300}" or "nothing"


def _unique(header: tuple[str, ...], path: Path) -> None:
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise DataError(f"{path}: two columns are called {twice[0]!r:.80}")


def _row(header: tuple[str, ...], values: list[str], where: str) -> Row:
    """Fields beyond the header may stand there when they are empty: some programs end every row with a comma."""
    if len(values) < len(header) or any(value.strip() for value in values[len(header) :]):
        raise DataError(f"{where}: {len(header)} fields are expected ({column_names(header)}), not {len(values)}")
    return Row(where, dict(zip(header, values, strict=False)))
