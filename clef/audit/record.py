"""`audit.json` in a cell's folder: written and read. Imports no torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clef import files, records
from clef.audit.rows import Row

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
    files.write(folder / NAME, f'{head},\n "rows": [\n{rows}\n ]\n}}\n')
