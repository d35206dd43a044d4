"""Draws one person on a card: a big head, short arms, and nothing of the place around.

The card fills the person's box to its edges. A crop of the person therefore shows no scene, and a frame
with the box blacked out shows no person: what a network takes from each is known. Skin, hair, clothes and
the card's colour are drawn from the person's own seed and say nothing of the label.
"""

from __future__ import annotations

import numpy as np

from clef.datasets.demo import anatomy
from clef.datasets.demo.anatomy import SIDES, TALL_HEAD
from clef.datasets.demo.pen import Colour, Pen
from clef.datasets.demo.pose import HEAD, Box, Look, Pose

INK: Colour = (30, 22, 26)


def draw_person(frame: Pen, card: Box, expression: tuple[float, ...], seed: int) -> None:
    """Draw a person on a card and lay the card on the frame, over a soft shadow."""
    width, height = card[2] - card[0], card[3] - card[1]
    look, pose = Look.of(seed), Pose.of(width, expression)
    pen = Pen(width, height, (252, 252, 250))
    edge = 0.03 * width
    pen.box(edge, edge, width - edge, height - edge, look.card)
    _body(pen, look, pose)
    _hair_behind(pen, look, pose)
    pen.ellipse(*pose.head, HEAD * width, HEAD * width * TALL_HEAD, look.skin)
    _hair_before(pen, look, pose)
    _face(pen, pose)
    for side in SIDES:
        _arm(pen, look, pose, side)
    frame.box(card[0] + 1.5, card[1] + 2, card[2] + 1.5, card[3] + 2, (58, 54, 66))
    frame.paste(pen, card[0], card[1])


def _body(pen: Pen, look: Look, pose: Pose) -> None:
    u, hip, neck = pose.unit, anatomy.hips(pose), anatomy.neck(pose)
    for side in SIDES:
        thigh, foot = anatomy.leg(pose, side)
        pen.line([thigh, foot], 0.13 * u, look.legs)
        pen.ellipse(foot[0] + side * 0.03 * u, foot[1] + 0.02 * u, 0.09 * u, 0.045 * u, INK)
    shoulders, hips = 0.15 * u, 0.17 * u
    left, right = (neck[0] - shoulders, neck[1]), (neck[0] + shoulders, neck[1])
    pen.polygon([left, right, (hip[0] + hips, hip[1] + 0.06 * u), (hip[0] - hips, hip[1] + 0.06 * u)], look.top)
    pen.line([left, right], 0.1 * u, look.top)


def _arm(pen: Pen, look: Look, pose: Pose, side: int) -> None:
    u, (shoulder, elbow, hand) = pose.unit, anatomy.arm(pose, side)
    dark = (look.top[0] * 4 // 5, look.top[1] * 4 // 5, look.top[2] * 4 // 5)
    pen.line([shoulder, elbow, hand], 0.105 * u, dark)
    pen.ellipse(*hand, 0.07 * u, 0.07 * u, look.skin)


def _hair_behind(pen: Pen, look: Look, pose: Pose) -> None:
    r = HEAD * pose.unit
    pen.ellipse(*pose.face(0, -0.12), 1.1 * r, 1.08 * r, look.hair)
    if look.cut == 1:
        pen.polygon([pose.face(-1.08, 0), pose.face(1.08, 0), pose.face(1.12, 1.25), pose.face(-1.12, 1.25)], look.hair)
    if look.cut == 2:
        pen.ellipse(*pose.face(0, -1.15), 0.4 * r, 0.36 * r, look.hair)


def _hair_before(pen: Pen, look: Look, pose: Pose) -> None:
    xs = np.linspace(-0.97, 0.97, 9)
    tops = [pose.face(x, -float(np.sqrt(max(0.0, 1.1 - x * x)))) for x in xs]
    fringe = {0: -0.62, 1: -0.7, 2: -0.66, 3: -0.78}[look.cut]
    pen.polygon([*tops, pose.face(0.9, -0.45), pose.face(0.2, fringe), pose.face(-0.9, -0.45)], look.hair)


def _face(pen: Pen, pose: Pose) -> None:
    for side in SIDES:
        _eye(pen, pose, side)
        pen.line(anatomy.brow(pose, side), 0.13 * (HEAD * pose.unit), INK)
    _mouth(pen, pose)


def _eye(pen: Pen, pose: Pose, side: int) -> None:
    r, (centre, height) = HEAD * pose.unit, anatomy.eye(pose, side)
    pen.ellipse(*centre, 0.25 * r, height + 0.03 * r, INK)
    pen.ellipse(*centre, 0.21 * r, max(0.0, height - 0.02 * r), (255, 255, 255))
    pen.ellipse(*centre, 0.11 * r, min(height, 0.14 * r), INK)


def _mouth(pen: Pen, pose: Pose) -> None:
    r = HEAD * pose.unit
    upper, lower = anatomy.lips(pose, np.linspace(-1, 1, 9))
    pen.polygon([*upper, *reversed(lower)], (176, 48, 58))
    pen.line(upper, 0.09 * r, INK)
    pen.line(lower, 0.09 * r, INK)
