"""Draws one person on a card: a big head, short arms, and nothing of the place around.

The card fills the person's box to its edges. A crop of the person therefore shows no scene, and a frame with the box
blacked out shows no person: so it is known what a network can take from each. Skin, hair, clothes and the card's colour
are drawn from the person's own seed and say nothing about the label.

The parts of a figure are computed once, by `Pose` and the functions below it, both for the drawing and for the cues.
Their points are in pixels of the card. `side` is -1 for the part at the image's left and 1 for the one at its right.
The figure faces us, so the image's left is the person's right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, radians, sin

import numpy as np

from clef.demo.pen import Color, Pen, Point, shade
from clef.demo.world import DIMENSIONS
from clef.geometry import PixelBox

CARD_ASPECT = 1.55
"""A card's height over its width."""
HEAD_RADIUS = 0.29
"""The head's radius over the card's width."""
HEAD_ASPECT = 1.04
"""The head's height over its width."""
SIDES = (-1, 1)

SKINS: tuple[Color, ...] = ((255, 219, 190), (240, 190, 150), (205, 150, 110), (172, 120, 86), (140, 96, 70))
HAIRS: tuple[Color, ...] = ((50, 36, 30), (105, 66, 36), (205, 160, 80), (160, 66, 40), (175, 175, 180))
CLOTHES: tuple[Color, ...] = (
    (214, 74, 74),
    (66, 120, 196),
    (80, 160, 96),
    (238, 178, 60),
    (130, 92, 180),
    (60, 64, 80),
)
INK: Color = (30, 22, 26)
CARDS: tuple[Color, ...] = ((226, 236, 244), (244, 230, 216), (228, 240, 224), (240, 226, 238), (238, 238, 228))


@dataclass(frozen=True)
class Appearance:
    """How a person looks, whatever they feel: colours, and the number of the haircut."""

    skin: Color
    hair: Color
    top: Color
    legs: Color
    card: Color
    cut: int

    @classmethod
    def of(cls, seed: int) -> Appearance:
        """Return the appearance for a seed: the same person in every frame of a shot."""
        rng = np.random.default_rng([seed, 1])
        picks = (SKINS, HAIRS, CLOTHES, CLOTHES, CARDS)
        skin, hair, top, legs, card = (shade(rng, table[int(rng.integers(len(table)))], 8) for table in picks)
        return cls(skin, hair, top, legs, card, int(rng.integers(4)))


@dataclass(frozen=True)
class Pose:
    """How a figure stands on its card."""

    unit: float
    """The card's width in pixels, on which all sizes depend."""
    head: Point
    """The head's centre, in pixels of the card."""
    values: dict[str, float]
    """The expression by dimension, limited to what a figure can do."""

    @classmethod
    def of(cls, width: int, expression: tuple[float, ...]) -> Pose:
        """Return the pose for a card's width and an expression."""
        values = {name: min(max(v, -1.25), 1.25) for name, v in zip(DIMENSIONS, expression, strict=True)}
        slump = 0.05 * abs(values["lean"])
        return cls(width, (width * (0.5 + 0.13 * values["lean"]), width * (0.42 + slump)), values)

    def face(self, x: float, y: float) -> Point:
        """Return the card pixel of a point x, y of the face, in head radii from its centre, turned with the head."""
        angle, radius = radians(16 * self.values["lean"]), HEAD_RADIUS * self.unit
        turned = (x * cos(angle) - y * sin(angle), x * sin(angle) + y * cos(angle))
        return self.head[0] + turned[0] * radius, self.head[1] + turned[1] * radius


def card_height(width: int) -> int:
    """Return the height of a card of this width."""
    return round(width * CARD_ASPECT)


def shift_box(box: PixelBox, x: int, y: int) -> PixelBox:
    """Return a box moved by x to the right and by y down."""
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def face_box(card: PixelBox, expression: tuple[float, ...]) -> PixelBox:
    """Return the head's box in the frame. It may lie beyond the frame's edges: a detector would not cut it either."""
    pose = Pose.of(card[2] - card[0], expression)
    (x, y), r = pose.head, HEAD_RADIUS * pose.unit * 1.06
    return shift_box((round(x - r), round(y - r), round(x + r), round(y + r)), card[0], card[1])


def neck_point(pose: Pose) -> Point:
    """Return where the head sits on the shoulders."""
    u, (x, y) = pose.unit, pose.head
    return 0.5 * u + (x - 0.5 * u) * 0.5, y + 0.27 * u


def hip_center(pose: Pose) -> Point:
    """Return the middle between the hips."""
    return 0.5 * pose.unit, 1.22 * pose.unit


def leg_points(pose: Pose, side: int) -> tuple[Point, Point]:
    """Return hip and foot; the leg is straight."""
    u, (x, y) = pose.unit, hip_center(pose)
    return (x + side * 0.08 * u, y), (x + side * 0.12 * u, 1.45 * u)


def arm_points(pose: Pose, side: int) -> tuple[Point, Point, Point]:
    """Return shoulder, elbow and hand."""
    u, (x, y) = pose.unit, pose.head
    shoulder = (0.5 * u + (x - 0.5 * u) * 0.5 + side * 0.17 * u, y + 0.31 * u)
    upper = 75 * pose.values["arm_right" if side > 0 else "arm_left"]
    bend = pose.values["arm_bend"]
    fore = upper + bend * (140 if bend > 0 else 110)
    elbow = _point_along(shoulder, upper, side, 0.17 * u)
    return shoulder, elbow, _point_along(elbow, fore, side, 0.18 * u)


def brow_points(pose: Pose, side: int) -> tuple[Point, Point]:
    """Return the inner and the outer end."""
    height = -0.5 - 0.14 * pose.values["brow_height"]
    tilt = 0.2 * pose.values["brow_tilt"]
    return pose.face(side * 0.16, height + tilt), pose.face(side * 0.66, height - tilt * 0.8)


def eye_shape(pose: Pose, side: int) -> tuple[Point, float]:
    """Return the eye's centre, and how far the lids are from it."""
    wide = 0.5 + 0.5 * pose.values["eye_open"]
    return pose.face(side * 0.4, -0.12), (0.05 + 0.25 * max(0.0, wide)) * (HEAD_RADIUS * pose.unit)


def lip_points(pose: Pose, across: Iterable[float]) -> tuple[list[Point], list[Point]]:
    """Return points of the upper and of the lower lip; `across` is -1 at the mouth's left corner and 1 at its right."""
    v = pose.values
    half = 0.42 + 0.17 * v["mouth_wide"]
    drop = 0.25 * max(0.0, 1 + v["mouth_open"])
    bow = [(x, 0.26 * v["mouth_curve"] * (0.45 - x * x)) for x in across]
    upper = [pose.face(half * x, 0.5 + b - drop * 0.45 * (1 - x * x)) for x, b in bow]
    lower = [pose.face(half * x, 0.5 + b + drop * 0.75 * (1 - x * x)) for x, b in bow]
    return upper, lower


def _point_along(start: Point, degrees: float, side: int, length: float) -> Point:
    return start[0] + side * length * cos(radians(degrees)), start[1] - length * sin(radians(degrees))


def draw_person(frame: Pen, card: PixelBox, expression: tuple[float, ...], seed: int) -> None:
    """Draw a person on a card and lay the card on the frame, over a soft shadow."""
    width, height = card[2] - card[0], card[3] - card[1]
    look, pose = Appearance.of(seed), Pose.of(width, expression)
    pen = Pen(width, height, (252, 252, 250))
    edge = 0.03 * width
    pen.box(edge, edge, width - edge, height - edge, look.card)
    _draw_body(pen, look, pose)
    _draw_hair_behind(pen, look, pose)
    pen.ellipse(*pose.head, HEAD_RADIUS * width, HEAD_RADIUS * width * HEAD_ASPECT, look.skin)
    _draw_hair_before(pen, look, pose)
    _draw_face(pen, pose)
    for side in SIDES:
        _draw_arm(pen, look, pose, side)
    frame.box(card[0] + 1.5, card[1] + 2, card[2] + 1.5, card[3] + 2, (58, 54, 66))
    frame.paste(pen, card[0], card[1])


def _draw_body(pen: Pen, look: Appearance, pose: Pose) -> None:
    u, hip, neck = pose.unit, hip_center(pose), neck_point(pose)
    for side in SIDES:
        thigh, foot = leg_points(pose, side)
        pen.line([thigh, foot], 0.13 * u, look.legs)
        pen.ellipse(foot[0] + side * 0.03 * u, foot[1] + 0.02 * u, 0.09 * u, 0.045 * u, INK)
    shoulders, hips = 0.15 * u, 0.17 * u
    left, right = (neck[0] - shoulders, neck[1]), (neck[0] + shoulders, neck[1])
    pen.polygon([left, right, (hip[0] + hips, hip[1] + 0.06 * u), (hip[0] - hips, hip[1] + 0.06 * u)], look.top)
    pen.line([left, right], 0.1 * u, look.top)


def _draw_arm(pen: Pen, look: Appearance, pose: Pose, side: int) -> None:
    u, (shoulder, elbow, hand) = pose.unit, arm_points(pose, side)
    dark = (look.top[0] * 4 // 5, look.top[1] * 4 // 5, look.top[2] * 4 // 5)
    pen.line([shoulder, elbow, hand], 0.105 * u, dark)
    pen.ellipse(*hand, 0.07 * u, 0.07 * u, look.skin)


def _draw_hair_behind(pen: Pen, look: Appearance, pose: Pose) -> None:
    r = HEAD_RADIUS * pose.unit
    pen.ellipse(*pose.face(0, -0.12), 1.1 * r, 1.08 * r, look.hair)
    if look.cut == 1:
        pen.polygon([pose.face(-1.08, 0), pose.face(1.08, 0), pose.face(1.12, 1.25), pose.face(-1.12, 1.25)], look.hair)
    if look.cut == 2:
        pen.ellipse(*pose.face(0, -1.15), 0.4 * r, 0.36 * r, look.hair)


def _draw_hair_before(pen: Pen, look: Appearance, pose: Pose) -> None:
    xs = np.linspace(-0.97, 0.97, 9)
    tops = [pose.face(x, -float(np.sqrt(max(0.0, 1.1 - x * x)))) for x in xs]
    fringe = {0: -0.62, 1: -0.7, 2: -0.66, 3: -0.78}[look.cut]
    pen.polygon([*tops, pose.face(0.9, -0.45), pose.face(0.2, fringe), pose.face(-0.9, -0.45)], look.hair)


def _draw_face(pen: Pen, pose: Pose) -> None:
    for side in SIDES:
        _draw_eye(pen, pose, side)
        pen.line(brow_points(pose, side), 0.13 * (HEAD_RADIUS * pose.unit), INK)
    _draw_mouth(pen, pose)


def _draw_eye(pen: Pen, pose: Pose, side: int) -> None:
    r, (center, height) = HEAD_RADIUS * pose.unit, eye_shape(pose, side)
    pen.ellipse(*center, 0.25 * r, height + 0.03 * r, INK)
    pen.ellipse(*center, 0.21 * r, max(0.0, height - 0.02 * r), (255, 255, 255))
    pen.ellipse(*center, 0.11 * r, min(height, 0.14 * r), INK)


def _draw_mouth(pen: Pen, pose: Pose) -> None:
    r = HEAD_RADIUS * pose.unit
    upper, lower = lip_points(pose, np.linspace(-1, 1, 9))
    pen.polygon([*upper, *reversed(lower)], (176, 48, 58))
    pen.line(upper, 0.09 * r, INK)
    pen.line(lower, 0.09 * r, INK)
