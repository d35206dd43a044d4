"""The validation metric of each cell over its epochs, as its log has it. Imports no torch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clef.cells.records import LOG


@dataclass(frozen=True)
class Point:
    """The metric on val after an epoch, in percent."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    seed: int
    epoch: float
    step: int
    value: float
    signature: str = ""
    """Of the cell."""


def points(folder: Path, dataset: str, protocol: str, backbone: str, method: str, seed: int) -> Iterator[Point]:
    """What the log of a cell says so far. A line that was cut short, as by a full disk, is passed over."""
    try:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    cell, signature = (dataset, protocol, backbone, method, seed), folder.name.rpartition("-")[2]
    for line in lines:
        try:
            record = json.loads(line)
            if "val" in record:
                at = float(record["epoch"]), int(record["step"]), float(record["val"])
                yield Point(*cell, *at, signature)
        except (ValueError, TypeError, KeyError):
            continue
