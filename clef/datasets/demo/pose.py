"""How a person looks and stands: what is known of a figure before it is drawn, its boxes among it."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

from clef.datasets.demo.expression import DIMENSIONS
from clef.datasets.demo.pen import Colour, Point, shade

Box = tuple[int, int, int, int]

TALL = 1.55
"""A card's height over its width."""
HEAD = 0.29
"""The head's radius over the card's width."""

SKINS: tuple[Colour, ...] = ((255, 219, 190), (240, 190, 150), (205, 150, 110), (172, 120, 86), (140, 96, 70))
HAIRS: tuple[Colour, ...] = ((50, 36, 30), (105, 66, 36), (205, 160, 80), (160, 66, 40), (175, 175, 180))
CLOTHES: tuple[Colour, ...] = (
    (214, 74, 74),
    (66, 120, 196),
    (80, 160, 96),
    (238, 178, 60),
    (130, 92, 180),
    (60, 64, 80),
)
CARDS: tuple[Colour, ...] = ((226, 236, 244), (244, 230, 216), (228, 240, 224), (240, 226, 238), (238, 238, 228))


@dataclass(frozen=True)
class Look:
    """How a person looks, whatever they feel."""

    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    card: Colour
    cut: int

    @classmethod
    def of(cls, seed: int) -> Look:
        """The look that belongs to a seed: the same person in every frame of a shot."""
        rng = np.random.default_rng([seed, 1])
        picks = (SKINS, HAIRS, CLOTHES, CLOTHES, CARDS)
        skin, hair, top, legs, card = (shade(rng, table[int(rng.integers(len(table)))], 8) for table in picks)
        return cls(skin, hair, top, legs, card, int(rng.integers(4)))


@dataclass(frozen=True)
class Pose:
    """Where the parts of a figure are on its card, in card pixels."""

    unit: float
    head: Point
    values: dict[str, float]

    @classmethod
    def of(cls, width: int, expression: tuple[float, ...]) -> Pose:
        """Place the head; expressions are limited to what a figure can do."""
        values = {name: min(max(v, -1.25), 1.25) for name, v in zip(DIMENSIONS, expression, strict=True)}
        slump = 0.05 * abs(values["lean"])
        return cls(width, (width * (0.5 + 0.13 * values["lean"]), width * (0.42 + slump)), values)

    def face(self, x: float, y: float) -> Point:
        """A point of the face, in head radii from its centre, turned with the head."""
        angle, radius = radians(16 * self.values["lean"]), HEAD * self.unit
        turned = (x * cos(angle) - y * sin(angle), x * sin(angle) + y * cos(angle))
        return self.head[0] + turned[0] * radius, self.head[1] + turned[1] * radius


def card_height(width: int) -> int:
    """The height of a card."""
    return round(width * TALL)


def moved(box: Box, x: int, y: int) -> Box:
    """A box, x to the right and y down."""
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def face_box(card: Box, expression: tuple[float, ...]) -> Box:
    """The head's box in the frame; not cut at the frame's edges, as a detector would not."""
    pose = Pose.of(card[2] - card[0], expression)
    (x, y), r = pose.head, HEAD * pose.unit * 1.06
    return moved((round(x - r), round(y - r), round(x + r), round(y + r)), card[0], card[1])
