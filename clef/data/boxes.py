"""Boxes x1, y1, x2, y2 of pixels: rounded and rescaled. 0-based, half-open. Imports no torch."""

import math

from clef.datasets.person import Box

PixelBox = tuple[int, int, int, int]


def outward(box: Box) -> PixelBox:
    """Whole pixels that cover all of the box."""
    return math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])


def scaled(box: PixelBox, source: tuple[int, int], stored: tuple[int, int]) -> PixelBox:
    """A box of a frame of size `source`, rounded outwards in the same frame at size `stored` (width, height)."""
    x, y = stored[0] / source[0], stored[1] / source[1]
    return outward((box[0] * x, box[1] * y, min(box[2] * x, stored[0]), min(box[3] * y, stored[1])))
