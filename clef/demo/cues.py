"""Writes what extractors would find in a demo set, in the format of `clef.cues.files`, below each root.

What extractors would find of a figure: iBUG's 68 landmarks and COCO's 17 joints (`clef.geometry`).

Both follow from the parts as drawn, so they show what the picture shows. Only the nose, which no figure has, is
put where it would be.

What a region proposal network would find in a picture: its people, then what stands around them.

Proposals come from what is drawn, whatever its meaning: every shape is a candidate, and nothing but its size and
place decides. Windows of fixed places fill them up, so that their number says nothing of the place either: a beach has
fewer shapes than a forest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clef.cues.files import CueName, head, line, path_of
from clef.demo import figure
from clef.demo.figure import HEAD, SIDES, TALL_HEAD, Box, Pose, card_height
from clef.demo.pen import Extent, Point
from clef.demo.world import VERSION

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
    arms, legs = {side: figure.arm(pose, side) for side in SIDES}, {side: figure.leg(pose, side) for side in SIDES}
    points = [_nose(pose)[3]]
    points += [figure.eye(pose, side)[0] for side in (1, -1)]
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
    (inner, outer), other = figure.brow(pose, -1), figure.brow(pose, 1)
    steps = np.linspace(0, 1, 5)
    return [_between(outer, inner, t) for t in steps] + [_between(*other, t) for t in steps]


def _nose(pose: Pose) -> list[Point]:
    """The bridge downwards, then the nostrils: between the eyes and the upper lip, wherever a wide mouth puts it."""
    lip = figure.lips(pose, [0])[0][0]
    bridge = [_between(pose.face(0, BRIDGE), lip, t) for t in np.linspace(0, 0.4, 4)]
    return bridge + [_between(pose.face(x, BRIDGE), lip, 0.55 - 0.2 * abs(x)) for x in np.linspace(-0.3, 0.3, 5)]


def _eyes(pose: Pose) -> list[Point]:
    """Around each eye by way of the upper lid, from the corner at the image's left."""
    angles = [pi, pi * 2 / 3, pi / 3, 0, -pi / 3, -pi * 2 / 3]
    points = []
    for side in SIDES:
        (x, y), height = figure.eye(pose, side)
        wide = LID * HEAD * pose.unit
        points += [(x + wide * float(np.cos(a)), y - height * float(np.sin(a))) for a in angles]
    return points


def _mouth(pose: Pose) -> list[Point]:
    """The outer contour and the inner one. A lip is one stroke, so both lie on it; the inner one is less wide."""
    points = []
    for across in (np.linspace(-1, 1, 7), np.linspace(-0.8, 0.8, 5)):
        upper, lower = figure.lips(pose, across)
        points += upper + lower[-2:0:-1]
    return points


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


COUNT = 12
"""So many in every picture."""
SMALLEST = 7
"""Pixels of a side; less is a speck."""
LARGEST = 0.25
"""Share of the frame; more is background."""
HIDDEN = 0.6
"""A shape with this share within a better box is part of what that one shows."""


def propose(people: Sequence[Extent], shapes: Sequence[Extent], size: tuple[int, int]) -> list[Extent]:
    """Boxes within a frame of `size` (width, height), the best first: people, shapes, windows; the larger before."""
    found = _large_first(people, size)
    for box in _large_first(filter(_is_no_speck, shapes), size):
        if len(found) >= COUNT:
            break
        area = _area(box)
        fits = _is_no_speck(box) and area <= LARGEST * size[0] * size[1]
        if fits and all(_area(_cut(box, better)) < HIDDEN * area for better in found):
            found.append(box)
    return (found + _windows(size))[:COUNT]


def _is_no_speck(box: Extent) -> bool:
    return box[2] - box[0] >= SMALLEST and box[3] - box[1] >= SMALLEST


def _windows(size: tuple[int, int]) -> list[Extent]:
    """The frame's quarters, then its ninths."""
    return [
        (size[0] * x / n, size[1] * y / n, size[0] * (x + 1) / n, size[1] * (y + 1) / n)
        for n in (2, 3)
        for y in range(n)
        for x in range(n)
    ]


def _large_first(boxes: Iterable[Extent], size: tuple[int, int]) -> list[Extent]:
    clipped = [_cut(box, (0, 0, *size)) for box in boxes]
    return sorted((box for box in clipped if _area(box)), key=_area, reverse=True)


def _cut(box: Extent, other: Extent) -> Extent:
    """What the two share."""
    return max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3])


def _area(box: Extent) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


MISSED = 33
"""Of so many people in a row, one whose landmarks are not found and, independently, one whose pose is not: the same
share in every split and class."""
COARSE = 4
"""Frame pixels per pixel of a depth map, in each direction."""
FAR, NEAR = 30, 150
"""Grey of the ground at the frame's upper edge and at its lower one. Cards are brighter, the larger the more."""


@dataclass(frozen=True)
class Listed:
    """A person as the set lists them, with what an extractor can see of them."""

    id: str
    card: Box
    expression: tuple[float, ...]
    size: tuple[int, int]
    """Of the image."""
    readable: bool
    """Whether the image can be opened."""
    face: bool
    """Whether a face was found; landmarks need one."""


@dataclass(frozen=True)
class Findings:
    """What was found of one image; None: it can't be opened."""

    root: Path
    key: str
    regions: list[Extent] | None = None
    depth: str | None = None


def write_of_people(root: Path, people: Sequence[Listed], rng: np.random.Generator) -> None:
    """Write landmarks and poses; `rng` says who is missed."""
    faceless, poseless = _missed(len(people), rng), _missed(len(people), rng)
    faces, poses = [], []
    for i, person in enumerate(people):
        drawn = person.card, person.expression
        seen = person.readable and person.face and i not in faceless
        faces.append((person.id, _rounded(landmarks(*drawn)) if seen else None))
        seen = person.readable and i not in poseless
        poses.append((person.id, _rounded(joints(*drawn, person.size)) if seen else None))
    # A detector's box of the person: the card, as far as the frame shows it.
    _write(root, "person", [(person.id, _visible(person)) for person in people])
    _write(root, "landmarks", faces)
    _write(root, "pose", poses)


def _visible(person: Listed) -> list[int] | None:
    (left, top, right, bottom), (width, height) = person.card, person.size
    return [max(0, left), max(0, top), min(width, right), min(height, bottom)] if person.readable else None


def write_of_images(findings: Sequence[Findings]) -> None:
    """Write regions and depth, each below its root."""
    for root in dict.fromkeys(found.root for found in findings):
        here = [found for found in findings if found.root == root]
        _write(root, "regions", [(f.key, f.regions) for f in here])
        _write(root, "depth", [(f.key, f.depth) for f in here])


def look(
    root: Path, key: str, people: Sequence[Box], shapes: Sequence[Extent], size: tuple[int, int], readable: bool
) -> Findings:
    """Find regions in an image of `size` (width, height) with these cards, the last on top; save its depth map."""
    if not readable:
        return Findings(root, key)
    depth = Path("depth", key).with_suffix(".png")
    path = path_of(root, "depth").parent / depth
    path.parent.mkdir(parents=True, exist_ok=True)
    depth_map(people, size).save(path)
    return Findings(root, key, _rounded(propose(people, shapes, size)), depth.as_posix())


def depth_map(people: Iterable[Box], size: tuple[int, int]) -> Image.Image:
    """Brighter is nearer: the ground comes nearer downwards, and a card stands before it, nearer when larger."""
    width, height = (-(-side // COARSE) for side in size)
    near = np.repeat(np.linspace(FAR, NEAR, height)[:, None], width, axis=1)
    for card in people:
        left, top, right, bottom = (max(0, round(edge / COARSE)) for edge in card)
        near[top:bottom, left:right] = NEAR + min(100, 1.6 * (card[2] - card[0]))
    return Image.fromarray(near.round().astype(np.uint8))


def _missed(people: int, rng: np.random.Generator) -> set[int]:
    return {start + int(rng.integers(MISSED)) for start in range(0, people, MISSED)}


def _rounded(rows: Iterable[Iterable[float]]) -> list[Any]:
    return [[round(float(value), 1) for value in row] for row in rows]


def _write(root: Path, cue: CueName, values: Iterable[tuple[str, Any]]) -> None:
    path = path_of(root, cue)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (line(key, value) for key, value in values)
    path.write_text(head(cue, "demo", str(VERSION)) + "".join(lines), encoding="utf-8")
