"""What `python -m clef.audit` has found of the cells of a grid (docs/audit.md), in long form. Imports no torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clef.audit import records


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
    signature: str
    draws: int
    """How often contexts were swapped, and, below, the seed of those draws."""
    draws_seed: int
    commit: str | None
    """The code that audited."""


def findings(
    folder: Path, result: dict[str, Any], dataset: str, protocol: str, backbone: str, method: str, seed: int
) -> Iterator[Finding]:
    """All numbers of the audit in a cell's folder; none without an audit of the weights that its result is of."""
    audit, weights = records.read(folder), result.get("run", {}).get("checkpoint", {}).get("sha256")
    if audit is None or weights is None or audit.facts.get("weights") != weights:
        return
    facts, cell = audit.facts, (dataset, protocol, backbone, method, seed)
    how = result["signature"], facts["draws"], facts["draws_seed"], facts["code"]["commit"]
    for row in audit.rows:
        yield Finding(*cell, row.split, row.name, row.label or "", row.value, row.samples, *how)


def differences(found: Iterable[Finding]) -> list[str]:
    """In what the audits of one table differ, though their numbers stand side by side; nothing where in nothing."""
    drawn = sorted({(one.draws, one.draws_seed) for one in found})
    if len(drawn) < 2:
        return []
    return [f"audits differ in their draws: {' or '.join(f'{draws} of seed {seed}' for draws, seed in drawn)}"]
