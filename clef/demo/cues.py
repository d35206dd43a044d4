"""The demo sets' cues, in the format of `clef.cues.files`: what ideal extractors would find, computed from the drawing.

Of each person: iBUG's 68 landmarks and COCO's 17 joints (`clef.geometry`), from the parts of the figure as drawn, so
they show what the picture shows (only the nose, which no figure has, is put where it would be); and the box of the
card, as a person detector would find it.

Of each image: a depth map, and region proposals. Proposals are people first, then what stands around them: every drawn
shape is a candidate, and only its size and place decide. Windows at fixed places fill up the list, so that its length
does not tell the kind of place either: a beach has fewer shapes than a forest.

Sizes are (width, height), as in Pillow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clef.cues.files import CueName, cue_path, finding_line, header_line
from clef.demo import figure
from clef.demo.figure import HEAD_ASPECT, HEAD_RADIUS, SIDES, Pose, card_height
from clef.demo.pen import Point
from clef.demo.world import VERSION
from clef.geometry import Box, PixelBox, area, intersection

ONE_MISSED_OF = 33
"""Among this many people in a row, the landmarks of one are not found, and independently the pose of one. So the share
is the same in every split and class."""
COARSE = 4
"""Frame pixels per pixel of a depth map, in each direction."""
FAR, NEAR = 30, 150
"""Grey of the ground at the frame's upper edge and at its lower one. Cards are brighter, the larger the more."""
REGION_COUNT = 12
"""How many regions every picture has."""
MIN_SIDE = 7
"""Pixels. A shape with a shorter side is a speck, not a region."""
MAX_AREA = 0.25
"""Share of the frame. A larger shape is background, not a region."""
MAX_OVERLAP = 0.6
"""A shape with this share of its area within a better box is part of what that box shows."""
NOSE_TOP = -0.15
"""Where the nose begins, in head radii below the head's centre."""
EAR_HEIGHT = 0.12
"""How far the ears are above the head's centre, in head radii; and the angle of the jaw's ends, in radians."""
HALF_EYE = 0.23
"""Half of an eye's width, in head radii, to the middle of its outline."""


@dataclass(frozen=True)
class ListedPerson:
    """A person in the set's annotations, with what an extractor can see of them."""

    id: str
    card: PixelBox
    expression: tuple[float, ...]
    size: tuple[int, int]
    """The image's."""
    readable: bool
    """Whether the image can be opened."""
    face: bool
    """Whether the set has a face box of the person; landmarks need one."""


@dataclass(frozen=True)
class ImageCues:
    """The cues of one image; None for an image that can't be opened."""

    root: Path
    key: str
    regions: list[Box] | None = None
    depth: str | None = None


def write_person_cues(root: Path, people: Sequence[ListedPerson], rng: np.random.Generator) -> None:
    """Write the cues of people below `root`: their boxes, landmarks and poses. `rng` draws who is missed."""
    faceless, poseless = _draw_missed(len(people), rng), _draw_missed(len(people), rng)
    faces, poses = [], []
    for i, person in enumerate(people):
        drawn = person.card, person.expression
        seen = person.readable and person.face and i not in faceless
        faces.append((person.id, _round_rows(figure_landmarks(*drawn)) if seen else None))
        seen = person.readable and i not in poseless
        poses.append((person.id, _round_rows(figure_joints(*drawn, person.size)) if seen else None))
    _write_cue_file(root, "person", [(person.id, _visible_box(person)) for person in people])
    _write_cue_file(root, "landmarks", faces)
    _write_cue_file(root, "pose", poses)


def _visible_box(person: ListedPerson) -> list[int] | None:
    """Return a detector's box of the person: the card, as far as the frame shows it."""
    (left, top, right, bottom), (width, height) = person.card, person.size
    return [max(0, left), max(0, top), min(width, right), min(height, bottom)] if person.readable else None


def write_image_cues(image_cues: Sequence[ImageCues]) -> None:
    """Write regions and depth maps' paths, each below its root."""
    for root in dict.fromkeys(cues.root for cues in image_cues):
        in_root = [cues for cues in image_cues if cues.root == root]
        _write_cue_file(root, "regions", [(cues.key, cues.regions) for cues in in_root])
        _write_cue_file(root, "depth", [(cues.key, cues.depth) for cues in in_root])


def find_image_cues(
    root: Path, key: str, people: Sequence[PixelBox], shapes: Sequence[Box], size: tuple[int, int], readable: bool
) -> ImageCues:
    """Return the cues of an image with these cards, the last on top; write its depth map below `root`.

    `shapes` are the boxes of what is drawn around the people.
    """
    if not readable:
        return ImageCues(root, key)
    depth = Path("depth", key).with_suffix(".png")
    path = cue_path(root, "depth").parent / depth
    path.parent.mkdir(parents=True, exist_ok=True)
    depth_map(people, size).save(path)
    return ImageCues(root, key, _round_rows(propose_regions(people, shapes, size)), depth.as_posix())


def depth_map(people: Iterable[PixelBox], size: tuple[int, int]) -> Image.Image:
    """Draw a depth map: the ground is nearer further down, and a card stands before it, nearer when it is larger."""
    width, height = (-(-side // COARSE) for side in size)
    near = np.repeat(np.linspace(FAR, NEAR, height)[:, None], width, axis=1)
    for card in people:
        left, top, right, bottom = (max(0, round(edge / COARSE)) for edge in card)
        near[top:bottom, left:right] = NEAR + min(100, 1.6 * (card[2] - card[0]))
    return Image.fromarray(near.round().astype(np.uint8))


def _draw_missed(people: int, rng: np.random.Generator) -> set[int]:
    """Draw the numbers of the people whose cue is not found: one in every `ONE_MISSED_OF`."""
    return {start + int(rng.integers(ONE_MISSED_OF)) for start in range(0, people, ONE_MISSED_OF)}


def _round_rows(rows: Iterable[Iterable[float]]) -> list[Any]:
    return [[round(float(value), 1) for value in row] for row in rows]


def _write_cue_file(root: Path, cue: CueName, values: Iterable[tuple[str, Any]]) -> None:
    path = cue_path(root, cue)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (finding_line(key, value) for key, value in values)
    path.write_text(header_line(cue, "demo", str(VERSION)) + "".join(lines), encoding="utf-8")


def figure_landmarks(card: PixelBox, expression: tuple[float, ...]) -> list[Point]:
    """Return the 68 points in pixels of the frame; those of a face that the frame cuts may lie beyond it."""
    pose = Pose.of(card[2] - card[0], expression)
    points = [
        *_jaw_points(pose),
        *_brow_landmarks(pose),
        *_nose_points(pose),
        *_eye_landmarks(pose),
        *_mouth_landmarks(pose),
    ]
    return [(card[0] + x, card[1] + y) for x, y in points]


def figure_joints(
    card: PixelBox, expression: tuple[float, ...], size: tuple[int, int]
) -> list[tuple[float, float, float]]:
    """Return the 17 joints x, y, confidence in pixels of a frame of `size`.

    The confidence is 1, or 0 for a joint off the card or off the frame, of which nothing is drawn.
    """
    width = card[2] - card[0]
    placed = []
    for x, y in _body_points(Pose.of(width, expression)):
        on_card = 0 <= x < width and 0 <= y < card_height(width)
        in_frame = 0 <= card[0] + x < size[0] and 0 <= card[1] + y < size[1]
        placed.append((card[0] + x, card[1] + y, float(on_card and in_frame)))
    return placed


def _body_points(pose: Pose) -> list[Point]:
    """Return the joints in pixels of the card, left before right; the person's left is at the image's right."""
    arms, legs = (
        {side: figure.arm_points(pose, side) for side in SIDES},
        {side: figure.leg_points(pose, side) for side in SIDES},
    )
    points = [_nose_points(pose)[3]]
    points += [figure.eye_shape(pose, side)[0] for side in (1, -1)]
    points += [pose.face(side, -EAR_HEIGHT) for side in (1, -1)]
    points += [arms[side][part] for part in range(3) for side in (1, -1)]
    points += [legs[side][0] for side in (1, -1)]
    points += [_interpolate(*legs[side], 0.5) for side in (1, -1)]
    points += [legs[side][1] for side in (1, -1)]
    return points


def _jaw_points(pose: Pose) -> list[Point]:
    """Return the points from ear to ear along the head's outline."""
    angles = np.linspace(pi + EAR_HEIGHT, -EAR_HEIGHT, 17)
    return [pose.face(float(np.cos(a)), HEAD_ASPECT * float(np.sin(a))) for a in angles]


def _brow_landmarks(pose: Pose) -> list[Point]:
    (inner, outer), other = figure.brow_points(pose, -1), figure.brow_points(pose, 1)
    steps = np.linspace(0, 1, 5)
    return [_interpolate(outer, inner, t) for t in steps] + [_interpolate(*other, t) for t in steps]


def _nose_points(pose: Pose) -> list[Point]:
    """Return the bridge downwards, then the nostrils: between the eyes and the upper lip, wherever that is."""
    lip = figure.lip_points(pose, [0])[0][0]
    bridge = [_interpolate(pose.face(0, NOSE_TOP), lip, t) for t in np.linspace(0, 0.4, 4)]
    return bridge + [_interpolate(pose.face(x, NOSE_TOP), lip, 0.55 - 0.2 * abs(x)) for x in np.linspace(-0.3, 0.3, 5)]


def _eye_landmarks(pose: Pose) -> list[Point]:
    """Return six points around each eye, from the corner at the image's left over the upper lid."""
    angles = [pi, pi * 2 / 3, pi / 3, 0, -pi / 3, -pi * 2 / 3]
    points = []
    for side in SIDES:
        (x, y), height = figure.eye_shape(pose, side)
        wide = HALF_EYE * HEAD_RADIUS * pose.unit
        points += [(x + wide * float(np.cos(a)), y - height * float(np.sin(a))) for a in angles]
    return points


def _mouth_landmarks(pose: Pose) -> list[Point]:
    """Return the outer and the inner contour. A lip is one stroke, so both lie on it; the inner one is less wide."""
    points = []
    for across in (np.linspace(-1, 1, 7), np.linspace(-0.8, 0.8, 5)):
        upper, lower = figure.lip_points(pose, across)
        points += upper + lower[-2:0:-1]
    return points


def _interpolate(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def propose_regions(people: Sequence[Box], shapes: Sequence[Box], size: tuple[int, int]) -> list[Box]:
    """Return `REGION_COUNT` boxes within a frame, the best first: people, shapes, windows; the larger ones first."""
    boxes = _large_first(people, size)
    for box in _large_first(filter(_is_no_speck, shapes), size):
        if len(boxes) >= REGION_COUNT:
            break
        fits = _is_no_speck(box) and area(box) <= MAX_AREA * size[0] * size[1]
        if fits and all(area(intersection(box, better)) < MAX_OVERLAP * area(box) for better in boxes):
            boxes.append(box)
    return (boxes + _windows(size))[:REGION_COUNT]


def _is_no_speck(box: Box) -> bool:
    return box[2] - box[0] >= MIN_SIDE and box[3] - box[1] >= MIN_SIDE


def _windows(size: tuple[int, int]) -> list[Box]:
    """Return the frame's quarters, then its ninths."""
    return [
        (size[0] * x / n, size[1] * y / n, size[0] * (x + 1) / n, size[1] * (y + 1) / n)
        for n in (2, 3)
        for y in range(n)
        for x in range(n)
    ]


def _large_first(boxes: Iterable[Box], size: tuple[int, int]) -> list[Box]:
    clipped = [intersection(box, (0, 0, *size)) for box in boxes]
    return sorted((box for box in clipped if area(box)), key=area, reverse=True)
