"""What extractors would find of a figure: iBUG's 68 landmarks and COCO's 17 joints (`clef.geometry`).

Both follow from the parts as drawn, so they show what the picture shows. Only the nose, which no figure has, is
put where it would be.
"""

from __future__ import annotations

from math import pi

import numpy as np

from clef.datasets.demo import anatomy
from clef.datasets.demo.anatomy import SIDES, TALL_HEAD
from clef.datasets.demo.pen import Point
from clef.datasets.demo.pose import HEAD, Box, Pose, card_height

BRIDGE = -0.15
"""Where the nose begins, in head radii below the head's centre."""
EAR = 0.12
"""How far the ears, and the ends of the jaw, are above the head's centre."""
LID = 0.23
"""Half of an eye's width, in head radii: the middle of its outline."""


def landmarks(card: Box, expression: tuple[float, ...]) -> list[Point]:
    """The 68 points in pixels of the frame; those of a face that the frame cuts may lie beyond it."""
    pose = Pose.of(card[2] - card[0], expression)
    points = [*_jaw(pose), *_brows(pose), *_nose(pose), *_eyes(pose), *_mouth(pose)]
    return [(card[0] + x, card[1] + y) for x, y in points]


def joints(card: Box, expression: tuple[float, ...], size: tuple[int, int]) -> list[tuple[float, float, float]]:
    """The 17 joints in pixels of the frame with a confidence: 1, or 0 for one off the card or the frame, as nothing
    of it is drawn."""
    width = card[2] - card[0]
    placed = []
    for x, y in _joints(Pose.of(width, expression)):
        on_card = 0 <= x < width and 0 <= y < card_height(width)
        in_frame = 0 <= card[0] + x < size[0] and 0 <= card[1] + y < size[1]
        placed.append((card[0] + x, card[1] + y, float(on_card and in_frame)))
    return placed


def _joints(pose: Pose) -> list[Point]:
    """Left before right; the person's left is at the image's right."""
    arms, legs = {side: anatomy.arm(pose, side) for side in SIDES}, {side: anatomy.leg(pose, side) for side in SIDES}
    points = [_nose(pose)[3]]
    points += [anatomy.eye(pose, side)[0] for side in (1, -1)]
    points += [pose.face(side, -EAR) for side in (1, -1)]
    points += [arms[side][part] for part in range(3) for side in (1, -1)]
    points += [legs[side][0] for side in (1, -1)]
    points += [_between(*legs[side], 0.5) for side in (1, -1)]
    points += [legs[side][1] for side in (1, -1)]
    return points


def _jaw(pose: Pose) -> list[Point]:
    """From ear to ear along the head's outline."""
    angles = np.linspace(pi + EAR, -EAR, 17)
    return [pose.face(float(np.cos(a)), TALL_HEAD * float(np.sin(a))) for a in angles]


def _brows(pose: Pose) -> list[Point]:
    (inner, outer), other = anatomy.brow(pose, -1), anatomy.brow(pose, 1)
    steps = np.linspace(0, 1, 5)
    return [_between(outer, inner, t) for t in steps] + [_between(*other, t) for t in steps]


def _nose(pose: Pose) -> list[Point]:
    """The bridge downwards, then the nostrils: between the eyes and the upper lip, wherever a wide mouth puts it."""
    lip = anatomy.lips(pose, [0])[0][0]
    bridge = [_between(pose.face(0, BRIDGE), lip, t) for t in np.linspace(0, 0.4, 4)]
    return bridge + [_between(pose.face(x, BRIDGE), lip, 0.55 - 0.2 * abs(x)) for x in np.linspace(-0.3, 0.3, 5)]


def _eyes(pose: Pose) -> list[Point]:
    """Around each eye by way of the upper lid, from the corner at the image's left."""
    angles = [pi, pi * 2 / 3, pi / 3, 0, -pi / 3, -pi * 2 / 3]
    points = []
    for side in SIDES:
        (x, y), height = anatomy.eye(pose, side)
        wide = LID * HEAD * pose.unit
        points += [(x + wide * float(np.cos(a)), y - height * float(np.sin(a))) for a in angles]
    return points


def _mouth(pose: Pose) -> list[Point]:
    """The outer contour and the inner one. A lip is one stroke, so both lie on it; the inner one is less wide."""
    points = []
    for across in (np.linspace(-1, 1, 7), np.linspace(-0.8, 0.8, 5)):
        upper, lower = anatomy.lips(pose, across)
        points += upper + lower[-2:0:-1]
    return points


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
