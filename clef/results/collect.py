"""Reads the cells of a grid from disk: their rows, and the intervals of their headline numbers. Imports no torch."""

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clef import cards
from clef.cells.records import CONFIG, RESULT, read_json, said, state_of
from clef.config import CellConfig, resolve
from clef.console import Progress
from clef.errors import CellError, ConfigError
from clef.results import predictions
from clef.results.audits import findings
from clef.results.curves import points
from clef.results.data import CellData
from clef.results.intervals import Scored, intervals, resample
from clef.results.measures import Measure, measures
from clef.results.rows import Gathered, PlannedRun, Row, headlines, read_plan

_SAME = 1e-6
"""By how much a number may differ from the one that was recorded where it was computed: another build's last bits."""


def gather(path: Path, progress: Progress = lambda name, done, total: None) -> Gathered:
    """Every number that the cells of a plan have produced so far. CellError when there is no plan."""
    _, runs = read_plan(path)
    grid = path.absolute().parent.name  # not the plan's word: a grid that was moved aside still says its old name
    known = {which: cards.load(*which) for which in dict.fromkeys((run.dataset, run.protocol) for run in runs)}
    gathered = Gathered(grid, [], {}, runs, {}, cards=known)
    scored: list[Scored] = []
    for done, run in enumerate(runs, 1):
        folder = path.parent / run.folder if run.folder else None
        result = read_json(folder / RESULT) if folder else {}
        if folder:
            gathered.curves.extend(points(folder, *_which(run)))
        try:
            _add(run, path.parent, result, gathered, scored)
        except CellError as error:
            gathered.missing[run.name] = str(error)
        except (KeyError, TypeError, AttributeError, ValidationError):
            gathered.missing[run.name] = (
                f"its {RESULT} is {_strange(result)}; remove {run.folder} and run the grid again"
            )
        progress("cells read", done, len(runs))
    gathered.intervals.extend(intervals(scored))
    return gathered


def _add(run: PlannedRun, grid: Path, result: dict[str, Any], gathered: Gathered, scored: list[Scored]) -> None:
    """Add what a cell has, all of it or nothing."""
    if not result or run.folder is None:
        gathered.missing[run.name] = _reason(run, grid)
        return
    data, folder = CellData.model_validate(result["data"]), grid / run.folder
    rows: list[Row] = []
    found: list[Scored] = []
    classes = list(cards.load(run.dataset, data.protocol).classes)
    for split, recorded in result["splits"].items():
        kept = predictions.path_of(folder, split)
        if kept.exists():
            arrays = predictions.load(kept, data.splits[split].samples, len(classes))
            numbers = measures(arrays, classes, _config(folder))
            _check(numbers[0], recorded["value"], kept.name)
            again = resample(arrays)
        else:
            numbers, again = list(_recorded(result["metric"], recorded)), (None, b"")
        made = [_row(run, result, data, split, recorded, number) for number in numbers]
        rows += made
        found += [
            Scored(
                run.dataset, data.protocol, run.backbone, run.method, run.seed, split, row.value, *again, run.against
            )
            for row in headlines(made)
            if row.part == "score"
        ]
    gathered.rows.extend(rows)
    gathered.audits.extend(findings(folder, result, *_which(run)))
    gathered.data[run.name] = data
    scored.extend(found)


def _which(run: PlannedRun) -> tuple[str, str, str, str, int]:
    """What points of curves and findings of audits begin with."""
    return run.dataset, run.protocol, run.backbone, run.method, run.seed


def _config(folder: Path) -> CellConfig | None:
    """The cell's config; None where it can't be read any more, being of an older version."""
    try:
        return resolve.from_yaml(folder / CONFIG)
    except ConfigError:
        return None


def _check(found: Measure, recorded: float, name: str) -> None:
    if not abs(found.value - recorded) <= _SAME:  # NaN is never so near
        raise CellError(
            f"{name} gives {found.metric} {found.value:.4f}, {RESULT} says {recorded:.4f}: one of them was changed; "
            "remove the cell's folder and run the grid again"
        )


def _recorded(metric: str, values: dict[str, Any]) -> Iterator[Measure]:
    """What a result says by itself, where the predictions are gone: no more than the headline and its parts."""
    for part, value in {"score": values["value"], **values["variants"]}.items():
        yield Measure(metric, part, "", _finite(value), values["chance"])
    for name, value in values["per_class"].items():
        yield Measure("AP" if metric == "mAP" else metric, "score", name, _finite(value))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise CellError(f"{RESULT} holds a number that is not finite; remove the cell's folder and run the grid again")
    return value


def _row(
    run: PlannedRun, result: dict[str, Any], data: CellData, split: str, values: dict[str, Any], number: Measure
) -> Row:
    environment = result["environment"]
    content = json.dumps(environment.get("content", {}), sort_keys=True)
    return Row(
        run.dataset, data.protocol, run.backbone, run.method, run.seed, split, number.metric, number.part,
        number.class_name, number.value, number.chance, number.positives, values["samples"],
        data.splits[split].listed, sum(data.splits[split].left_out.values()),
        result.get("run", {}).get("samples_seen"), result["signature"], environment["code"]["commit"],
        environment["code"]["dirty"], hashlib.sha256(content.encode()).hexdigest()[:16], environment["dtype"],
        environment["ranks"], " ".join(result["random_init"]),
    )  # fmt: skip


def _strange(result: dict[str, Any]) -> str:
    """What a result is that gives no numbers."""
    older = {"splits", "signature", "environment"} <= set(result) and "data" not in result
    return "of an older version, which didn't say what was done to the data" if older else "not that of a cell"


def _reason(run: PlannedRun, grid: Path) -> str:
    if run.folder is None:
        return run.reason or "not planned"
    folder = grid / run.folder
    state, kind = said(folder), state_of(folder)
    if kind == "done":
        return f"its {RESULT} is damaged; remove it and run the grid again"
    if kind == "new":
        failed = run.parent and state_of(grid / run.parent) in ("failed", "died", "cancelled")
        return "not run: the cell that it starts from has failed" if failed else "not run yet"
    reason = state.reason if kind in ("failed", "died") else None
    place = f" at step {state.step}/{state.steps}" if state.step and state.steps else ""
    return f"{kind}{place}" + (f": {reason}" if reason else "")
