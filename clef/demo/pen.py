"""A pen that draws in frame pixels on a finer canvas, so that small pictures come out smooth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from clef.geometry import Box

Color = tuple[int, int, int]
Point = tuple[float, float]

OVERSAMPLING = 3
"""Canvas pixels per frame pixel, in each direction."""


def shade(rng: np.random.Generator, color: Color, spread: int = 14) -> Color:
    """Return the colour, changed a little: nothing in a drawn world has one exact colour."""
    r, g, b = (int(np.clip(c + rng.integers(-spread, spread + 1), 0, 255)) for c in color)
    return r, g, b


class Pen:
    """Wraps Pillow's drawing calls. Every length is in frame pixels and may be fractional."""

    def __init__(self, width: float, height: float, fill: Color = (255, 255, 255)) -> None:
        self.width, self.height = width, height
        self.image = Image.new("RGB", (round(width * OVERSAMPLING), round(height * OVERSAMPLING)), fill)
        self._draw = ImageDraw.Draw(self.image)
        self.shapes: list[Box] = []
        """The boxes around all that was drawn (rectangles, ellipses, polygons, lines), in the order of drawing."""

    def box(self, x1: float, y1: float, x2: float, y2: float, fill: Color, radius: float = 0) -> None:
        """Draw a rectangle over the half-open area x1..x2, y1..y2; an empty one is left out."""
        area = (x1 * OVERSAMPLING, y1 * OVERSAMPLING, x2 * OVERSAMPLING - 1, y2 * OVERSAMPLING - 1)
        if area[2] < area[0] or area[3] < area[1]:
            return
        self.shapes.append((x1, y1, x2, y2))
        if radius:
            self._draw.rounded_rectangle(area, radius * OVERSAMPLING, fill=fill)
        else:
            self._draw.rectangle(area, fill=fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Color) -> None:
        """Draw a filled ellipse around x, y."""
        area = ((x - rx) * OVERSAMPLING, (y - ry) * OVERSAMPLING, (x + rx) * OVERSAMPLING, (y + ry) * OVERSAMPLING)
        self.shapes.append((x - rx, y - ry, x + rx, y + ry))
        self._draw.ellipse(area, fill=fill)

    def polygon(self, points: Sequence[Point], fill: Color) -> None:
        """Draw a filled polygon."""
        self._note_shape(points)
        self._draw.polygon([(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points], fill=fill)

    def line(self, points: Sequence[Point], width: float, fill: Color) -> None:
        """Draw a thick line with round ends and joints."""
        self._note_shape(points)
        fine = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
        self._draw.line(fine, fill=fill, width=max(1, round(width * OVERSAMPLING)))
        for x, y in points:
            self.ellipse(x, y, width / 2, width / 2, fill)

    def fade(self, y1: float, y2: float, top: Color, bottom: Color) -> None:
        """Draw a vertical gradient over the whole width."""
        first, rows = round(y1 * OVERSAMPLING), max(1, round((y2 - y1) * OVERSAMPLING))
        t = np.linspace(0, 1, rows)[:, None]
        column = np.array(top) * (1 - t) + np.array(bottom) * t
        strip = Image.fromarray(column.round().astype(np.uint8)[:, None, :])
        self.image.paste(strip.resize((self.image.width, rows), Image.Resampling.NEAREST), (0, first))

    def paste(self, other: Pen, x: int, y: int) -> None:
        """Lay another drawing over this one; what lies beyond the edge is cut off."""
        self.image.paste(other.image, (x * OVERSAMPLING, y * OVERSAMPLING))

    def light(self, gains: Iterable[float]) -> None:
        """Scale red, green and blue, as another light would."""
        curve = [min(255, int(level * gain)) for gain in gains for level in range(256)]
        self.image = self.image.point(curve)
        self._draw = ImageDraw.Draw(self.image)

    def window(self, x: int, y: int, width: int, height: int) -> Pen:
        """Return a copy of a part of this drawing, without its shapes."""
        part = Pen.__new__(Pen)  # not Pen(): it would draw a canvas that is thrown away
        part.width, part.height = width, height
        part.image = self.image.crop(
            (x * OVERSAMPLING, y * OVERSAMPLING, (x + width) * OVERSAMPLING, (y + height) * OVERSAMPLING)
        )
        part._draw = ImageDraw.Draw(part.image)
        part.shapes = []
        return part

    def finish(self) -> Image.Image:
        """Return the picture at frame size: each pixel is the mean of its canvas pixels."""
        return self.image.reduce(OVERSAMPLING)

    def _note_shape(self, points: Sequence[Point]) -> None:
        xs, ys = zip(*points, strict=True)
        self.shapes.append((min(xs), min(ys), max(xs), max(ys)))
