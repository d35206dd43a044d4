"""The places, by name. Each kind has its own palette and objects; sizes, positions, tints and light vary freely."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clef.datasets.demo.indoors import kitchen, office, party
from clef.datasets.demo.outdoors import beach, forest, mountain, night_street, ruins
from clef.datasets.demo.pen import Pen

SCENES: dict[str, Callable[[Pen, np.random.Generator], None]] = {
    "office": office,
    "kitchen": kitchen,
    "night_street": night_street,
    "party": party,
    "beach": beach,
    "ruins": ruins,
    "forest": forest,
    "mountain": mountain,
}


def draw_scene(kind: str, width: int, height: int, seed: int) -> Pen:
    """The place's picture, in the light of some time of day; the same seed draws the same place."""
    rng = np.random.default_rng([seed, 2])
    pen = Pen(width, height)
    SCENES[kind](pen, rng)
    pen.light(rng.uniform(0.72, 1.12) * rng.uniform(0.9, 1.1, 3))
    return pen
