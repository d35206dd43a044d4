"""A cell's predictions on disk, and every number that they give, in long form. Imports no torch.

Numbers are in percent, except the errors of valence, arousal and dominance (VAD), which are on their scale of 1 to 10.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clef import metrics
from clef.config import CellConfig
from clef.errors import CellError, raise_if_system_error
from clef.metrics import METRICS, Metric, check_coverage, confusion_matrix

Arrays = dict[str, np.ndarray]
"""The arrays of a file of predictions, as `clef.engine.evaluation` describes them."""
VAD = ("Valence", "Arousal", "Dominance")
_PARTS = ("Y_e", "Y_c", "Y_e*")


def path_of(folder: Path, split: str) -> Path:
    """Return where a cell keeps its predictions for a split."""
    return folder / f"predictions-{split}.npz"


def load(path: Path, samples: int, classes: int) -> Arrays:
    """Return the predictions in a file, one for each of `samples`. Raises CellError where it holds anything else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
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
    metrics.check_labels(arrays["target"])
    if "group" in arrays:
        _check_integers("group", arrays["group"], samples)


def _check_integers(name: str, values: np.ndarray, count: int) -> None:
    if values.dtype.kind != "i" or (values < 0).any() or (values >= count).any():
        raise CellError(f"{name} holds other than whole numbers from 0 to {count - 1}")


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
