"""Bootstrap intervals of headline numbers, and of their differences to a control. Imports no torch.

What would a number have been on other images, or with other seeds? Images are drawn with replacement, and everything
that belongs to an image is drawn with it: all people in it, or all frames of its block. The draws depend on the groups
alone, so all methods on a split get the same ones, and their differences are paired. Intervals need the predictions
themselves, so they are computed when a grid is gathered, and kept.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from clef.cells.plan_file import PlannedRun
from clef.metrics import Metric, find_metric
from clef.results.frame import Interval
from clef.results.predictions import Arrays

OVER = ("images", "seeds")
"""What is resampled for an interval; the other stays as it is."""
RESAMPLES = 1000
LEVEL = 95
"""The percentage of the resamples that an interval holds; it leaves out the lowest and the highest."""
_SEED = 0
_CHUNK = 250
"""Resamples that are computed at once: more would not fit into the processor's caches."""


def draw_groups(group: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Return how often each group is drawn in each resample, groups,resamples float32. `group` N: of each sample."""
    groups = int(group.max()) + 1
    rng = np.random.default_rng(_SEED)
    drawn = (np.bincount(rng.integers(groups, size=groups), minlength=groups) for _ in range(resamples))
    return np.stack([*drawn], axis=1).astype(np.float32)


def resample_metric(
    scores: np.ndarray, target: np.ndarray, group: np.ndarray, counts: np.ndarray, name: str | None = None
) -> np.ndarray:
    """Return a metric (None: the usual one of the task) in each resample, in percent. `counts`: from `draw_groups`.

    Scores are N,K, target N,K or N, `group` N.
    """
    metric = find_metric(target, name)
    compute = metric.resampled or _Repeated(metric)
    starts = range(0, counts.shape[1], _CHUNK)
    return np.concatenate([compute(scores, target, group, counts[:, start : start + _CHUNK]) for start in starts])


@dataclass(frozen=True)
class _Repeated:
    """Resamples any metric: scores each sample as often as it was drawn. Slow."""

    metric: Metric

    def __call__(self, scores: np.ndarray, target: np.ndarray, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
        samples = (np.repeat(np.arange(len(group)), column[group].astype(int)) for column in counts.T)
        return np.array([self.metric.overall(scores[drawn], target[drawn]) for drawn in samples])


def resample_seeds(values: np.ndarray) -> np.ndarray:
    """Return the mean of the seeds' values in each resample of the seeds."""
    rng = np.random.default_rng(_SEED)
    return np.asarray(values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1))


def center(means: np.ndarray, value: float) -> np.ndarray:
    """Return resamples shifted so that their mean is `value`.

    A resample holds some people several times, next to each other in every ranking, which raises AP by itself: by half
    a point of mAP and more where classes are rare. Without the shift an interval may not even hold its own number.
    """
    return np.asarray(means - np.nanmean(means) + value)


def percentile_interval(means: np.ndarray) -> tuple[float, float]:
    """Return the interval that holds LEVEL percent of the resamples."""
    low, high = np.nanpercentile(means, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class ScoredSplit:
    """A cell's headline number on a split, and what it was in each resample of the split's images."""

    run: PlannedRun
    protocol: str
    split: str
    value: float
    resampled: np.ndarray | None = None
    """None where predictions are missing."""
    groups: bytes = b""
    """Which samples were drawn together: values are paired where these are equal."""


def resample_predictions(arrays: Arrays, metric: str | None = None) -> tuple[np.ndarray | None, bytes]:
    """Return `ScoredSplit.resampled` and `ScoredSplit.groups` of predictions; nothing where they have no groups."""
    if "group" not in arrays:
        return None, b""
    group = arrays["group"].astype(np.int32)
    return resample_metric(arrays["scores"], arrays["target"], group, draw_groups(group), metric), group.tobytes()


def compute_intervals(splits: Iterable[ScoredSplit]) -> list[Interval]:
    """Return all intervals, in the order of `splits`."""
    by_split: dict[tuple[str, str, str, str], list[ScoredSplit]] = {}
    for scored in splits:
        key = scored.run.dataset, scored.protocol, scored.run.backbone, scored.split
        by_split.setdefault(key, []).append(scored)
    return [interval for cells in by_split.values() for interval in _intervals_of_split(cells)]


def _intervals_of_split(cells: list[ScoredSplit]) -> Iterator[Interval]:
    """Yield the intervals of each method of a backbone on a split, and of its difference to its control."""
    by_method: dict[str, dict[int, ScoredSplit]] = {}
    for cell in cells:
        by_method.setdefault(cell.run.method, {})[cell.run.seed] = cell
    for method, seeds in by_method.items():
        yield from _intervals_over_both(list(seeds.values()), "", [])
        base = next(iter(seeds.values())).run.against
        if base is None or base == method:
            continue
        controls = by_method.get(base, {})
        if paired := [(cell, controls[seed]) for seed, cell in seeds.items() if seed in controls]:
            yield from _intervals_over_both([cell for cell, _ in paired], base, [control for _, control in paired])


def _intervals_over_both(cells: list[ScoredSplit], base: str, controls: list[ScoredSplit]) -> Iterator[Interval]:
    """Yield the intervals over images and over seeds: of the mean of `cells`, minus that of `controls` if any."""
    values = np.array([cell.value for cell in cells]) - np.array([cell.value for cell in controls] or 0.0)
    groups = {cell.groups for cell in (*cells, *controls)}
    if len(groups) == 1 and b"" not in groups:
        means = _mean_over_seeds(cells) - (_mean_over_seeds(controls) if controls else 0)
        count = len(np.unique(np.frombuffer(groups.pop(), np.int32)))
        yield _interval(cells, base, "images", count, values, center(means, float(values.mean())))
    if len(values) > 1:
        yield _interval(cells, base, "seeds", None, values, resample_seeds(values))


def _mean_over_seeds(cells: list[ScoredSplit]) -> np.ndarray:
    return np.asarray(np.mean([cell.resampled for cell in cells if cell.resampled is not None], axis=0))


def _interval(
    cells: list[ScoredSplit], base: str, over: str, groups: int | None, values: np.ndarray, means: np.ndarray
) -> Interval:
    first, (low, high) = cells[0], percentile_interval(means)
    return Interval(
        first.run.dataset, first.protocol, first.run.backbone, first.run.method, base, first.split, over, len(cells),
        groups, len(means), float(values.mean()), low, high,
    )  # fmt: skip
