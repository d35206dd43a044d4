"""A cell's predictions on disk, and every number that they give, in long form. Imports no torch.

Numbers are in percent, except the errors of valence, arousal and dominance (VAD), which are on their scale of 1 to 10.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clef import metrics
from clef.cells.predictions import Arrays, path_of, read
from clef.config import CellConfig
from clef.errors import CellError, ConfigError, raise_if_system_error
from clef.metrics import METRICS, Metric, check_coverage, confusion_matrix
from clef.yaml_config import unknown

VAD = ("Valence", "Arousal", "Dominance")
_PARTS = ("Y_e", "Y_c", "Y_e*", "factual")


def load(folder: Path, split: str, samples: int, classes: int) -> Arrays:
    """Return a cell's predictions for a split, one for each of `samples`. Raises CellError for anything else there."""
    path = path_of(folder, split)
    try:
        arrays = read(path, split)
        check_coverage(arrays["index"], samples)
        _check_shapes(arrays, samples, classes)
    except CellError as error:
        raise CellError(f"{path.name}: {error}") from None
    except Exception as error:  # a damaged archive fails in ways that neither NumPy nor zipfile lists
        raise_if_system_error(error, path)
        raise CellError(f"{path.name}: not predictions of a cell ({type(error).__name__}: {error})") from None
    if not all(np.isfinite(arrays[name]).all() for name in ("scores", *_PARTS, "vad") if name in arrays):
        raise CellError(f"{path.name}: some predictions are not finite: no metric is computed from them")
    return arrays


def _check_shapes(arrays: Arrays, samples: int, classes: int) -> None:
    expected: dict[str, tuple[tuple[int, ...], ...]] = {
        "scores": ((samples, classes),),
        "target": ((samples,), (samples, classes)),
        **{name: ((samples, classes),) for name in _PARTS if name in arrays},
        **{name: ((samples, 3),) for name in ("vad", "vad_target") if name in arrays},
        **({"group": ((samples,),)} if "group" in arrays else {}),
    }
    for name, shapes in expected.items():
        if arrays[name].shape not in shapes:
            raise CellError(f"{name} is {arrays[name].shape}, where {' or '.join(map(str, shapes))} is expected")
    if arrays["target"].ndim == 1:
        _check_integers("target", arrays["target"], classes)
    elif others := _other_than_0_and_1(arrays["target"]):
        raise CellError(f"target holds {others}, where 0 or 1 is expected")
    metrics.check_labels(arrays["target"])
    if "group" in arrays:
        _check_integers("group", arrays["group"], samples)


def _check_integers(name: str, values: np.ndarray, count: int) -> None:
    if values.dtype.kind != "i" or (values < 0).any() or (values >= count).any():
        raise CellError(f"{name} holds other than whole numbers from 0 to {count - 1}")


def _other_than_0_and_1(target: np.ndarray) -> str:
    """Return the first few other values of a target, as text."""
    others = np.unique(target[(target != 0) & (target != 1)])
    return ", ".join(f"{value:g}" for value in others[:3]) + (", ..." if len(others) > 3 else "")


@dataclass(frozen=True)
class Measure:
    """One number of a split: a metric of a part of the prediction, for one class or (`class_name` empty) for all."""

    metric: str
    part: str
    class_name: str
    value: float
    chance: float | None = None
    """What scores that know nothing reach, where that is known."""
    positives: int | None = None
    """How many samples the number is about, where not all: those of the class, or in the bin."""


def measures(
    arrays: Arrays, classes: list[str], config: CellConfig | None, headline: str | None = None
) -> list[Measure]:
    """Return all numbers of a split. The first is the metric called `headline` (None: the usual one of the task).

    Without a config it isn't known which outputs are probabilities, so there is no calibration.
    """
    target = arrays["target"]
    first = metrics.find_metric(target, headline)
    others = [metric for metric in METRICS.values() if metric.task == first.task and metric != first]
    numbers: list[Measure] = []
    for part, scores in metrics.prediction_parts(arrays).items():
        shown = [metric for metric in (first, *others) if part == "score" or metric.of_parts]
        for i, metric in enumerate(shown):
            of_classes = metric.class_metric not in {earlier.class_metric for earlier in shown[:i]}
            numbers += _measures_of(metric, part, scores, target, classes, of_classes)
    numbers += list(_confusion(arrays["scores"], target, classes)) if target.ndim == 1 else []
    numbers += list(_vad_errors(arrays)) if "vad" in arrays else []
    return numbers + (list(_calibration(arrays, classes, config)) if config else [])


def _measures_of(
    metric: Metric, part: str, scores: np.ndarray, target: np.ndarray, classes: list[str], of_classes: bool
) -> Iterator[Measure]:
    """Yield a metric of a part of the prediction: of all classes, then, if `of_classes`, of each that has one."""
    count = len(classes)
    overall_level = metric.chance(target, count) if metric.chance else None
    yield Measure(metric.name, part, "", metric.overall(scores, target), overall_level)
    if not of_classes:  # another metric with the same `class_metric` has given them
        return
    positives = target.sum(0).astype(int) if target.ndim == 2 else np.bincount(target, minlength=count)
    values = metric.by_class(scores, target)
    levels = metric.chance_by_class(target, count) if metric.chance_by_class else None
    for k in np.flatnonzero(~np.isnan(values)):
        level = None if levels is None else float(levels[k])
        yield Measure(metric.class_metric, part, classes[k], float(values[k]), level, int(positives[k]))


def _confusion(scores: np.ndarray, target: np.ndarray, classes: list[str]) -> Iterator[Measure]:
    """Yield the share of each class that was predicted as each class."""
    matrix = confusion_matrix(scores, target)
    for true in np.flatnonzero(matrix.sum(1)):
        total = int(matrix[true].sum())
        for predicted, count in enumerate(matrix[true].tolist()):
            name = f"{classes[true]} > {classes[predicted]}"
            yield Measure("confusion", "score", name, 100 * count / total, None, total)


def _vad_errors(arrays: Arrays) -> Iterator[Measure]:
    """Yield the mean absolute error of VAD, and of each of the three, over the labels that are numbers."""
    error, labeled = np.abs(arrays["vad"].astype(float) - arrays["vad_target"]), ~np.isnan(arrays["vad_target"])
    for name, column, mask in zip(("", *VAD), (error, *error.T), (labeled, *labeled.T), strict=True):
        if mask.any():
            value, count = float(column[mask].mean()), int(mask.sum())
            yield Measure("VAD error", "vad", name, value, None, count if name else None)


def _calibration(arrays: Arrays, classes: list[str], config: CellConfig) -> Iterator[Measure]:
    """Yield ECE and its bins: of the predicted class (one label), or of every class of every person (several)."""
    stated, target = metrics.stated_probabilities(arrays, config), arrays["target"]
    if stated is None:
        return
    part, probability = stated
    if target.ndim == 1:
        bins = metrics.calibration_bins(probability.max(1), (probability.argmax(1) == target).astype(float))
    else:
        bins = metrics.calibration_bins(probability.ravel(), target.ravel())
    yield Measure("ECE", part, "", metrics.calibration_error(bins))
    for entry in bins:
        name = f"bin {entry.number:02}"
        yield Measure("reliability, stated", part, name, 100 * entry.stated, None, entry.count)
        yield Measure("reliability, observed", part, name, 100 * entry.observed, None, entry.count)
    for k in np.flatnonzero(target.sum(0)) if target.ndim == 2 else []:
        error = metrics.calibration_error(metrics.calibration_bins(probability[:, k], target[:, k]))
        yield Measure("ECE", part, classes[k], error, None, int(target[:, k].sum()))


# ---- Scores of a user's own ----


def check_own(scores: Any, target: Any, classes: Sequence[str] | None, metric: str | None) -> tuple[Arrays, list[str]]:
    """Return scores and target from anywhere (`clef.results.measures`) as arrays, and the K names of the classes.

    Raises ConfigError that says what was expected and what came.
    """
    if hasattr(scores, "columns") and hasattr(target, "columns"):  # data frames
        if list(scores.columns) != list(target.columns) or not scores.index.equals(target.index):
            raise ConfigError("scores and target: frames of the same columns and index, in one order, are expected")
        classes = scores.columns if classes is None else classes
    scores, target = _numbers("scores", scores), _numbers("target", target)
    _check_own_shapes(scores, target)
    names = [str(name) for name in (range(scores.shape[1]) if classes is None else classes)]
    if len(set(names)) != len(names) or len(names) != scores.shape[1]:
        raise ConfigError(f"classes: different names are expected, one for each of {scores.shape[1]}, not {names}")
    task = "multi_label" if target.ndim == 2 else "single_label"
    valid = [known.name for known in METRICS.values() if known.task == task]
    if metric is not None and metric not in valid:
        raise ConfigError(unknown(f"metric {metric!r} of a target of {_shape(target)}", metric, valid))
    check = _check_binary if target.ndim == 2 else _check_indices
    check(scores, target)
    metrics.check_labels(target)
    scores = scores if scores.dtype.kind == "f" else scores.astype(float)  # a negated uint8 or bool is none
    return {"scores": scores, "target": target.astype(float if target.ndim == 2 else np.int64)}, names


def _check_own_shapes(scores: np.ndarray, target: np.ndarray) -> None:
    """Raise ConfigError unless scores are N,K finite numbers, and the target is N,K or N."""
    if scores.ndim != 2:
        raise ConfigError(
            f"scores: N,K is expected, a row for each person and a column for each class, not {_shape(scores)}"
        )
    if not np.isfinite(scores).all():
        raise ConfigError(f"scores: {(~np.isfinite(scores)).sum()} of {scores.size} are not finite")
    if target.shape not in (scores.shape, scores.shape[:1]):
        rows, columns = scores.shape
        raise ConfigError(
            f"target: {rows},{columns} (0 or 1 for each class) or {rows} (the index of the one class) is expected for "
            f"scores of {_shape(scores)}, not {_shape(target)}"
        )


def _numbers(name: str, values: Any) -> np.ndarray:
    """Return an array of numbers, from an array, a list, a data frame or a tensor on any device."""
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
            values = values.float() if values.is_floating_point() and values.itemsize < 4 else values  # bfloat16, ...
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{name}: an array of numbers is expected: {error}") from None
    if array.dtype.kind not in "biuf":
        raise ConfigError(f"{name}: an array of numbers is expected, not of {array.dtype} ({array.ravel()[:2]})")
    return array


def _shape(array: np.ndarray) -> str:
    return ",".join(map(str, array.shape)) or "one number"


def _check_binary(scores: np.ndarray, target: np.ndarray) -> None:
    if others := _other_than_0_and_1(target):
        swapped = "" if _other_than_0_and_1(scores) else "; scores are 0 and 1: were the two exchanged?"
        raise ConfigError(f"target: 0 or 1 is expected for each class, not {others}{swapped}")


def _check_indices(scores: np.ndarray, target: np.ndarray) -> None:
    classes = scores.shape[1]
    if outside := sorted({float(value) for value in target} - set(map(float, range(classes)))):
        shown = ", ".join(f"{value:g}" for value in outside[:3])
        from_one = "; do they count from 1?" if outside == [classes] and target.min() >= 1 else ""
        raise ConfigError(f"target: indices of classes, 0 to {classes - 1}, are expected, not {shown}{from_one}")
