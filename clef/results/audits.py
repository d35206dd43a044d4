"""What `python -m clef.audit` has found of the cells of a grid (docs/audit.md), in long form. Imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clef.audit import record


@dataclass(frozen=True)
class Finding:
    """One number of a cell's `audit.json`."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    seed: int
    split: str
    name: str
    class_name: str
    """Empty for a number about all classes."""
    value: float
    samples: int


def findings(folder: Path, dataset: str, protocol: str, backbone: str, method: str, seed: int) -> Iterator[Finding]:
    """All numbers of the audit in a cell's folder; none where there is no audit."""
    audit = record.read(folder)
    for row in audit.rows if audit else ():
        cell = dataset, protocol, backbone, method, seed
        yield Finding(*cell, row.split, row.name, row.label or "", row.value, row.samples)
