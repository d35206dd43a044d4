"""The part of a frame that an extractor looks at, and the way back to the frame's pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clef import geometry
from clef.datasets.person import Box

MAX_PIXELS = 200_000_000  # EMOTIC holds images of up to 11,617 pixels a side


@dataclass(frozen=True)
class View:
    """`pixels` h,w,3 uint8 RGB: a cut-out of the frame from `x`, `y` on; one pixel is `scale` of the frame's wide."""

    pixels: np.ndarray
    x: int
    y: int
    scale: float

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A place in the view, in pixels of the frame."""
        return self.x + x * self.scale, self.y + y * self.scale

    def box(self, box: Sequence[float]) -> Box:
        """x1, y1, x2, y2 in the view, in pixels of the frame."""
        return *self.point(box[0], box[1]), *self.point(box[2], box[3])


def view(frame: np.ndarray, box: Box, margin: float = 0.1, longest: int = 640) -> View:
    """The box with a margin (a share of its sides), no side longer than `longest`: detectors need no more."""
    left, top, right, bottom = (round(v) for v in geometry.grown(box, margin))
    height, width = frame.shape[:2]
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    part = frame[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = max(1.0, max(part.shape[:2]) / longest)
    if scale > 1:
        size = max(1, round(part.shape[1] / scale)), max(1, round(part.shape[0] / scale))
        part = np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    return View(np.ascontiguousarray(part), left, top, scale)


def rgb(image: Image.Image) -> Image.Image:
    """The image in RGB. Grey of 16 bits is scaled to 8: Pillow would make white of all but the darkest."""
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    return image if image.mode == "RGB" else image.convert("RGB")


class Unreadable(Exception):
    """An image that can't be used; the text says why."""


def read(path: Path) -> np.ndarray:
    """An image as H,W,3 uint8 RGB, as stored: no EXIF rotation, for annotations were drawn so. Raises Unreadable."""
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Unreadable("image too large")
            return np.asarray(rgb(image))
    except FileNotFoundError:
        raise Unreadable("image missing") from None
    except OSError as error:
        raise Unreadable(f"image unreadable: {error.strerror}" if error.strerror else "image truncated") from None
    except (SyntaxError, ValueError):
        raise Unreadable("image truncated or not an image") from None
