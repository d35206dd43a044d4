"""`audit.json` in a cell's folder: the numbers that `python -m clef.audit` found, written and read.

`clef.audit` computes and writes them, `clef.results` gathers them. Imports no torch.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clef import io
from clef.cells import records

NAME = "audit.json"
VERSION = 1
"""Raise it when a name comes to mean another number: audits of an older version are then computed again."""


@dataclass(frozen=True)
class AuditRow:
    """One number of an audit. docs/audit.md lists the names."""

    name: str
    split: str
    label: str | None
    """The class that the number is about; None for a number about all classes."""
    value: float
    samples: int
    """How many people the number rests on."""

    def as_json(self) -> dict[str, Any]:
        """Return the row as the file has it, where `label` is called class."""
        content = asdict(self)
        return {"class" if key == "label" else key: value for key, value in content.items()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "AuditRow":
        """Return the row that `as_json` gave. Raises KeyError for content without one of its keys."""
        return cls(content["name"], content["split"], content["class"], content["value"], content["samples"])


@dataclass(frozen=True)
class Audit:
    """The audit of one cell: facts about the cell and about how it was audited, and the numbers."""

    facts: dict[str, Any]
    rows: list[AuditRow]


def read_audit(folder: Path) -> Audit | None:
    """Return the audit in a cell's folder; None where there is none that this version can read."""
    content = records.read_json(folder / NAME)
    if content.get("version") != VERSION:
        return None
    try:
        rows = [AuditRow.from_json(row) for row in content["rows"]]
    except (KeyError, TypeError):
        return None
    return Audit({key: value for key, value in content.items() if key != "rows"}, rows)


def write_audit(folder: Path, audit: Audit) -> None:
    """Write the audit into a cell's folder, one row a line, so that two audits can be compared as text."""
    head = io.to_json(audit.facts).removesuffix("\n}")
    rows = ",\n".join("  " + io.to_json(row.as_json(), indent=None) for row in audit.rows)
    io.write(folder / NAME, f'{head},\n "rows": [\n{rows}\n ]\n}}\n')


def find_value(rows: Iterable[AuditRow], split: str, name: str, label: str | None = None) -> float | None:
    """Return the value of a number, or None where the rows do not have it."""
    return next((row.value for row in rows if (row.name, row.split, row.label) == (name, split, label)), None)
