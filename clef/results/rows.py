"""Long form first: one row for each number of a grid, and the plan that says which cells it has. Imports no torch."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clef.cards import LEAK_FREE, Card
from clef.cells.records import checked, write_json
from clef.errors import CellError
from clef.results.audits import Finding
from clef.results.curves import Point
from clef.results.data import CellData
from clef.results.intervals import BASE, Interval

HEADLINES = ("mAP", "accuracy")


@dataclass(frozen=True)
class PlannedRun:
    """A cell of a plan, as `plan.json` lists it."""

    name: str
    dataset: str
    backbone: str
    method: str
    seed: int
    folder: str | None
    """Its folder, beside the plan; None where shards or weights were missing when the grid was planned."""
    reason: str | None = None
    parent: str | None = None
    """The folder of the cell that it starts from."""
    protocol: str = LEAK_FREE
    """How its dataset is cut and counted. Plans of older versions don't say: they knew but the usual one."""
    against: str | None = BASE
    """The method that it is compared with; None: with none."""


@dataclass(frozen=True)
class Row:
    """One number. `part` is `score` (what the method ranks by) or a part of it: factual, Y_e, Y_c; `vad` beside it."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    seed: int
    split: str
    metric: str
    part: str
    class_name: str
    """Empty for a number about all classes; else a class, two of them (confusion), a bin, or one of VAD."""
    value: float
    chance: float | None
    positives: int | None
    """How many of the samples the number is about, where not all."""
    samples: int
    listed: int
    """People whom the source lists for the split: `samples`, and those left out."""
    left_out: int
    samples_seen: int | None
    """In training, every pass counted."""
    signature: str
    commit: str | None
    dirty: bool | None
    content: str
    """A hash of the content hashes of all that the cell read."""
    dtype: str
    ranks: int
    random_init: str

    @property
    def is_headline(self) -> bool:
        """Whether it is a headline metric, of all classes."""
        return not self.class_name and self.metric in HEADLINES


@dataclass(frozen=True)
class Gathered:
    """All numbers of a grid, and the cells that gave none, with the reason."""

    grid: str
    rows: list[Row]
    missing: dict[str, str]
    runs: list[PlannedRun]
    data: dict[str, CellData]
    """What the data of each cell with numbers went through, by the cell's name."""
    intervals: list[Interval] = field(default_factory=list)
    curves: list[Point] = field(default_factory=list)
    audits: list[Finding] = field(default_factory=list)
    cards: dict[tuple[str, str], Card] = field(default_factory=dict)
    """Of each dataset and protocol its card, as it was when the grid was gathered."""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The backbones and methods that are planned, in the plan's order."""
        return list(dict.fromkeys((run.backbone, run.method) for run in self.runs))

    @property
    def backbones(self) -> list[str]:
        """Those that are planned, in the plan's order."""
        return list(dict.fromkeys(run.backbone for run in self.runs))

    @property
    def methods(self) -> list[str]:
        """Likewise."""
        return list(dict.fromkeys(run.method for run in self.runs))


def plan_path(out: Path, grid: str) -> Path:
    """Where the plan of a grid lies."""
    return out / grid / "plan.json"


def write_plan(out: Path, grid: str, runs: list[PlannedRun]) -> Path:
    """Record which cells make up the grid, for the gatherer."""
    path = plan_path(out, grid)
    write_json(path, {"grid": grid, "cells": [asdict(run) for run in runs]})
    return path


def read_plan(path: Path) -> tuple[str, list[PlannedRun]]:
    """The grid that a plan is of, and its cells. CellError when there is no plan."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content["grid"]), checked(list[PlannedRun], content["cells"])
    except FileNotFoundError:
        raise CellError(f"{path}: no plan here; run the grid first (launch/grid.py --grid ...)") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CellError(f"{path}: not a plan ({why}); remove it and run the grid again") from None


def headlines(rows: Iterable[Row]) -> list[Row]:
    """The rows of the headline metric, of all classes together."""
    return [row for row in rows if row.is_headline]
