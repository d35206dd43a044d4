"""Where the parts of a figure are on its card, in card pixels: one account, for the drawing and for the cues.

`side` is -1 for the part at the image's left and 1 for the one at its right. The figure faces us, so the image's
left is the person's right.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, radians, sin

from clef.datasets.demo.pen import Point
from clef.datasets.demo.pose import HEAD, Pose

SIDES = (-1, 1)
TALL_HEAD = 1.04
"""The head's height over its width."""


def neck(pose: Pose) -> Point:
    """Where the head sits on the shoulders."""
    u, (x, y) = pose.unit, pose.head
    return 0.5 * u + (x - 0.5 * u) * 0.5, y + 0.27 * u


def hips(pose: Pose) -> Point:
    """The middle between the hips."""
    return 0.5 * pose.unit, 1.22 * pose.unit


def leg(pose: Pose, side: int) -> tuple[Point, Point]:
    """Hip and foot; the leg is straight."""
    u, (x, y) = pose.unit, hips(pose)
    return (x + side * 0.08 * u, y), (x + side * 0.12 * u, 1.45 * u)


def arm(pose: Pose, side: int) -> tuple[Point, Point, Point]:
    """Shoulder, elbow and hand."""
    u, (x, y) = pose.unit, pose.head
    shoulder = (0.5 * u + (x - 0.5 * u) * 0.5 + side * 0.17 * u, y + 0.31 * u)
    upper = 75 * pose.values["arm_right" if side > 0 else "arm_left"]
    bend = pose.values["arm_bend"]
    fore = upper + bend * (140 if bend > 0 else 110)
    elbow = _along(shoulder, upper, side, 0.17 * u)
    return shoulder, elbow, _along(elbow, fore, side, 0.18 * u)


def brow(pose: Pose, side: int) -> tuple[Point, Point]:
    """The inner and the outer end."""
    height = -0.5 - 0.14 * pose.values["brow_height"]
    tilt = 0.2 * pose.values["brow_tilt"]
    return pose.face(side * 0.16, height + tilt), pose.face(side * 0.66, height - tilt * 0.8)


def eye(pose: Pose, side: int) -> tuple[Point, float]:
    """The centre, and how far the lids are from it."""
    wide = 0.5 + 0.5 * pose.values["eye_open"]
    return pose.face(side * 0.4, -0.12), (0.05 + 0.25 * max(0.0, wide)) * (HEAD * pose.unit)


def lips(pose: Pose, across: Iterable[float]) -> tuple[list[Point], list[Point]]:
    """Points of the upper and the lower lip; `across` is -1 at the image's left corner and 1 at the right one."""
    v = pose.values
    half = 0.42 + 0.17 * v["mouth_wide"]
    drop = 0.25 * max(0.0, 1 + v["mouth_open"])
    bow = [(x, 0.26 * v["mouth_curve"] * (0.45 - x * x)) for x in across]
    upper = [pose.face(half * x, 0.5 + b - drop * 0.45 * (1 - x * x)) for x, b in bow]
    lower = [pose.face(half * x, 0.5 + b + drop * 0.75 * (1 - x * x)) for x, b in bow]
    return upper, lower


def _along(start: Point, degrees: float, side: int, length: float) -> Point:
    return start[0] + side * length * cos(radians(degrees)), start[1] - length * sin(radians(degrees))
