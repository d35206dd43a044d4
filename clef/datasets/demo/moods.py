"""What annotators write for a mood: noisy sets of the 26 categories, and valence, arousal and dominance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
