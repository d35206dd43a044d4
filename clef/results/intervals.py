"""Intervals of the headline numbers and of their differences to a control, by bootstrap over images and over seeds.

They need the predictions themselves, so they are computed when a grid is gathered, and kept. Imports no torch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from clef.results import resampling
from clef.results.predictions import Arrays

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
    drawn = resampling.draws(group)
    return resampling.resampled(arrays["scores"], arrays["target"], group, drawn), group.tobytes()


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
        yield _interval(cells, base, "images", groups, values, resampling.centred(mean, float(values.mean())))
    if len(values) > 1:
        yield _interval(cells, base, "seeds", None, values, resampling.over_seeds(values))


def _mean(cells: list[Scored]) -> np.ndarray:
    return np.asarray(np.mean([cell.resampled for cell in cells if cell.resampled is not None], axis=0))


def _interval(
    cells: list[Scored], base: str, over: str, groups: int | None, values: np.ndarray, means: np.ndarray
) -> Interval:
    one, (low, high) = cells[0], resampling.interval(means)
    return Interval(
        one.dataset, one.protocol, one.backbone, one.method, base, one.split, over, len(cells), groups, len(means),
        float(values.mean()), low, high,
    )  # fmt: skip
