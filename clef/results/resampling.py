"""The bootstrap: what a metric would have been on other images, or with other seeds. Imports no torch.

Images are drawn with replacement, and whoever hangs together with an image is drawn with it: all people in it, or all
frames of its block. The draws depend on the groups alone, so methods on one split meet the same ones, and their
differences are paired.
"""

import numpy as np

RESAMPLES = 1000
LEVEL = 95
"""Percent of the resamples that an interval holds: all but the lowest and the highest of them."""
_SEED = 0
_AT_ONCE = 250
"""Resamples for which the weights of all samples are held in memory."""


def draws(group: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each group is drawn in each resample, groups,resamples float32. `group` N: each sample's number."""
    groups = int(group.max()) + 1
    rng = np.random.default_rng(_SEED)
    drawn = (np.bincount(rng.integers(groups, size=groups), minlength=groups) for _ in range(resamples))
    return np.stack([*drawn], axis=1).astype(np.float32)


def resampled(scores: np.ndarray, target: np.ndarray, group: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The headline metric of each resample, in percent: mAP (target N,K) or accuracy (target N). Scores are N,K."""
    if target.ndim == 1:
        hits = np.bincount(group, scores.argmax(1) == target, minlength=len(drawn))
        sizes = np.bincount(group, minlength=len(drawn))
        return np.asarray(100 * (hits @ drawn) / (sizes @ drawn))
    starts = range(0, drawn.shape[1], _AT_ONCE)
    return np.concatenate(
        [_mean_precisions(scores, target > 0, drawn[:, start : start + _AT_ONCE][group]) for start in starts]
    )


def _mean_precisions(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """mAP for each column of weights, N,R: a mean over the classes that have a positive among those drawn."""
    known = np.flatnonzero(positive.any(0))
    values = np.stack([_precisions(scores[:, k], positive[:, k], weights) for k in known])
    counted = (~np.isnan(values)).sum(axis=0)
    with np.errstate(invalid="ignore"):  # nobody with any label was drawn: NaN
        return np.asarray(100 * np.nansum(values, axis=0) / counted)


def _precisions(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AP for each column of weights: scikit-learn's, each sample counted so many times. NaN without a positive.

    Only steps of the ranking that hold a positive matter; equal scores are one step. So weights are summed from one
    such step to the next, which costs one pass over them.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], positive[order]
    step = np.cumsum(np.append(False, np.diff(ranked) != 0))
    ends = np.flatnonzero(np.append(np.diff(step) != 0, True))
    ends = ends[np.isin(step[ends], step[hit])]
    starts = np.append(0, ends[:-1] + 1)
    seen = np.add.reduceat(weights[order[: ends[-1] + 1]], starts, axis=0).cumsum(axis=0)
    first = np.flatnonzero(np.append(True, np.diff(step[hit]) != 0))
    hits = np.add.reduceat(weights[order[hit]], first, axis=0)
    with np.errstate(invalid="ignore"):
        found = hits.cumsum(axis=0) / seen
        return np.asarray((hits * np.where(seen > 0, found, 0)).sum(axis=0) / hits.sum(axis=0))


def over_seeds(values: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """The mean of each resample of the seeds' values."""
    rng = np.random.default_rng(_SEED)
    return np.asarray(values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1))


def centred(means: np.ndarray, value: float) -> np.ndarray:
    """Resamples moved by so much that their mean is the number itself.

    A resample holds people several times, side by side in every ranking, which raises AP by itself: by half a point of
    mAP and more where classes are rare. Unmoved, an interval may not even hold the number that it is about.
    """
    return np.asarray(means - np.nanmean(means) + value)


def interval(means: np.ndarray) -> tuple[float, float]:
    """The interval that holds LEVEL percent of the resamples."""
    low, high = np.nanpercentile(means, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)
