"""What a region proposal network would find in a picture: its people, then what stands around them.

Proposals come from what is drawn, whatever its meaning: every shape is a candidate, and nothing but its size and
place decides. Windows of fixed places fill them up, so that their number says nothing of the place either: a beach has
fewer shapes than a forest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clef.datasets.demo.pen import Extent

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
