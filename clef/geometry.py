"""Boxes and points in an image, in plain arithmetic: it imports nothing of CLEF.

Boxes are x1, y1, x2, y2 in pixels, 0-based and half-open: how much two of them share, how they are clipped, rounded
and rescaled, and which of several candidates is the subject's face or body. Points are the joints of a body and the
landmarks of a face: their names and order, which of them are connected, and which change places in a mirror.

A subject's box often holds other people too. A detection counts as the subject's only if its center lies in that box.
Among several, large, central and high ones win: a bystander is smaller, and stands beside or behind the subject.
"""

import math
from collections.abc import Iterable, Sequence

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of an image: 0-based, half-open, possibly fractional or beyond the frame."""
PixelBox = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels."""
Size = tuple[int, int]
"""Height and width in pixels, in the order of torch and NumPy. Pillow's `Image.size` is the other way round."""

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
"""The 17 keypoints of COCO. Left and right are those of the person, not of the viewer."""

LIMBS = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10),
    (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16), (0, 5), (0, 6),
)  # fmt: skip
"""Pairs of joints that a limb connects: COCO's skeleton, with the nose connected to both shoulders."""

MIRRORED_JOINTS = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""Joint i of a mirrored person is joint MIRRORED_JOINTS[i] of the original."""

NUM_LANDMARKS = 68
"""The number of points in iBUG 300-W: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67."""

MIRRORED_LANDMARKS = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,
    64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip
"""Landmark i of a mirrored face is landmark MIRRORED_LANDMARKS[i] of the original."""


def area(box: Box) -> float:
    """Return the area of a box in square pixels, 0 for an empty one."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def intersection(a: Box, b: Box) -> Box:
    """Return the box that two boxes share. It is empty (its area is 0) when they don't overlap."""
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def iou(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, 0 to 1."""
    shared = area(intersection(a, b))
    return shared / (area(a) + area(b) - shared) if shared else 0.0


def center(box: Box) -> tuple[float, float]:
    """Return the point x, y in the middle of a box."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def contains(box: Box, point: Sequence[float]) -> bool:
    """Return whether a point x, y lies in the box."""
    return bool(box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3])


def expand(box: Box, share: float) -> Box:
    """Return the box with this share of its width and height added on each side."""
    x, y = (box[2] - box[0]) * share, (box[3] - box[1]) * share
    return box[0] - x, box[1] - y, box[2] + x, box[3] + y


def bounding_box(points: Iterable[Sequence[float]]) -> Box:
    """Return the smallest box that holds all points x, y, ... (there must be at least one)."""
    xs, ys = zip(*((point[0], point[1]) for point in points), strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def clip(box: Box | None, size: Size) -> Box | None:
    """Return the part of a box that lies in a frame of this size; of None, the whole frame.

    Returns None when no part lies in the frame, as for a box with NaN.
    """
    frame = (0.0, 0.0, float(size[1]), float(size[0]))
    part = intersection(box, frame) if box else frame
    return part if area(part) > 0 else None


def round_outward(box: Box) -> PixelBox:
    """Return the whole pixels that cover all of the box."""
    return math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])


def rescale(box: PixelBox, source: Size, target: Size) -> PixelBox:
    """Return a box of a frame of size `source`, rounded outward, in the same frame at size `target`."""
    y, x = target[0] / source[0], target[1] / source[1]
    return round_outward((box[0] * x, box[1] * y, min(box[2] * x, target[1]), min(box[3] * y, target[0])))


_TURNS = {
    1: ((0, False), (1, False)), 2: ((0, True), (1, False)), 3: ((0, True), (1, True)), 4: ((0, False), (1, True)),
    5: ((1, False), (0, False)), 6: ((1, True), (0, False)), 7: ((1, True), (0, True)), 8: ((1, False), (0, True)),
}  # fmt: skip
"""EXIF's orientations: which axis of the stored image becomes x, which y, and whether it then runs the other way."""


def turned_size(size: Size, orientation: int) -> Size:
    """Return the height and width that an image of this size has when it is turned as EXIF's `orientation` (1-8) says.

    As only sides change places, this is also the size that an image of this size had before it was turned.
    """
    return size if orientation < 5 else (size[1], size[0])


def turn_back(orientation: int) -> int:
    """Return the orientation that undoes another."""
    return {6: 8, 8: 6}.get(orientation, orientation)


def turn_point(point: Sequence[float], orientation: int, size: Size) -> tuple[float, float]:
    """Return where a point x, y of an image of this size lies when the image is turned."""
    (x_from, x_back), (y_from, y_back) = _TURNS[orientation]
    sides = size[1], size[0]
    x, y = point[x_from], point[y_from]
    return sides[x_from] - x if x_back else x, sides[y_from] - y if y_back else y


def turn_box(box: Box, orientation: int, size: Size) -> Box:
    """Return a box of an image of this size when the image is turned. One that is empty or has NaN stays so."""
    sides = size[1], size[0]
    (x1, x2), (y1, y2) = (
        (sides[axis] - box[axis + 2], sides[axis] - box[axis]) if back else (box[axis], box[axis + 2])
        for axis, back in _TURNS[orientation]
    )
    return x1, y1, x2, y2


def is_face_only(box: Box, face: Box | None) -> bool:
    """Return whether the subject's box surrounds no more than the face, as in datasets that annotate faces alone."""
    return face is not None and iou(box, face) > 0.5


def body_box(box: Box, face: Box | None) -> Box:
    """Return where to look for the subject's body: their box, or a box below the face when that is all it holds."""
    if face is None or not is_face_only(box, face):
        return box
    return extended_face(face)


def extended_face(face: Box) -> Box:
    """Return a box around the face that takes in the body: three faces wide, five tall. It may leave the frame.

    It is centered on the face from side to side, and goes from half a face above the top of the face to four and a
    half faces below that top.
    """
    x1, y1, x2, y2 = face
    width, height = x2 - x1, y2 - y1
    return x1 - width, y1 - 0.5 * height, x2 + width, y1 + 4.5 * height


def best_face(candidates: Iterable[Box], box: Box, face: Box | None = None) -> Box | None:
    """Return the candidate that is the subject's face, or None. With a known `face`: the one that overlaps it most."""
    inside = [candidate for candidate in candidates if area(candidate) and contains(box, center(candidate))]
    if face is not None:
        best = max(inside, key=lambda candidate: iou(candidate, face), default=None)
        return best if best and iou(best, face) >= 0.2 else None
    return max(inside, key=lambda candidate: _face_score(candidate, box), default=None)


def _face_score(face: Box, box: Box) -> float:
    """Return how likely a face is that of the subject in `box`: large, central and high ones score most."""
    (x, y), (middle, _) = center(face), center(box)
    off_center = abs(x - middle) / (box[2] - box[0])  # 0 in the middle, 0.5 at a side
    depth = (y - box[1]) / (box[3] - box[1])  # 0 at the top, 1 at the bottom
    visible = area(intersection(face, box)) / area(face)
    return visible * float(area(face)) ** 0.5 * (1 - off_center) * (1 - depth / 2)


def best_person(candidates: Iterable[Box], box: Box, face: Box | None) -> Box | None:
    """Return the candidate that is the subject's whole person, or None.

    When the subject's box holds more than a face: the one that overlaps it most, with an IoU of 0.3 at least.
    Otherwise: of those that hold the face, the one whose head would be nearest to it.
    """
    if face is None or not is_face_only(box, face):
        inside = [candidate for candidate in candidates if contains(box, center(candidate))]
        best = max(inside, key=lambda candidate: iou(candidate, box), default=None)
        return best if best and iou(best, box) >= 0.3 else None
    holding = [candidate for candidate in candidates if area(intersection(candidate, face)) >= 0.7 * area(face)]
    return min(holding, key=lambda candidate: _distance_to_head(candidate, face), default=None)


def _distance_to_head(person: Box, face: Box) -> float:
    """Return how far (x plus y) the face lies from where the person's head would be: half a face below their top."""
    x, y = center(face)
    return float(abs(x - center(person)[0]) + abs(y - (person[1] + (face[3] - face[1]) / 2)))
