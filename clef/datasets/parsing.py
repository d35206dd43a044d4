"""What a reader finds wrong with one person: the rules met, what they decide, and the labels and VAD that remain.

CSV files that others hand us: the header, and each row with its place. Whatever is wrong is a DataError.
"""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from clef.datasets.cards import Card
from clef.datasets.person import Reading
from clef.errors import DataError


class LeftOut(Exception):
    """The policies leave this person out, and it has been counted."""


class Faults:
    """The rules that one person meets. They are counted when it is known what became of the person.

    `where` is a place in a file and, after the last `: `, the person.
    """

    def __init__(self, reading: Reading, where: str) -> None:
        self.reading, self.where = reading, where
        self.met: list[tuple[str, str]] = []

    def add(self, rule: str, what: str = "") -> None:
        """Go on with the person, flagged. LeftOut or DataError where the policy is another."""
        if self.reading.policies.check(rule, f"{self.where}: {what}" if what else self.where) == "skip":
            self._leave_out(rule, what)
        self.met.append((rule, what))

    def refuse(self, rule: str, what: str, said: str) -> NoReturn:
        """Leave the person out, as `what` was found. DataError, which has `said` so, if the policy is `raise`."""
        self.reading.policies.check(rule, f"{self.where}: {said}")
        self._leave_out(rule, what)

    def _leave_out(self, rule: str, what: str) -> NoReturn:
        self.reading.left_out[rule] += 1
        self._remember(rule, what)
        raise LeftOut(rule)

    def flags(self) -> tuple[str, ...]:
        """The person stays: count what was met, and return it for the record."""
        for rule, what in self.met:
            self.reading.notes[rule] += 1
            self._remember(rule, what)
        return tuple(dict.fromkeys(rule for rule, _ in self.met))

    def _remember(self, rule: str, what: str) -> None:
        self.reading.remember(rule, self.where.rpartition(": ")[2].removeprefix("person "), what)


def labels(card: Card, spellings: Iterable[str], faults: Faults) -> tuple[str, ...]:
    """The classes that the spellings stand for, each once."""
    found = []
    for spelling in spellings:
        label = card.canonical(spelling)
        if label is None:
            known = f"known: {', '.join(card.classes)} (add a spelling to `aliases` in the card)"
            faults.refuse("label_unknown", spelling, f"unknown category {spelling!r:.80}; {known}")
        if label != spelling:
            faults.add("label_alias", spelling)
        found.append(label)
    if not found:
        faults.add("label_missing")
    return _as_task(card, tuple(dict.fromkeys(found)), faults.where)


def _as_task(card: Card, found: tuple[str, ...], where: str) -> tuple[str, ...]:
    if card.task == "multi_label" or len(found) == 1:
        return found
    if found:
        raise DataError(f"{where}: one label is expected in a single-label set, not {', '.join(found)}")
    raise DataError(f"{where}: no label; a single-label set can't keep such people: --policy label_missing=skip")


def vad(values: Iterable[float], faults: Faults) -> tuple[float, float, float]:
    """Valence, arousal and dominance; what is no finite number is unknown, and NaN."""
    v, a, d = (value if math.isfinite(value) else math.nan for value in values)
    if any(map(math.isnan, (v, a, d))):
        faults.add("vad_unknown")
    if any(not 1 <= value <= 10 for value in (v, a, d) if not math.isnan(value)):
        faults.add("vad_outside")
    return v, a, d


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
