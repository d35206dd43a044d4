"""The numbers of an audit in long form: one row a number.

`audit.json` in a cell's folder: written and read. Imports no torch.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clef import io, metrics
from clef.cells import records


@dataclass(frozen=True)
class Row:
    """`label` is the class that a number is of, None for all; `samples` are the people that it rests on.

    docs/audit.md lists the names.
    """

    name: str
    split: str
    label: str | None
    value: float
    samples: int

    def as_json(self) -> dict[str, Any]:
        """As it is written: `label` is called class."""
        content = asdict(self)
        return {"class" if key == "label" else key: value for key, value in content.items()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Row":
        """As it was written."""
        return cls(content["name"], content["split"], content["class"], content["value"], content["samples"])


@dataclass(frozen=True)
class Rows:
    """Makes the rows of a split, whose K classes and target (N or N,K) it knows."""

    split: str
    classes: list[str]
    target: np.ndarray

    def one(self, name: str, value: float, samples: int | None = None) -> Row:
        """A number of all people."""
        return Row(name, self.split, None, float(value), len(self.target) if samples is None else samples)

    def metric(self, name: str, scores: np.ndarray) -> Iterator[Row]:
        """The card's metric in percent, and that of each class: recall for one label, AP for several."""
        yield self.one(name, metrics.headline(scores, self.target))
        found = metrics.per_class(scores, self.target, self.classes)
        counts = self._people() if self.target.ndim == 1 else [len(self.target)] * len(self.classes)
        for label, samples in zip(self.classes, counts, strict=True):
            if label in found:
                yield Row(name, self.split, label, found[label], samples)

    def share(self, name: str, where: np.ndarray) -> Iterator[Row]:
        """In percent: of all decisions; of those about people of a class (one label) or about a class (several)."""
        yield self.one(name, 100 * where.mean())
        for k, label in enumerate(self.classes):
            mine = where[self.target == k] if self.target.ndim == 1 else where[:, k]
            yield from self._mean(name, label, 100 * mine)

    def effect(self, name: str, values: np.ndarray) -> Iterator[Row]:
        """Means of an effect N,K: of each class over everyone, and (`name.own`) over those who have that label."""
        for k, label in enumerate(self.classes):
            yield from self._mean(name, label, values[:, k])
        for label, own in zip(self.classes, self.have, strict=True):
            yield from self._mean(f"{name}.own", label, values[own, self.classes.index(label)])

    @property
    def have(self) -> list[np.ndarray]:
        """Of each class, who has it, N bool."""
        several = self.target.ndim == 2
        return [(self.target[:, k] > 0) if several else (self.target == k) for k in range(len(self.classes))]

    def _people(self) -> list[int]:
        return [int(own.sum()) for own in self.have]

    def _mean(self, name: str, label: str, values: np.ndarray) -> Iterator[Row]:
        if len(values):
            yield Row(name, self.split, label, float(values.mean()), len(values))


def find(rows: Iterable[Row], split: str, name: str, label: str | None = None) -> float | None:
    """The value of a number, or None where it is not among the rows."""
    return next((row.value for row in rows if (row.name, row.split, row.label) == (name, split, label)), None)


NAME = "audit.json"
VERSION = 1
"""Raised when a name comes to mean another number: what was written before is then computed anew."""


@dataclass(frozen=True)
class Audit:
    """What is known of a cell: facts about cell and audit, and the numbers."""

    facts: dict[str, Any]
    rows: list[Row]


def read(folder: Path) -> Audit | None:
    """The audit that lies in a cell's folder; None where there is none that this version can read."""
    content = records.read_json(folder / NAME)
    if content.get("version") != VERSION:
        return None
    try:
        return Audit({k: v for k, v in content.items() if k != "rows"}, [Row.from_json(one) for one in content["rows"]])
    except (KeyError, TypeError):
        return None


def write(folder: Path, made: Audit) -> None:
    """One row a line, so that two audits can be compared as text."""
    head = json.dumps(made.facts, indent=1, ensure_ascii=False).removesuffix("\n}")
    rows = ",\n".join("  " + json.dumps(row.as_json(), ensure_ascii=False, allow_nan=False) for row in made.rows)
    io.write(folder / NAME, f'{head},\n "rows": [\n{rows}\n ]\n}}\n')
