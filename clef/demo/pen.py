"""A pen that draws in frame pixels on a finer canvas, so that small pictures come out smooth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
Extent = tuple[float, float, float, float]
"""x1, y1, x2, y2 of something drawn, in frame pixels."""

FINE = 3
"""Canvas pixels per frame pixel, in each direction."""


def shade(rng: np.random.Generator, colour: Colour, spread: int = 14) -> Colour:
    """The colour, a little off: nothing in a drawn world has one exact colour."""
    r, g, b = (int(np.clip(c + rng.integers(-spread, spread + 1), 0, 255)) for c in colour)
    return r, g, b


class Pen:
    """Wraps PIL's drawing calls; every length is in frame pixels and may be fractional."""

    def __init__(self, width: float, height: float, fill: Colour = (255, 255, 255)) -> None:
        self.width, self.height = width, height
        self.image = Image.new("RGB", (round(width * FINE), round(height * FINE)), fill)
        self._draw = ImageDraw.Draw(self.image)
        self.shapes: list[Extent] = []
        """Where boxes, ellipses, polygons and lines were drawn, in that order."""

    def box(self, x1: float, y1: float, x2: float, y2: float, fill: Colour, radius: float = 0) -> None:
        """A rectangle over the half-open area x1..x2, y1..y2; one that is empty is left out."""
        area = (x1 * FINE, y1 * FINE, x2 * FINE - 1, y2 * FINE - 1)
        if area[2] < area[0] or area[3] < area[1]:
            return
        self.shapes.append((x1, y1, x2, y2))
        if radius:
            self._draw.rounded_rectangle(area, radius * FINE, fill=fill)
        else:
            self._draw.rectangle(area, fill=fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """A filled ellipse around x, y."""
        area = ((x - rx) * FINE, (y - ry) * FINE, (x + rx) * FINE, (y + ry) * FINE)
        self.shapes.append((x - rx, y - ry, x + rx, y + ry))
        self._draw.ellipse(area, fill=fill)

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """A filled polygon."""
        self._note(points)
        self._draw.polygon([(x * FINE, y * FINE) for x, y in points], fill=fill)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A thick line with round ends and joints."""
        self._note(points)
        fine = [(x * FINE, y * FINE) for x, y in points]
        self._draw.line(fine, fill=fill, width=max(1, round(width * FINE)))
        for x, y in points:
            self.ellipse(x, y, width / 2, width / 2, fill)

    def fade(self, y1: float, y2: float, top: Colour, bottom: Colour) -> None:
        """A vertical gradient over the whole width."""
        first, rows = round(y1 * FINE), max(1, round((y2 - y1) * FINE))
        t = np.linspace(0, 1, rows)[:, None]
        column = np.array(top) * (1 - t) + np.array(bottom) * t
        strip = Image.fromarray(column.round().astype(np.uint8)[:, None, :])
        self.image.paste(strip.resize((self.image.width, rows), Image.Resampling.NEAREST), (0, first))

    def paste(self, other: Pen, x: int, y: int) -> None:
        """Lay another drawing over this one; what hangs over the edge is cut off."""
        self.image.paste(other.image, (x * FINE, y * FINE))

    def light(self, gains: Iterable[float]) -> None:
        """Scale red, green and blue, as a camera in another light does."""
        curve = [min(255, int(level * gain)) for gain in gains for level in range(256)]
        self.image = self.image.point(curve)
        self._draw = ImageDraw.Draw(self.image)

    def window(self, x: int, y: int, width: int, height: int) -> Pen:
        """A copy of a part of this drawing, without its shapes."""
        part = Pen.__new__(Pen)
        part.width, part.height = width, height
        part.image = self.image.crop((x * FINE, y * FINE, (x + width) * FINE, (y + height) * FINE))
        part._draw = ImageDraw.Draw(part.image)
        part.shapes = []
        return part

    def finish(self) -> Image.Image:
        """The picture at frame size: each pixel is the mean of its canvas pixels."""
        return self.image.reduce(FINE)

    def _note(self, points: Sequence[Point]) -> None:
        xs, ys = zip(*points, strict=True)
        self.shapes.append((min(xs), min(ys), max(xs), max(ys)))
