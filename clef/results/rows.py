"""Long form first: one row for each number of a grid, read from its cells' folders. Imports no torch."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from clef.errors import CellError
from clef.records import RESULT, STATE, read_json, state_of, write_json


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


@dataclass(frozen=True)
class Row:
    """One number. `part` is `score` (what the method ranks by) or a part of it: factual, Y_e, Y_c."""

    dataset: str
    backbone: str
    method: str
    seed: int
    split: str
    metric: str
    part: str
    value: float
    chance: float
    samples: int
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


def plan_path(out: Path, grid: str) -> Path:
    """Where the plan of a grid lies."""
    return out / grid / "plan.json"


def write_plan(out: Path, grid: str, runs: list[PlannedRun]) -> Path:
    """Record which cells make up the grid, for the gatherer."""
    path = plan_path(out, grid)
    write_json(path, {"grid": grid, "cells": [asdict(run) for run in runs]})
    return path


def gather(path: Path) -> Gathered:
    """Every number that the cells of a plan have produced so far. CellError when there is no plan."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        grid, runs = content["grid"], [PlannedRun(**cell) for cell in content["cells"]]
    except FileNotFoundError:
        raise CellError(f"{path}: no plan here; run the grid first (launch/grid.py --grid ...)") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CellError(f"{path}: not a plan ({why}); remove it and run the grid again") from None
    rows: list[Row] = []
    missing: dict[str, str] = {}
    for run in runs:
        result = read_json(path.parent / run.folder / RESULT) if run.folder else {}
        if not result:
            missing[run.name] = _reason(run, path.parent)
            continue
        try:
            rows += _rows(run, result)
        except (KeyError, TypeError, AttributeError):
            missing[run.name] = f"its {RESULT} is not that of a cell; remove {run.folder} and run the grid again"
    return Gathered(grid, rows, missing, runs)


def to_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV text, a column a field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def _rows(run: PlannedRun, result: dict[str, Any]) -> list[Row]:
    environment = result["environment"]
    return [
        Row(
            run.dataset, run.backbone, run.method, run.seed, split, result["metric"], part, value,
            values["chance"], values["samples"], result["signature"], environment["code"]["commit"],
            environment["code"]["dirty"], environment["dtype"], environment["ranks"],
            " ".join(result["random_init"]),
        )
        for split, values in result["splits"].items()
        for part, value in {"score": values["value"], **values["variants"]}.items()
    ]  # fmt: skip


def _reason(run: PlannedRun, grid: Path) -> str:
    if run.folder is None:
        return run.reason or "not planned"
    folder = grid / run.folder
    state, kind = read_json(folder / STATE), state_of(folder)
    if kind == "new":
        failed = run.parent and state_of(grid / run.parent) in ("failed", "died")
        return "not run: the cell that it starts from has failed" if failed else "not run yet"
    reason = state.get("reason") if kind == "failed" else None
    place = f" at step {state['step']}/{state['steps']}" if state.get("step") else ""
    return f"{kind}{place}" + (f": {reason}" if reason else "")
