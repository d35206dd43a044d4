"""What readers have in common: the rules that one person meets, their labels and VAD, and CSV files.

A fault of one person is a rule of `clef.datasets.policies`. A file that isn't what it should be is a DataError.
"""

import codecs
import csv
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from clef.datasets.cards import Card
from clef.datasets.person import Reading
from clef.errors import DataError
from clef.geometry import Box


class LeftOut(Exception):
    """Raised when the policies leave a person out, after that was counted."""


class Faults:
    """The rules that one person meets.

    They are counted in `reading` only once it is certain whether the person stays: someone who is left out counts for
    the rule that left them out, and for no other.

    Args:
        reading: the split to which the person belongs; its policies decide.
        where: a place in a file and, after the last `: `, the person.
    """

    def __init__(self, reading: Reading, where: str) -> None:
        self.reading, self.where = reading, where
        self.met: list[tuple[str, str]] = []
        """Rules met so far, each with the spelling that met it, or nothing."""

    def add(self, rule: str, spelling: str = "") -> None:
        """Flag the person. Raises LeftOut or DataError where the policy is `skip` or `raise`."""
        if self.reading.policies.check(rule, f"{self.where}: {spelling}" if spelling else self.where) == "skip":
            self._leave_out(rule, spelling)
        self.met.append((rule, spelling))

    def refuse(self, rule: str, spelling: str, message: str) -> NoReturn:
        """Leave the person out: raises LeftOut, or DataError with `message` if the policy is `raise`."""
        self.reading.policies.check(rule, f"{self.where}: {message}")
        self._leave_out(rule, spelling)

    def count(self) -> tuple[str, ...]:
        """Count each rule met by a person who stays once, and return the rules as the person's flags."""
        rules = tuple(dict.fromkeys(rule for rule, _ in self.met))
        for rule in rules:
            self.reading.notes[rule] += 1
            self._remember(rule, *(spelling for other, spelling in self.met if other == rule))
        return rules

    def _leave_out(self, rule: str, spelling: str) -> NoReturn:
        self.reading.left_out[rule] += 1
        self._remember(rule, spelling)
        raise LeftOut(rule)

    def _remember(self, rule: str, *spellings: str) -> None:
        self.reading.remember(rule, self.where.rpartition(": ")[2].removeprefix("person "), *spellings)


def parse_labels(card: Card, spellings: Iterable[str], faults: Faults) -> tuple[str, ...]:
    """Return the classes that the spellings stand for, each once. Raises LeftOut, DataError."""
    labels: list[str] = []
    for spelling in spellings:
        label = card.canonical(spelling)
        if label is None:
            known = f"known: {', '.join(card.classes)} (add a spelling to `aliases` in the card)"
            faults.refuse("label_unknown", spelling, f"unknown category {spelling!r:.80}; {known}")
        if label != spelling:
            faults.add("label_alias", spelling)
        labels.append(label)
    if not labels:
        faults.add("label_missing")
    unique = tuple(dict.fromkeys(labels))
    if card.task == "single_label":
        _check_single(unique, faults.where)
    return unique


def _check_single(labels: tuple[str, ...], where: str) -> None:
    if len(labels) > 1:
        raise DataError(f"{where}: one label is expected in a single-label set, not {', '.join(labels)}")
    if not labels:
        raise DataError(f"{where}: no label; a single-label set can't keep such people: --policy label_missing=skip")


def parse_vad(values: Iterable[float], faults: Faults) -> tuple[float, float, float]:
    """Return valence, arousal and dominance; a value that isn't finite is unknown, which is NaN. Raises LeftOut."""
    v, a, d = (value if math.isfinite(value) else math.nan for value in values)
    if any(map(math.isnan, (v, a, d))):
        faults.add("vad_unknown")
    if any(not 1 <= value <= 10 for value in (v, a, d) if not math.isnan(value)):
        faults.add("vad_outside")
    return v, a, d


def look_relative(boxes: Iterable[Box]) -> bool:
    """Return whether boxes seem to be shares of the frame, 0-1: none reaches far beyond that, and not all are zero."""
    known = [side for box in boxes if not any(map(math.isnan, box)) for side in box]
    return any(known) and all(-1 <= side <= 1.5 for side in known)


def look_sized(boxes: Iterable[Box]) -> bool:
    """Return whether boxes seem to be x, y, width, height: more than 1 in 100 would end before they begin."""
    inverted = [x2 < x1 or y2 < y1 for x1, y1, x2, y2 in boxes]
    return sum(inverted) * 100 > len(inverted)


def require_pixels(boxes: Iterable[Box], where: str) -> None:
    """Raise DataError, which names `where`, for boxes that seem to be shares of the frame, 0-1."""
    if look_relative(boxes):
        raise DataError(
            f"{where}: all boxes lie between 0 and 1, so they seem to be shares of the frame; pixels are expected: "
            "multiply x by the image's width and y by its height"
        )


def look_rescaled(vad: Iterable[float]) -> bool:
    """Return whether values of valence, arousal and dominance seem to be in -1 to 1 or 0 to 1, not in 1 to 10."""
    known = [value for value in vad if math.isfinite(value)]
    return bool(known) and -1 <= min(known) < 1 and max(known) <= 1


@dataclass(frozen=True)
class CsvRow:
    """One row of a CSV file."""

    where: str
    """`file:line`."""
    values: dict[str, str]
    """Fields by column name."""


@dataclass(frozen=True)
class CsvTable:
    """A CSV file: its column names without outer blanks, and its rows."""

    header: tuple[str, ...]
    rows: tuple[CsvRow, ...]


def read_csv(path: Path, delimiter: str = ",", encoding: str | None = None) -> CsvTable:
    """Read a CSV file with a header. Rows without any entry are skipped. Raises DataError.

    Unless `encoding` is stated, it is UTF-8, or UTF-16 where the file begins with that encoding's byte order mark.
    """
    try:
        stated = codecs.lookup(encoding).name if encoding else _detect_encoding(path)
        encoding = "utf-8-sig" if stated == "utf-8" else stated
        with path.open(newline="", encoding=encoding) as file:
            # Without `strict`, an open quote swallows the rest of the file.
            lines = csv.reader(file, delimiter=delimiter, strict=True)
            header = _read_header(lines)
            _check_header(header, delimiter, path)
            rows = [
                _make_row(header, values, f"{path}:{lines.line_num}") for values in lines if any(map(str.strip, values))
            ]
            return CsvTable(header, tuple(rows))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnicodeError as error:
        raise DataError(
            f"{path}: a CSV in {str(encoding).removesuffix('-sig').upper()} is expected: {error}. Save it as UTF-8; "
            "for a table, the card may state another encoding instead (reader_options.encoding: latin-1)"
        ) from None
    except csv.Error as error:
        raise DataError(f"{path}:{lines.line_num}: a CSV is expected: {error}") from None


def _detect_encoding(path: Path) -> str:
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def column_names(header: Iterable[str]) -> str:
    """Return column names as an error shows them."""
    return f"{', '.join(name or '(no name)' for name in header):.300}" or "nothing"


def _read_header(lines: Iterator[list[str]]) -> tuple[str, ...]:
    """Return the names of the columns, without outer blanks. A line `sep=;` before them is Excel's."""
    first = next(lines, [])
    return tuple(name.strip() for name in (next(lines, []) if "".join(first).startswith("sep=") else first))


def _check_header(header: tuple[str, ...], delimiter: str, path: Path) -> None:
    other = next((mark for mark in ",;\t|" if mark != delimiter and len(header) == 1 and mark in header[0]), None)
    if other:
        raise DataError(
            f"{path}: {other!r} seems to separate the columns, not {delimiter!r}. Save it with commas; "
            f"for a table, the card may state it instead (reader_options.delimiter: {json.dumps(other)})"
        )
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise DataError(f"{path}: two columns are called {twice[0]!r:.80}")


def _make_row(header: tuple[str, ...], values: list[str], where: str) -> CsvRow:
    # Empty fields beyond the header are accepted: some programs end every row with a comma.
    if len(values) < len(header) or any(value.strip() for value in values[len(header) :]):
        raise DataError(f"{where}: {len(header)} fields are expected ({column_names(header)}), not {len(values)}")
    return CsvRow(where, dict(zip(header, values, strict=False)))
