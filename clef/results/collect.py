"""Read the cells of a grid from disk: their numbers in long form, and the intervals of their headline numbers.

Imports no torch.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from clef.cells.audits import read_audit
from clef.cells.plan_file import PlannedRun, read_plan
from clef.cells.predictions import path_of
from clef.cells.records import CONFIG, LOG, RESULT, read_json, read_state, state_of
from clef.config import CellConfig, resolve
from clef.console import Progress
from clef.datasets import cards
from clef.datasets.cards import Card
from clef.errors import CellError, ConfigError, raise_if_system_error
from clef.metrics import METRICS
from clef.results import predictions
from clef.results.data_quality import CellData
from clef.results.frame import AuditNumber, CurvePoint, GridResults, Interval, Row, to_frame
from clef.results.intervals import ScoredSplit, compute_intervals, resample_predictions
from clef.results.predictions import Measure, measures

_TOLERANCE = 1e-6
"""By how much a number may differ from the one that the cell recorded: the last bits of another build of NumPy."""


@dataclass
class _Collected:
    """What has been read so far."""

    rows: list[Row] = field(default_factory=list)
    curves: list[CurvePoint] = field(default_factory=list)
    audits: list[AuditNumber] = field(default_factory=list)
    scored: list[ScoredSplit] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    data: dict[str, CellData] = field(default_factory=dict)
    cards: dict[tuple[str, str], Card] = field(default_factory=dict)
    """By dataset and protocol, as the cells recorded it."""
    configs: dict[bytes, CellConfig | None] = field(default_factory=dict)
    """By their text without the seed."""


def gather(path: Path, progress: Progress = lambda name, done, total: None) -> GridResults:
    """Return every number that the cells of a plan have produced so far. Raises CellError when there is no plan."""
    _, runs = read_plan(path)
    collected = _Collected()
    for done, run in enumerate(runs, 1):
        result = read_json(path.parent / run.folder / RESULT) if run.folder else {}
        try:
            _collect_cell(run, path.parent, result, collected)
        except CellError as error:
            collected.missing[run.name] = str(error)
        except (KeyError, TypeError, AttributeError, ValidationError):
            collected.missing[run.name] = f"its {RESULT} is {_describe_damage(result)}"
        progress("cells read", done, len(runs))
    return GridResults(
        grid=path.absolute().parent.name,  # the plan of a grid that was renamed still holds the old name
        runs=runs,
        rows=to_frame(Row, collected.rows),
        intervals=to_frame(Interval, compute_intervals(collected.scored)),
        curves=to_frame(CurvePoint, collected.curves),
        audits=to_frame(AuditNumber, collected.audits),
        missing=collected.missing,
        data=collected.data,
        cards={
            key: collected.cards.get(key) or cards.load(path, key[1])  # without a trained cell: as it is today
            for key, path in {(run.dataset, run.protocol): run.card or run.dataset for run in runs}.items()
        },
    )


def _collect_cell(run: PlannedRun, grid: Path, result: dict[str, Any], collected: _Collected) -> None:
    """Add a cell's curve, and its numbers: all of them or none."""
    if run.folder is None:
        collected.missing[run.name] = run.reason or "not planned"
        return
    folder = grid / run.folder
    collected.curves.extend(curve_points(folder, *_key(run)))
    if not result:
        collected.missing[run.name] = _reason(run, grid)
        return
    data = CellData.model_validate(result["data"])
    config = _config(folder, collected.configs)
    if config:
        card = collected.cards.setdefault((run.dataset, data.protocol), config.card)
        if differences := config.card.differences(card):
            raise CellError(f"trained on another card than other cells of the grid ({differences}); run the grid again")
    content = _content_hash(result)
    rows: list[Row] = []
    scored: list[ScoredSplit] = []
    for split, recorded in result["splits"].items():
        if recorded["value"] is None:  # undefined there
            continue
        numbers, resampled = _read_split(folder, split, recorded, data, result["metric"], config)
        defined = (number for number in numbers if not math.isnan(number.value))
        rows += [_row(run, result, data, split, recorded["samples"], content, number) for number in defined]
        headline = numbers[0]
        scored.append(ScoredSplit(run, data.protocol, split, headline.value, *resampled))
    collected.rows.extend(rows)
    collected.audits.extend(_audit_numbers(folder, result, run))
    collected.data[run.name] = data
    collected.scored.extend(scored)


def _read_split(
    folder: Path, split: str, recorded: dict[str, Any], data: CellData, metric: str, config: CellConfig | None
) -> tuple[list[Measure], tuple[np.ndarray | None, bytes]]:
    """Return the numbers of a split, the headline first, and what it was in resamples of the images.

    They come from the predictions; where there are none, the few that the result holds, without resamples.
    """
    path = path_of(folder, split)
    if not path.exists():
        return list(_recorded_measures(metric, recorded)), (None, b"")
    if config is None:
        raise CellError(f"{CONFIG} is gone, damaged or of an earlier version: the classes of {path.name} aren't known")
    classes = config.card.classes
    arrays = predictions.load(folder, split, data.splits[split].samples, len(classes))
    numbers = measures(arrays, list(classes), config, metric)
    _check_headline(numbers[0], recorded["value"], path.name)
    return numbers, resample_predictions(arrays, metric)


def _config(folder: Path, known: dict[bytes, CellConfig | None]) -> CellConfig | None:
    """Return the cell's config; None where it can't be read, as that of an older version.

    Cells that differ in their seed alone share the one of the first, in `known`: no number needs the seed, and reading
    thousands of configs takes long.
    """
    path = folder / CONFIG
    try:
        content = re.sub(rb"^seed: \d+$", b"", path.read_bytes(), flags=re.MULTILINE)
    except OSError as error:
        raise_if_system_error(error, path)
        return None
    if content not in known:
        try:
            known[content] = resolve.from_yaml(path)
        except ConfigError:
            known[content] = None
    return known[content]


def _check_headline(number: Measure, recorded: float, name: str) -> None:
    if not abs(number.value - recorded) <= _TOLERANCE:  # written so that NaN is refused, too
        raise CellError(
            f"{name} gives {number.metric} {number.value:.4f}, {RESULT} says {recorded:.4f}: one of them was changed; "
            "restore it from a copy, or move the cell's folder elsewhere and run the grid again"
        )


def _recorded_measures(metric: str, recorded: dict[str, Any]) -> Iterator[Measure]:
    """Yield the numbers that a result itself holds of a split: the headline, its parts and its classes."""
    for part, value in {"score": recorded["value"], **recorded["variants"]}.items():
        if value is not None:
            yield Measure(metric, part, "", _finite(value), recorded["chance"])
    for name, value in recorded["per_class"].items():
        yield Measure(METRICS[metric].class_metric, "score", name, _finite(value))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise CellError(
            f"{RESULT} holds a number that is not finite; move the cell's folder elsewhere and run the grid again"
        )
    return value


def _content_hash(result: dict[str, Any]) -> str:
    """Return `Row.content` of a cell."""
    content = json.dumps(result["environment"].get("content", {}), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _row(
    run: PlannedRun, result: dict[str, Any], data: CellData, split: str, samples: int, content: str, number: Measure
) -> Row:
    environment = result["environment"]
    return Row(
        dataset=run.dataset,
        protocol=data.protocol,
        backbone=run.backbone,
        method=run.method,
        seed=run.seed,
        split=split,
        metric=number.metric,
        part=number.part,
        class_name=number.class_name,
        value=number.value,
        chance=number.chance,
        positives=number.positives,
        samples=samples,
        listed=data.splits[split].listed,
        left_out=sum(data.splits[split].left_out.values()),
        samples_seen=result.get("run", {}).get("samples_seen"),
        signature=result["signature"],
        commit=environment["code"]["commit"],
        dirty=environment["code"]["dirty"],
        content=content,
        dtype=environment["dtype"],
        ranks=environment["ranks"],
        random_init=" ".join(result["random_init"]),
    )


def _key(run: PlannedRun) -> tuple[str, str, str, str, int]:
    """Return the first columns of curves and audits."""
    return run.dataset, run.protocol, run.backbone, run.method, run.seed


def curve_points(
    folder: Path, dataset: str, protocol: str, backbone: str, method: str, seed: int
) -> Iterator[CurvePoint]:
    """Yield the validations in a cell's log so far. A line that was cut off, as by a full disk, is skipped."""
    try:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    key, signature = (dataset, protocol, backbone, method, seed), folder.name.rpartition("-")[2]
    for line in lines:
        if '"val"' not in line:  # a line of a step, as nearly all are: not worth parsing
            continue
        try:
            record = json.loads(line)
            if "val" in record:
                point = float(record["epoch"]), int(record["step"]), float(record["val"])
                yield CurvePoint(*key, *point, signature)
        except (ValueError, TypeError, KeyError):
            continue


def _audit_numbers(folder: Path, result: dict[str, Any], run: PlannedRun) -> Iterator[AuditNumber]:
    """Yield the numbers of a cell's audit, if it is of the weights that the result was scored with."""
    audit, weights = read_audit(folder), result.get("run", {}).get("checkpoint", {}).get("sha256")
    if audit is None or weights is None or audit.facts.get("weights") != weights:
        return
    facts = audit.facts
    origin = result["signature"], facts["draws"], facts["draws_seed"], facts["code"]["commit"]
    for row in audit.rows:
        yield AuditNumber(*_key(run), row.split, row.name, row.label or "", row.value, row.samples, *origin)


def _describe_damage(result: dict[str, Any]) -> str:
    """Return what a result is that gives no numbers, and what to do."""
    if {"splits", "signature", "environment"} <= set(result) and "data" not in result:
        return (
            "of an older version, which didn't record what was done to the data; gather it with that one, or train the "
            "cell in another folder (--out)"
        )
    return "not that of a cell; move it elsewhere and run the grid again"


def _reason(run: PlannedRun, grid: Path) -> str:
    """Return why a cell with a folder has no result."""
    folder = grid / str(run.folder)
    state, kind = read_state(folder), state_of(folder)
    if kind == "done":
        return f"its {RESULT} is damaged; move it elsewhere and run the grid again"
    if kind == "new":
        failed = run.parent and state_of(grid / run.parent) in ("failed", "died", "cancelled")
        return "not run: the cell that it starts from has failed" if failed else "not run yet"
    reason = state.reason if kind in ("failed", "died") else None
    position = f" at step {state.step}/{state.steps}" if state.step and state.steps else ""
    return f"{kind}{position}" + (f": {reason}" if reason else "")
