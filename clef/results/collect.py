"""Reads the cells of a grid from disk: their rows, and the intervals of their headline numbers. Imports no torch.

Every number that predictions give, in long form: a metric of a part of the prediction, for a class or for all.

All are in percent, but the errors of valence, arousal and dominance, which are on their scale from 1 to 10. Imports no
torch.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from clef import metrics
from clef.cells.records import CONFIG, RESULT, read_json, said, state_of
from clef.config import CellConfig, resolve
from clef.console import Progress
from clef.datasets import cards
from clef.errors import CellError, ConfigError
from clef.metrics import CONVENTIONS, accuracy, average_precisions, chance
from clef.results import predictions
from clef.results.data_quality import CellData
from clef.results.frame import Gathered, PlannedRun, Row, findings, headlines, points, read_plan
from clef.results.intervals import Scored, intervals, resample
from clef.results.predictions import Arrays

VAD = ("Valence", "Arousal", "Dominance")


@dataclass(frozen=True)
class Measure:
    """One number. `class_name` is empty for what concerns all classes."""

    metric: str
    part: str
    class_name: str
    value: float
    chance: float | None = None
    """What scores that know nothing reach, where that is known."""
    positives: int | None = None
    """How many samples the number is about, where not all: those of the class, or in the bin."""


def measures(arrays: Arrays, classes: list[str], config: CellConfig | None) -> list[Measure]:
    """All numbers of a split. Without a config it isn't known what is a probability, so there is no calibration."""
    several = arrays["target"].ndim == 2
    made = [
        measure
        for part, scores in parts(arrays).items()
        for measure in (_ranked if several else _decided)(part, scores, arrays["target"], classes)
    ]
    made += [] if several else list(_confusion(arrays["scores"], arrays["target"], classes))
    made += list(_vad(arrays)) if "vad" in arrays else []
    return made + (list(_calibrated(arrays, classes, config)) if config else [])


def parts(arrays: Arrays) -> dict[str, np.ndarray]:
    """What can be scored of a prediction, N,K each: `score` is what the method ranks by."""
    found = {"score": arrays["scores"]} | {name: arrays[name] for name in ("Y_e", "Y_c") if name in arrays}
    return found | ({"factual": arrays["Y_c"] + arrays["Y_e"]} if {"Y_c", "Y_e"} <= arrays.keys() else {})


def _ranked(part: str, scores: np.ndarray, target: np.ndarray, classes: list[str]) -> Iterator[Measure]:
    """mAP and AP, by every convention for the score itself. Classes without a positive have none."""
    positives = target.sum(0).astype(int)
    known = positives > 0
    found = average_precisions(scores, target)
    for convention in CONVENTIONS if part == "score" else CONVENTIONS[:1]:
        values = found[convention]
        yield Measure(f"mAP{convention}", part, "", float(values[known].mean()), chance(target, len(classes)))
        for k in np.flatnonzero(known):
            prevalence = float(100 * positives[k] / len(target))
            yield Measure(f"AP{convention}", part, classes[k], float(values[k]), prevalence, int(positives[k]))


def _decided(part: str, scores: np.ndarray, target: np.ndarray, classes: list[str]) -> Iterator[Measure]:
    """Accuracy, of each class too (its recall), and macro F1: the mean over the classes that have a sample."""
    table = confusion(scores, target)
    positives, known = table.sum(1), np.flatnonzero(table.sum(1))
    yield Measure("accuracy", part, "", accuracy(scores, target), chance(target, len(classes)))
    for k in known:
        value, level = float(100 * table[k, k] / positives[k]), chance(target, len(classes))
        yield Measure("accuracy", part, classes[k], value, level, int(positives[k]))
    f1 = 200 * table.diagonal()[known] / (table.sum(0) + positives)[known]
    yield Measure("macro F1", part, "", float(f1.mean()))
    for k, value in zip(known, f1, strict=True):
        yield Measure("F1", part, classes[k], float(value), None, int(positives[k]))


def confusion(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How often each class (rows) was taken for each (columns), K,K."""
    count = scores.shape[1]
    return np.bincount(target * count + scores.argmax(1), minlength=count * count).reshape(count, count)


def _confusion(scores: np.ndarray, target: np.ndarray, classes: list[str]) -> Iterator[Measure]:
    """Of each class, the share that was taken for each."""
    table = confusion(scores, target)
    for true in np.flatnonzero(table.sum(1)):
        total = int(table[true].sum())
        for said, count in enumerate(table[true].tolist()):
            yield Measure("confusion", "score", f"{classes[true]} > {classes[said]}", 100 * count / total, None, total)


def _vad(arrays: Arrays) -> Iterator[Measure]:
    """The mean absolute error over the values that are known: those whose label is a number."""
    error, known = np.abs(arrays["vad"].astype(float) - arrays["vad_target"]), ~np.isnan(arrays["vad_target"])
    for name, column, mask in zip(("", *VAD), (error, *error.T), (known, *known.T), strict=True):
        if mask.any():
            value, count = float(column[mask].mean()), int(mask.sum())
            yield Measure("VAD error", "vad", name, value, None, count if name else None)


def _calibrated(arrays: Arrays, classes: list[str], config: CellConfig) -> Iterator[Measure]:
    """ECE and its bins: of the class that is decided for (one label), or of every person's every class (several)."""
    found, target = metrics.stated(arrays, config), arrays["target"]
    if found is None:
        return
    part, probability = found
    if target.ndim == 1:
        bins = metrics.bins(probability.max(1), (probability.argmax(1) == target).astype(float))
    else:
        bins = metrics.bins(probability.ravel(), target.ravel())
    yield Measure("ECE", part, "", metrics.error(bins))
    for one in bins:
        where = f"bin {one.number:02}"
        yield Measure("reliability, stated", part, where, 100 * one.stated, None, one.count)
        yield Measure("reliability, observed", part, where, 100 * one.observed, None, one.count)
    for k in np.flatnonzero(target.sum(0)) if target.ndim == 2 else []:
        error = metrics.error(metrics.bins(probability[:, k], target[:, k]))
        yield Measure("ECE", part, classes[k], error, None, int(target[:, k].sum()))


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
