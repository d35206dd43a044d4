"""Writes what extractors would find in a demo set, in the format of `clef.cues.files`, below each root."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clef.cues.files import CueName, head, line, path_of
from clef.datasets.demo.keypoints import joints, landmarks
from clef.datasets.demo.pen import Extent
from clef.datasets.demo.pose import Box
from clef.datasets.demo.proposals import propose
from clef.datasets.demo.version import VERSION

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
