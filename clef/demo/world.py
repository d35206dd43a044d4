"""The causal model: who is where, feels what and shows what. Sampled by the split, before any drawing.

::

    label -> expression -> picture of the subject (face and body)
    label - - - scene kind -> picture of everything around

The dashed link has the chosen strength: the scene is the label's own kind with that probability, and any
kind (the own one included) otherwise. It is the only way from a scene to a label, and at strength 0 there
is none. Shares are stratified, not drawn one by one, so that a small split holds what is promised, too.

What a figure's face and body can show: a small space of continuous expressions.

Each expression is a vector over ``DIMENSIONS``, every entry roughly in -1..1. Each label has one prototype.
A person shows a *mixture* of the own prototype and one other: mixed feelings make the subject's evidence
weak or strong by degrees, so that a context can tip the balance. (A plain swap of labels would not do: with
it, context adds nothing to a subject that is read well.)

What annotators write for a mood: noisy sets of the 26 categories, and valence, arousal and dominance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

VERSION = 2
"""Raised when what the generator writes changes; stands in a set's facts and in its cue files."""

Expressions = NDArray[np.float64]

DIMENSIONS = (
    "mouth_curve",  # frown .. smile
    "mouth_open",  # shut .. wide open
    "mouth_wide",  # pursed .. broad
    "brow_tilt",  # worried (inner ends up) .. angry (inner ends down)
    "brow_height",  # low .. high
    "eye_open",  # narrow .. wide
    "arm_left",  # down .. up
    "arm_right",
    "arm_bend",  # forearms inwards below (hands on hips) .. straight .. inwards above (hands at the face)
    "lean",  # the head's way to one side
)

EMOTIONS: dict[str, tuple[float, ...]] = {
    "Anger": (-0.7, -0.2, 0.4, 1.0, -0.7, 0.0, -0.35, -0.35, -1.0, 0.3),
    "Disgust": (-0.6, -1.0, -0.6, 0.5, -0.3, -0.9, -0.9, 0.3, 0.0, -0.9),
    "Fear": (-0.6, 0.3, 0.3, -1.0, 0.7, 0.9, -0.2, -0.2, 1.0, -0.2),
    "Happy": (1.0, 0.4, 0.7, -0.1, 0.4, 0.2, 0.9, 0.9, 0.1, 0.1),
    "Neutral": (0.1, -1.0, 0.0, 0.0, 0.0, 0.1, -1.0, -1.0, 0.0, 0.0),
    "Sad": (-1.0, -0.8, -0.1, -0.9, -0.1, -0.8, -0.9, -0.9, 0.3, 0.9),
    "Surprise": (0.0, 1.0, -0.8, 0.0, 1.0, 1.0, 0.1, 0.1, 0.2, 0.0),
}

MOODS: dict[str, tuple[float, ...]] = {
    "joyful": (1.0, 0.5, 0.7, -0.1, 0.4, 0.2, 0.9, 0.9, 0.1, 0.1),
    "tender": (0.8, -1.0, 0.0, -0.8, 0.3, -0.8, -0.5, -0.5, 0.9, -0.6),
    "calm": (0.4, -1.0, 0.2, 0.0, 0.0, -0.2, -1.0, -1.0, 0.0, 0.0),
    "driven": (0.1, -0.8, 0.9, 0.7, -0.2, 0.4, -0.4, 1.0, -0.1, -0.4),
    "angry": (-0.7, 0.0, 0.4, 1.0, -0.7, 0.0, -0.35, -0.35, -1.0, 0.3),
    "afraid": (-0.5, 0.9, -0.3, -0.9, 1.0, 1.0, 0.1, 0.1, 0.8, 0.0),
    "sorrowful": (-1.0, -0.8, -0.1, -0.9, -0.1, -0.6, -0.9, -0.9, 0.3, 0.9),
    "weary": (-0.2, 0.1, -0.5, 0.0, -0.8, -1.0, -1.0, 0.2, 0.9, -1.0),
}

MIXING = 0.55
"""How mixed feelings are: the other expression's share is 1 - u ** MIXING, with u uniform on 0..1."""

JITTER = 0.15
"""Standard deviation of the noise on every dimension."""


def prototypes(table: dict[str, tuple[float, ...]]) -> Expressions:
    """The prototypes as one array, labels x dimensions."""
    return np.array(list(table.values()))


def mixed(
    rng: np.random.Generator, table: Expressions, labels: NDArray[np.int64], others: NDArray[np.int64] | None = None
) -> Expressions:
    """One expression a person: the label's prototype, the other's to some share, and jitter.

    The shares are stratified over the people given, so that small splits are equally hard, too.
    """
    people, kinds = len(labels), len(table)
    if others is None:
        others = (labels + rng.integers(1, kinds, people)) % kinds
    u = (rng.permutation(people) + rng.random(people)) / max(people, 1)
    share = (1 - u**MIXING)[:, None]
    noise = rng.normal(0, JITTER, (people, table.shape[1]))
    return (1 - share) * table[labels] + share * table[others] + noise


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


CATEGORIES: tuple[str, ...] = (
    "Affection", "Anger", "Annoyance", "Anticipation", "Aversion", "Confidence", "Disapproval", "Disconnection",
    "Disquietment", "Doubt/Confusion", "Embarrassment", "Engagement", "Esteem", "Excitement", "Fatigue", "Fear",
    "Happiness", "Pain", "Peace", "Pleasure", "Sadness", "Sensitivity", "Suffering", "Surprise", "Sympathy",
    "Yearning",
)  # fmt: skip

MOOD_CATEGORIES: dict[str, dict[str, float]] = {
    "joyful": {"Happiness": 0.85, "Excitement": 0.6, "Pleasure": 0.4, "Engagement": 0.35},
    "tender": {"Affection": 0.75, "Sympathy": 0.45, "Esteem": 0.3, "Sensitivity": 0.35, "Happiness": 0.2},
    "calm": {"Peace": 0.8, "Pleasure": 0.4, "Engagement": 0.2, "Disconnection": 0.15},
    "driven": {"Anticipation": 0.65, "Confidence": 0.65, "Engagement": 0.6, "Esteem": 0.3},
    "angry": {"Anger": 0.75, "Annoyance": 0.5, "Disapproval": 0.5, "Aversion": 0.4},
    "afraid": {"Fear": 0.75, "Disquietment": 0.5, "Surprise": 0.45, "Doubt/Confusion": 0.3},
    "sorrowful": {"Sadness": 0.75, "Suffering": 0.45, "Pain": 0.4, "Yearning": 0.3, "Sensitivity": 0.2},
    "weary": {"Fatigue": 0.7, "Disconnection": 0.4, "Embarrassment": 0.4, "Doubt/Confusion": 0.3, "Yearning": 0.25},
}
"""How often a category is named for a mood. Each is learnable: some mood names it often."""

MOOD_VAD: dict[str, tuple[int, int, int]] = {
    "joyful": (9, 8, 7),
    "tender": (8, 4, 5),
    "calm": (7, 2, 6),
    "driven": (6, 7, 9),
    "angry": (2, 8, 8),
    "afraid": (2, 8, 2),
    "sorrowful": (2, 3, 3),
    "weary": (4, 1, 4),
}
"""Valence, arousal and dominance, 1-10."""

MOST = 4
"""Categories a person has at most; at least one is always named."""


def draw_categories(rng: np.random.Generator, mood: str) -> tuple[str, ...]:
    """A person's categories, in canonical order."""
    table = MOOD_CATEGORIES[mood]
    named = [name for name, chance in table.items() if rng.random() < chance] or [next(iter(table))]
    if len(named) > MOST:
        named = [named[i] for i in rng.permutation(len(named))[:MOST]]
    return tuple(sorted(named, key=CATEGORIES.index))


def draw_vad(rng: np.random.Generator, mood: str, spread: float = 1.0) -> NDArray[np.float64]:
    """Valence, arousal and dominance: the mood's, with noise, as integers 1-10."""
    return np.clip(np.rint(np.array(MOOD_VAD[mood]) + rng.normal(0, spread, 3)), 1, 10)
