"""The causal model: who is where, feels what and shows what. Sampled by the split, before any drawing.

::

    label -> expression -> picture of the subject (face and body)
    label - - - scene kind -> picture of everything around

The dashed link has the chosen strength: the scene is the label's own kind with that probability, and any
kind (the own one included) otherwise. It is the only way from a scene to a label, and at strength 0 there
is none. Shares are stratified, not drawn one by one, so that a small split holds what is promised, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from clef.datasets.demo.expression import EMOTIONS, MOODS, Expressions, mixed, prototypes

Labels = NDArray[np.int64]

EMOTION_SCENES = dict(
    zip(EMOTIONS, ("office", "kitchen", "night_street", "party", "beach", "ruins", "forest"), strict=True)
)
MOOD_SCENES = dict(
    zip(MOODS, ("party", "kitchen", "beach", "mountain", "office", "night_street", "ruins", "forest"), strict=True)
)


@dataclass(frozen=True)
class Actor:
    """A person to draw: what they feel (an index), what they show, and the seed of their looks."""

    label: int
    expression: tuple[float, ...]
    look: int


@dataclass(frozen=True)
class Group:
    """The people of one picture, or one subject in the frames of a shot; the scene's index; a drawing seed."""

    scene: int
    actors: tuple[Actor, ...]
    seed: int


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A generator of its own for each purpose, so that adding one moves no other."""
    return np.random.default_rng([seed, *(n if isinstance(n, int) else crc32(n.encode()) for n in names)])


def shares(rng: np.random.Generator, count: int, chances: NDArray[np.float64]) -> Labels:
    """`count` draws in random order, each outcome as often as its chance says, give or take one."""
    at = (np.arange(count) + rng.random()) / max(count, 1)
    drawn = np.minimum(np.searchsorted(np.cumsum(chances), at, side="right"), len(chances) - 1)
    return rng.permutation(drawn).astype(np.int64)


def linked(rng: np.random.Generator, causes: Labels, kinds: int, strength: float) -> Labels:
    """For each cause its own kind with probability `strength`, and any of the kinds otherwise."""
    out = np.empty_like(causes)
    for kind in range(kinds):
        mine = np.flatnonzero(causes == kind)
        chances = np.full(kinds, (1 - strength) / kinds) + strength * (np.arange(kinds) == kind)
        out[mine] = shares(rng, len(mine), chances)
    return out


def shots(seed: int, split: str, per_class: int, strength: float) -> list[Group]:
    """Single-subject shots of 3-7 frames, class by class, `per_class` frames in each."""
    rng, table = stream(seed, "shots", split), prototypes(EMOTIONS)
    lengths = [_runs(rng, per_class) for _ in table]
    labels = np.repeat(np.arange(len(table)), [len(runs) for runs in lengths])
    scenes = linked(rng, labels, len(table), strength)
    sizes = np.array([size for runs in lengths for size in runs], dtype=np.int64)
    second = (labels + rng.integers(1, len(table), len(labels))) % len(table)
    shown = mixed(rng, table, np.repeat(labels, sizes), np.repeat(second, sizes))
    looks = rng.integers(2**31, size=len(labels))
    return list(_grouped(rng, scenes, np.repeat(labels, sizes), shown, np.repeat(looks, sizes), sizes))


def pictures(seed: int, split: str, people: int, strength: float) -> list[Group]:
    """Pictures of 1-3 people. Their moods follow the scene's, each by its own chance."""
    rng, table = stream(seed, "pictures", split), prototypes(MOODS)
    sizes = _crowd(rng, people)
    scenes = shares(rng, len(sizes), np.full(len(table), 1 / len(table)))
    labels = linked(rng, np.repeat(scenes, sizes), len(table), strength)
    looks = rng.integers(2**31, size=people)
    return list(_grouped(rng, scenes, labels, mixed(rng, table, labels), looks, sizes))


def _grouped(
    rng: np.random.Generator, scenes: Labels, labels: Labels, shown: Expressions, looks: Labels, sizes: Labels
) -> Iterator[Group]:
    actors = [
        Actor(int(label), tuple(map(float, row)), int(look))
        for label, row, look in zip(labels, shown, looks, strict=True)
    ]
    for scene, size, end in zip(scenes, sizes, np.cumsum(sizes), strict=True):
        yield Group(int(scene), tuple(actors[end - size : end]), int(rng.integers(2**31)))


def _runs(rng: np.random.Generator, total: int) -> list[int]:
    runs: list[int] = []
    while (left := total - sum(runs)) > 0:
        runs.append(min(left, int(rng.integers(3, 8))))
    return runs


def _crowd(rng: np.random.Generator, people: int) -> Labels:
    sizes: list[int] = []
    while (left := people - sum(sizes)) > 0:
        sizes.append(min(left, int(rng.choice(3, p=[0.5, 0.3, 0.2])) + 1))
    return np.array(sizes, dtype=np.int64)
