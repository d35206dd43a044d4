"""Long form first: one row for each number of a grid, read from its cells' folders. Imports no torch."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clef.cards import LEAK_FREE
from clef.errors import CellError
from clef.records import RESULT, STATE, read_json, state_of, write_json
from clef.results.data import CellData


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


@dataclass(frozen=True)
class Row:
    """One number. `part` is `score` (what the method ranks by) or a part of it: factual, Y_e, Y_c."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    seed: int
    split: str
    metric: str
    part: str
    value: float
    chance: float
    samples: int
    listed: int
    """People whom the source lists for the split: `samples`, and those left out."""
    left_out: int
    signature: str
    commit: str | None
    dirty: bool | None
    dtype: str
    ranks: int
    random_init: str


@dataclass(frozen=True)
class Gathered:
    """All numbers of a grid, and the cells that gave none, with the reason."""

    grid: str
    rows: list[Row]
    missing: dict[str, str]
    runs: list[PlannedRun]
    data: dict[str, CellData]
    """What the data of each cell with numbers went through, by the cell's name."""


def plan_path(out: Path, grid: str) -> Path:
    """Where the plan of a grid lies."""
    return out / grid / "plan.json"


def write_plan(out: Path, grid: str, runs: list[PlannedRun]) -> Path:
    """Record which cells make up the grid, for the gatherer."""
    path = plan_path(out, grid)
    write_json(path, {"grid": grid, "cells": [asdict(run) for run in runs]})
    return path


def read_plan(path: Path) -> tuple[str, list[PlannedRun]]:
    """The grid's name and its cells. CellError when there is no plan."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["grid"], [PlannedRun(**cell) for cell in content["cells"]]
    except FileNotFoundError:
        raise CellError(f"{path}: no plan here; run the grid first (launch/grid.py --grid ...)") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CellError(f"{path}: not a plan ({why}); remove it and run the grid again") from None


def gather(path: Path) -> Gathered:
    """Every number that the cells of a plan have produced so far. CellError when there is no plan."""
    grid, runs = read_plan(path)
    rows: list[Row] = []
    missing: dict[str, str] = {}
    data: dict[str, CellData] = {}
    for run in runs:
        result = read_json(path.parent / run.folder / RESULT) if run.folder else {}
        if not result:
            missing[run.name] = _reason(run, path.parent)
            continue
        try:
            facts = CellData.model_validate(result["data"])
            rows += _rows(run, result, facts)
            data[run.name] = facts
        except (KeyError, TypeError, AttributeError, ValidationError):
            missing[run.name] = f"its {RESULT} is {_strange(result)}; remove {run.folder} and run the grid again"
    return Gathered(grid, rows, missing, runs, data)


def to_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV text, a column a field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def _rows(run: PlannedRun, result: dict[str, Any], data: CellData) -> list[Row]:
    environment = result["environment"]
    return [
        Row(
            run.dataset, data.protocol, run.backbone, run.method, run.seed, split, result["metric"], part, value,
            values["chance"], values["samples"], data.splits[split].listed, sum(data.splits[split].left_out.values()),
            result["signature"], environment["code"]["commit"],
            environment["code"]["dirty"], environment["dtype"], environment["ranks"],
            " ".join(result["random_init"]),
        )
        for split, values in result["splits"].items()
        for part, value in {"score": values["value"], **values["variants"]}.items()
    ]  # fmt: skip


def _strange(result: dict[str, Any]) -> str:
    """What a result is that gives no numbers."""
    older = {"splits", "signature", "environment"} <= set(result) and "data" not in result
    return "of an older version, which didn't say what was done to the data" if older else "not that of a cell"


def _reason(run: PlannedRun, grid: Path) -> str:
    if run.folder is None:
        return run.reason or "not planned"
    folder = grid / run.folder
    state, kind = read_json(folder / STATE), state_of(folder)
    if kind == "new":
        failed = run.parent and state_of(grid / run.parent) in ("failed", "died", "cancelled")
        return "not run: the cell that it starts from has failed" if failed else "not run yet"
    reason = state.get("reason") if kind in ("failed", "died") else None
    place = f" at step {state['step']}/{state['steps']}" if state.get("step") else ""
    return f"{kind}{place}" + (f": {reason}" if reason else "")
