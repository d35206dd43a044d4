"""Intervals of the headline numbers and of their differences to a control, by bootstrap over images and over seeds.

They need the predictions themselves, so they are computed when a grid is gathered, and kept. Imports no torch.

The bootstrap: what a metric would have been on other images, or with other seeds. Imports no torch.

Images are drawn with replacement, and whoever hangs together with an image is drawn with it: all people in it, or all
frames of its block. The draws depend on the groups alone, so methods on one split meet the same ones, and their
differences are paired.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from clef.results.predictions import Arrays

RESAMPLES = 1000
LEVEL = 95
"""Percent of the resamples that an interval holds: all but the lowest and the highest of them."""
_SEED = 0
_AT_ONCE = 250
"""Resamples that are counted at once: more would not stay in the processor's caches."""


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
    parts = [drawn[:, start : start + _AT_ONCE] for start in starts]
    return np.concatenate([_mean_precisions(scores, target > 0, group, part) for part in parts])


def _mean_precisions(scores: np.ndarray, positive: np.ndarray, group: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """mAP of each column of `drawn`: a mean over the classes that have a positive among those drawn."""
    known = np.flatnonzero(positive.any(0))
    values = np.stack([_precisions(scores[:, k], positive[:, k], group, drawn) for k in known])
    counted = (~np.isnan(values)).sum(axis=0)
    with np.errstate(invalid="ignore"):  # nobody with any label was drawn: NaN
        return np.asarray(100 * np.nansum(values, axis=0) / counted)


def _precisions(scores: np.ndarray, positive: np.ndarray, group: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """AP of each column of `drawn`: scikit-learn's, each sample counted so many times. NaN without a positive.

    Only steps of the ranking that hold a positive matter; equal scores are one step. So it is enough to count who lies
    between one such step and the next: a product of a sparse matrix, steps x groups, with the draws.
    """
    from scipy.sparse import csr_array  # slow to import

    order = np.argsort(-scores, kind="stable")
    hit, groups = positive[order], group[order]
    step = np.cumsum(np.append(False, np.diff(scores[order]) != 0))
    kept = np.unique(step[hit])
    place = np.searchsorted(kept, step)

    def counted(chosen: np.ndarray) -> np.ndarray:
        ones = np.ones(int(chosen.sum()), np.float32)
        matrix = csr_array((ones, (place[chosen], groups[chosen])), shape=(len(kept), len(drawn)))
        return np.asarray(matrix @ drawn)

    hits, seen = counted(hit), counted(place < len(kept)).cumsum(axis=0)
    with np.errstate(invalid="ignore"):
        precision = np.where(seen > 0, hits.cumsum(axis=0) / seen, 0)
        return np.asarray((hits * precision).sum(axis=0, dtype=float) / hits.sum(axis=0, dtype=float))


def over_seeds(values: np.ndarray) -> np.ndarray:
    """The mean of each resample of the seeds' values."""
    rng = np.random.default_rng(_SEED)
    return np.asarray(values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1))


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


BASE = "vanilla"
"""The method that others are compared with unless a grid names another: of the same dataset, backbone and seed."""
OVER = ("images", "seeds")
"""What is resampled for an interval; the other is as it is."""


@dataclass(frozen=True)
class Interval:
    """An interval of the mean over seeds; with `base`, of its difference to that method, seed by seed."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    base: str
    split: str
    over: str
    """One of `OVER`."""
    seeds: int
    groups: int | None
    """How many groups of samples were drawn from; the split's images, or blocks of them."""
    resamples: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scored:
    """A cell's headline number on a split, and what it was in each resample of its images, where those are known."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    seed: int
    split: str
    value: float
    resampled: np.ndarray | None = None
    groups: bytes = b""
    """Which samples were drawn together: values are paired where these are equal."""
    against: str | None = BASE
    """The method that its own is compared with."""


def resample(arrays: Arrays) -> tuple[np.ndarray | None, bytes]:
    """`Scored.resampled` and `Scored.groups` of predictions; those of older versions name no groups."""
    if "group" not in arrays:
        return None, b""
    group = arrays["group"].astype(np.int32)
    drawn = draws(group)
    return resampled(arrays["scores"], arrays["target"], group, drawn), group.tobytes()


def intervals(scored: Iterable[Scored]) -> list[Interval]:
    """Every interval there is, in the order of `scored`."""
    by_split: dict[tuple[str, str, str, str], list[Scored]] = {}
    for one in scored:
        by_split.setdefault((one.dataset, one.protocol, one.backbone, one.split), []).append(one)
    return [interval for cells in by_split.values() for interval in _of_split(cells)]


def _of_split(cells: list[Scored]) -> Iterator[Interval]:
    by_method: dict[str, dict[int, Scored]] = {}
    for cell in cells:
        by_method.setdefault(cell.method, {})[cell.seed] = cell
    for method, own in by_method.items():
        yield from _both(list(own.values()), "", [])
        base = next(iter(own.values())).against
        if base is None or base == method:
            continue
        others = by_method.get(base, {})
        if paired := [(cell, others[seed]) for seed, cell in own.items() if seed in others]:
            yield from _both([one for one, _ in paired], base, [other for _, other in paired])


def _both(cells: list[Scored], base: str, others: list[Scored]) -> Iterator[Interval]:
    """Over images and over seeds, of the mean of `cells`, or of its difference to that of `others`."""
    values = np.array([cell.value for cell in cells]) - np.array([cell.value for cell in others] or 0.0)
    known = {cell.groups for cell in (*cells, *others)}
    if len(known) == 1 and b"" not in known:
        mean = _mean(cells) - (_mean(others) if others else 0)
        groups = len(np.unique(np.frombuffer(known.pop(), np.int32)))
        yield _interval(cells, base, "images", groups, values, centred(mean, float(values.mean())))
    if len(values) > 1:
        yield _interval(cells, base, "seeds", None, values, over_seeds(values))


def _mean(cells: list[Scored]) -> np.ndarray:
    return np.asarray(np.mean([cell.resampled for cell in cells if cell.resampled is not None], axis=0))


def _interval(
    cells: list[Scored], base: str, over: str, groups: int | None, values: np.ndarray, means: np.ndarray
) -> Interval:
    one, (low, high) = cells[0], interval(means)
    return Interval(
        one.dataset, one.protocol, one.backbone, one.method, base, one.split, over, len(cells), groups, len(means),
        float(values.mean()), low, high,
    )  # fmt: skip
