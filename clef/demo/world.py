"""The causal model of the demo sets: who is where, what they feel and what they show. Sampled before any drawing.

::

    label -> expression -> picture of the subject (face and body)
    label - - - scene kind -> picture of everything around

The dashed link has the chosen strength: with that probability the scene is the label's own kind, otherwise it is any
kind (the own one included). It is the only link between scene and label, and at strength 0 there is none. Shares are
stratified over a split, not drawn one by one, so that a small split has the stated strength too.

An expression is a vector over `DIMENSIONS`, every entry roughly in -1..1: what a figure's face and body can show. Each
label has a prototype. A person shows a *mixture* of the own prototype and one other: mixed feelings make the subject's
evidence weak or strong by degrees, so that a context can tip the balance. (A plain swap of labels would not do: with
it, context adds nothing to a subject that is read well.)

The labels are emotions in the CAER-S-like set and hidden moods in the EMOTIC-like one, whose annotations are drawn from
the mood: noisy sets of the 26 categories, and valence, arousal and dominance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

VERSION = 2
"""Raise it when what the generator writes changes. It is stated in a set's facts and in its cue files."""

ExpressionArray = NDArray[np.float64]
"""People x dimensions, or labels x dimensions."""
LabelArray = NDArray[np.int64]
"""The numbers of labels, scenes or sizes, one a person or a group."""

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

EMOTION_SCENES = dict(
    zip(EMOTIONS, ("office", "kitchen", "night_street", "party", "beach", "ruins", "forest"), strict=True)
)
MOOD_SCENES = dict(
    zip(MOODS, ("party", "kitchen", "beach", "mountain", "office", "night_street", "ruins", "forest"), strict=True)
)

MIXING_EXPONENT = 0.55
"""How mixed feelings are: the other expression's share is 1 - u ** MIXING_EXPONENT, with u uniform on 0..1."""
JITTER = 0.15
"""The standard deviation of the noise on every dimension."""


@dataclass(frozen=True)
class Actor:
    """A person to draw: the label (its number), the expression, and the seed of the person's looks."""

    label: int
    expression: tuple[float, ...]
    look: int


@dataclass(frozen=True)
class Group:
    """The people of one picture, or one subject in the frames of a shot; the scene's number; a seed for drawing."""

    scene: int
    actors: tuple[Actor, ...]
    seed: int


def sample_shots(seed: int, split: str, per_class: int, strength: float) -> list[Group]:
    """Sample shots of one subject with 3-7 frames, class by class, `per_class` frames in each class."""
    rng, table = random_stream(seed, "shots", split), prototypes(EMOTIONS)
    lengths = [_shot_lengths(rng, per_class) for _ in table]
    labels = np.repeat(np.arange(len(table)), [len(of_class) for of_class in lengths])
    scenes = draw_linked(rng, labels, len(table), strength)
    sizes = np.array([size for of_class in lengths for size in of_class], dtype=np.int64)
    second = (labels + rng.integers(1, len(table), len(labels))) % len(table)
    shown = mix_expressions(rng, table, np.repeat(labels, sizes), np.repeat(second, sizes))
    looks = rng.integers(2**31, size=len(labels))
    return list(_group_people(rng, scenes, np.repeat(labels, sizes), shown, np.repeat(looks, sizes), sizes))


def sample_pictures(seed: int, split: str, people: int, strength: float) -> list[Group]:
    """Sample pictures of 1-3 people. Each person's mood is the scene's with probability `strength`, else any."""
    rng, table = random_stream(seed, "pictures", split), prototypes(MOODS)
    sizes = _picture_sizes(rng, people)
    scenes = stratified_draws(rng, len(sizes), np.full(len(table), 1 / len(table)))
    labels = draw_linked(rng, np.repeat(scenes, sizes), len(table), strength)
    looks = rng.integers(2**31, size=people)
    return list(_group_people(rng, scenes, labels, mix_expressions(rng, table, labels), looks, sizes))


def random_stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a random generator of its own for each purpose, so that a new purpose changes no other."""
    return np.random.default_rng([seed, *(n if isinstance(n, int) else crc32(n.encode()) for n in names)])


def prototypes(table: dict[str, tuple[float, ...]]) -> ExpressionArray:
    """Return the prototypes as one array, labels x dimensions."""
    return np.array(list(table.values()))


def mix_expressions(
    rng: np.random.Generator, table: ExpressionArray, labels: LabelArray, others: LabelArray | None = None
) -> ExpressionArray:
    """Return an expression for each person: the label's prototype, a share of the other's prototype, and noise.

    The shares are stratified over the given people, so that small splits are as hard as large ones. Without `others`,
    each person's other label is drawn at random.
    """
    people, kinds = len(labels), len(table)
    if others is None:
        others = (labels + rng.integers(1, kinds, people)) % kinds
    u = (rng.permutation(people) + rng.random(people)) / max(people, 1)
    share = (1 - u**MIXING_EXPONENT)[:, None]
    noise = rng.normal(0, JITTER, (people, table.shape[1]))
    return (1 - share) * table[labels] + share * table[others] + noise


def stratified_draws(rng: np.random.Generator, count: int, chances: NDArray[np.float64]) -> LabelArray:
    """Return `count` draws in random order, each outcome as often as its chance says, give or take one."""
    at = (np.arange(count) + rng.random()) / max(count, 1)
    drawn = np.minimum(np.searchsorted(np.cumsum(chances), at, side="right"), len(chances) - 1)
    return rng.permutation(drawn).astype(np.int64)


def draw_linked(rng: np.random.Generator, causes: LabelArray, kinds: int, strength: float) -> LabelArray:
    """Return for each cause its own kind with probability `strength`, and any of the kinds otherwise."""
    drawn = np.empty_like(causes)
    for kind in range(kinds):
        indices = np.flatnonzero(causes == kind)
        chances = np.full(kinds, (1 - strength) / kinds) + strength * (np.arange(kinds) == kind)
        drawn[indices] = stratified_draws(rng, len(indices), chances)
    return drawn


def _group_people(
    rng: np.random.Generator,
    scenes: LabelArray,
    labels: LabelArray,
    shown: ExpressionArray,
    looks: LabelArray,
    sizes: LabelArray,
) -> Iterator[Group]:
    """Yield groups of `sizes` people, each with its scene and a seed of its own."""
    actors = [
        Actor(int(label), tuple(map(float, expression)), int(look))
        for label, expression, look in zip(labels, shown, looks, strict=True)
    ]
    for scene, size, end in zip(scenes, sizes, np.cumsum(sizes), strict=True):
        yield Group(int(scene), tuple(actors[end - size : end]), int(rng.integers(2**31)))


def _shot_lengths(rng: np.random.Generator, frames: int) -> list[int]:
    """Return lengths of 3-7 frames that sum up to `frames`; the last shot may be shorter."""
    lengths: list[int] = []
    while (remaining := frames - sum(lengths)) > 0:
        lengths.append(min(remaining, int(rng.integers(3, 8))))
    return lengths


def _picture_sizes(rng: np.random.Generator, people: int) -> LabelArray:
    """Return how many people, 1-3, are in each picture; they sum up to `people`."""
    sizes: list[int] = []
    while (remaining := people - sum(sizes)) > 0:
        sizes.append(min(remaining, int(rng.choice(3, p=[0.5, 0.3, 0.2])) + 1))
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
"""The probability that a category is named for a mood. Every category can be learned: some mood names it often."""

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
"""Valence, arousal and dominance of a mood, 1-10."""

MAX_CATEGORIES = 4
"""How many categories a person has at most; one at least."""


def draw_categories(rng: np.random.Generator, mood: str) -> tuple[str, ...]:
    """Draw a person's categories for a mood, in canonical order."""
    table = MOOD_CATEGORIES[mood]
    named = [name for name, chance in table.items() if rng.random() < chance] or [next(iter(table))]
    if len(named) > MAX_CATEGORIES:
        named = [named[i] for i in rng.permutation(len(named))[:MAX_CATEGORIES]]
    return tuple(sorted(named, key=CATEGORIES.index))


def draw_vad(rng: np.random.Generator, mood: str, spread: float = 1.0) -> NDArray[np.float64]:
    """Draw valence, arousal and dominance for a mood: the mood's own, with noise, as whole numbers 1-10."""
    return np.clip(np.rint(np.array(MOOD_VAD[mood]) + rng.normal(0, spread, 3)), 1, 10)
