"""Boxes in a frame: how much they share, and whose face or body a finding is. Plain arithmetic in pixels.

A subject's box often holds more than the subject. A finding is the subject's only if its centre lies in that box;
among several, the large, the central and the high go first: a bystander is smaller, beside or behind.

The points of a face and of a body: their names and order, what is joined, and what a mirror swaps.

Boxes x1, y1, x2, y2 of pixels: rounded and rescaled. 0-based, half-open. Imports no torch.
"""

import math
from collections.abc import Iterable, Sequence

from clef.datasets.person import Box


def area(box: Box) -> float:
    """Square pixels; 0 for a box that is empty."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def intersection(a: Box, b: Box) -> Box:
    """What two boxes share; empty (of no area) when they don't meet."""
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def iou(a: Box, b: Box) -> float:
    """Intersection over union, 0-1."""
    shared = area(intersection(a, b))
    return shared / (area(a) + area(b) - shared) if shared else 0.0


def centre(box: Box) -> tuple[float, float]:
    """The middle."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def holds(box: Box, point: Sequence[float]) -> bool:
    """Whether a point x, y lies in the box."""
    return bool(box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3])


def grown(box: Box, share: float) -> Box:
    """The box with this share of its width and height added on each side."""
    x, y = (box[2] - box[0]) * share, (box[3] - box[1]) * share
    return box[0] - x, box[1] - y, box[2] + x, box[3] + y


def around(points: Iterable[Sequence[float]]) -> Box:
    """The smallest box that holds the points x, y, ..."""
    xs, ys = zip(*((point[0], point[1]) for point in points), strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def inside(box: Box | None, width: int, height: int) -> Box | None:
    """The part of a box that lies in the frame, the whole frame for None; None when nothing does."""
    frame = (0.0, 0.0, float(width), float(height))
    part = intersection(box, frame) if box else frame
    return part if area(part) > 0 else None


def is_face(box: Box, face: Box | None) -> bool:
    """Whether the subject's box surrounds no more than the face, as in sets that give faces alone."""
    return face is not None and iou(box, face) > 0.5


def body(box: Box, face: Box | None) -> Box:
    """Where the subject's body is to be looked for: their box, or one that hangs from the face when that is all."""
    if face is None or not is_face(box, face):
        return box
    return extended_face(face)


def extended_face(face: Box) -> Box:
    """The face and what hangs on it: three faces wide, five tall; it may lie beyond the frame.

    Centred on the face from side to side; from half a face above its top to four and a half faces below its top.
    """
    x1, y1, x2, y2 = face
    width, height = x2 - x1, y2 - y1
    return x1 - width, y1 - 0.5 * height, x2 + width, y1 + 4.5 * height


def best_face(candidates: Iterable[Box], box: Box, face: Box | None = None) -> Box | None:
    """The face among the candidates that is the subject's, or None. With a known face: the one that overlaps it."""
    own = [candidate for candidate in candidates if area(candidate) and holds(box, centre(candidate))]
    if face is not None:
        best = max(own, key=lambda candidate: iou(candidate, face), default=None)
        return best if best and iou(best, face) >= 0.2 else None
    return max(own, key=lambda candidate: _likeliness(candidate, box), default=None)


def _likeliness(face: Box, box: Box) -> float:
    (x, y), (middle, _) = centre(face), centre(box)
    beside = abs(x - middle) / (box[2] - box[0])  # 0 in the middle, 0.5 at a side
    below = (y - box[1]) / (box[3] - box[1])  # 0 at the top, 1 at the bottom
    within = area(intersection(face, box)) / area(face)
    return within * float(area(face)) ** 0.5 * (1 - beside) * (1 - below / 2)


def best_person(candidates: Iterable[Box], box: Box, face: Box | None) -> Box | None:
    """The person among the candidates that is the subject, or None.

    Where the subject's box holds more than a face: the one that overlaps it most, by 0.3 at least. Where it doesn't:
    of those that hold the face, the one whose head would be nearest to it.
    """
    if face is None or not is_face(box, face):
        own = [candidate for candidate in candidates if holds(box, centre(candidate))]
        best = max(own, key=lambda candidate: iou(candidate, box), default=None)
        return best if best and iou(best, box) >= 0.3 else None
    holding = [one for one in candidates if area(intersection(one, face)) >= 0.7 * area(face)]
    return min(holding, key=lambda candidate: _from_head(candidate, face), default=None)


def _from_head(person: Box, face: Box) -> float:
    """From the face to where a person's head would be: in the middle, half a face below the top."""
    x, y = centre(face)
    return float(abs(x - centre(person)[0]) + abs(y - (person[1] + (face[3] - face[1]) / 2)))


JOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""The 17 keypoints of COCO. Left and right are the person's own."""

LIMBS = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10),
    (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (0, 5), (0, 6),
)  # fmt: skip
"""Joints that are joined: COCO's skeleton, the head hung on the shoulders by the nose."""

MIRRORED_JOINTS = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""Joint i of a mirrored person is joint MIRRORED_JOINTS[i] of the person."""

LANDMARKS = 68
"""The points of iBUG 300-W: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67."""

MIRRORED_LANDMARKS = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,
    64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip
"""Point i of a mirrored face is point MIRRORED_LANDMARKS[i] of the face."""


PixelBox = tuple[int, int, int, int]


def outward(box: Box) -> PixelBox:
    """Whole pixels that cover all of the box."""
    return math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])


def scaled(box: PixelBox, source: tuple[int, int], stored: tuple[int, int]) -> PixelBox:
    """A box of a frame of size `source`, rounded outwards in the same frame at size `stored` (width, height)."""
    x, y = stored[0] / source[0], stored[1] / source[1]
    return outward((box[0] * x, box[1] * y, min(box[2] * x, stored[0]), min(box[3] * y, stored[1])))
