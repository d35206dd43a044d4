"""Metrics, in percent, over predictions that cover a split completely."""

import warnings
from typing import Any

import numpy as np

from clef.errors import CellError


def check_coverage(index: np.ndarray, samples: int) -> None:
    """Refuse predictions that don't hold every sample of a split exactly once."""
    counts = np.bincount(index, minlength=samples)
    if len(counts) != samples or (counts != 1).any():
        missing, twice = int((counts == 0).sum()), int((counts > 1).sum())
        raise CellError(
            f"predictions for {len(index)} of {samples} samples ({missing} missing, {twice} more than once): "
            "no metric is computed without full coverage"
        )


def average_precision(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """scikit-learn's AP of each class in percent, K; NaN for a class without a positive. Both inputs are N,K."""
    from sklearn.metrics import average_precision_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = [
            100 * average_precision_score(target[:, k], scores[:, k]) if target[:, k].any() else np.nan
            for k in range(target.shape[1])
        ]
    return np.array(values)


def accuracy(scores: np.ndarray, target: np.ndarray) -> float:
    """The share of samples whose highest score is the target's, in percent. Scores N,K, target N."""
    return float(100 * (scores.argmax(1) == target).mean())


def per_class(scores: np.ndarray, target: np.ndarray, classes: list[str]) -> dict[str, float]:
    """AP (multi-label) or recall (single-label) of each class that has a sample, in percent."""
    if target.ndim == 2:
        values = average_precision(scores, target)
    else:
        hit = scores.argmax(1) == target
        values = np.array(
            [100 * hit[target == k].mean() if (target == k).any() else np.nan for k in range(len(classes))]
        )
    return {name: float(value) for name, value in zip(classes, values, strict=True) if not np.isnan(value)}


def headline(scores: np.ndarray, target: np.ndarray) -> float:
    """mAP over the classes that have a positive (multi-label, target N,K), or accuracy (single-label, target N)."""
    if not np.isfinite(scores).all():
        raise CellError("some scores are not finite: no metric is computed from them")
    if target.ndim == 2:
        return float(np.nanmean(average_precision(scores, target)))
    return accuracy(scores, target)


def chance(target: np.ndarray, classes: int) -> float:
    """What scores that know nothing reach: the mean prevalence (mAP), or one in K (accuracy), in percent."""
    if target.ndim == 2:
        prevalence = target.mean(0)
        return float(100 * prevalence[prevalence > 0].mean())
    return 100 / classes


def summary(arrays: dict[str, np.ndarray], classes: list[str]) -> dict[str, Any]:
    """All metrics of a split. `arrays` are those of a predictions file: scores, target, and the effects.

    `variants` scores the parts of CLEF's prediction too: `factual` (Y_c + Y_e), `Y_e` and `Y_c` alone.
    """
    scores, target = arrays["scores"], arrays["target"]
    variants: dict[str, float] = {name: headline(arrays[name], target) for name in ("Y_e", "Y_c") if name in arrays}
    if {"Y_c", "Y_e"} <= arrays.keys():
        variants["factual"] = headline(arrays["Y_c"] + arrays["Y_e"], target)
    return {
        "value": headline(scores, target),
        "chance": chance(target, len(classes)),
        "samples": len(target),
        "per_class": per_class(scores, target, classes),
        "variants": variants,
    }
