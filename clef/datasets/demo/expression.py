"""What a figure's face and body can show: a small space of continuous expressions.

Each expression is a vector over ``DIMENSIONS``, every entry roughly in -1..1. Each label has one prototype.
A person shows a *mixture* of the own prototype and one other: mixed feelings make the subject's evidence
weak or strong by degrees, so that a context can tip the balance. (A plain swap of labels would not do: with
it, context adds nothing to a subject that is read well.)"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
