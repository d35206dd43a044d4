"""Every number that predictions give, in long form: a metric of a part of the prediction, for a class or for all.

All are in percent, but the errors of valence, arousal and dominance, which are on their scale from 1 to 10. Imports no
torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clef import metrics
from clef.config import CellConfig
from clef.metrics import CONVENTIONS, accuracy, average_precisions, chance
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
