"""The part of a frame that an extractor searches, and the way back to the frame's pixels; reading images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clef import geometry
from clef.datasets.orientation import open_image, read_orientation, turn_image
from clef.errors import raise_if_system_error
from clef.geometry import Box

MAX_PIXELS = 200_000_000  # EMOTIC holds images of up to 11,617 pixels a side


@dataclass(frozen=True)
class View:
    """A part of a frame, made smaller where it is large."""

    pixels: np.ndarray
    """h,w,3 uint8 RGB."""
    x: int
    """The part's left edge in the frame, and below its top edge."""
    y: int
    scale: float
    """How many pixels of the frame one pixel of the view is wide."""

    @property
    def height(self) -> int:
        """Return the number of rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return int(self.pixels.shape[1])

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Convert a point of the view to pixels of the frame."""
        return self.x + x * self.scale, self.y + y * self.scale

    def box(self, box: Sequence[float]) -> Box:
        """Convert a box x1, y1, x2, y2 of the view to pixels of the frame."""
        return *self.point(box[0], box[1]), *self.point(box[2], box[3])


def crop_view(frame: np.ndarray, box: Box, margin: float = 0.1, longest: int = 640) -> View:
    """Return the part of a frame in the box, with a margin that is a share of the box's sides.

    It is made smaller until no side is longer than `longest` pixels: detectors need no more.
    """
    left, top, right, bottom = (round(v) for v in geometry.expand(box, margin))
    height, width = frame.shape[:2]
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    part = frame[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = max(1.0, max(part.shape[:2]) / longest)
    if scale > 1:
        size = max(1, round(part.shape[1] / scale)), max(1, round(part.shape[0] / scale))
        part = np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    return View(np.ascontiguousarray(part), left, top, scale)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB. Grey of 16 bits is scaled to 8 bits; Pillow alone would turn almost all of it white.

    Raises ValueError for grey of other ranges, such as floats: nothing tells what is white.
    """
    if image.mode.startswith(("I", "F")):  # Pillow's mode I holds 16 bits as well, such as those of a PGM
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError(f"grey of mode {image.mode}")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "P":  # by way of RGBA, else Pillow warns of a palette with transparency
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


class UnreadableImage(Exception):
    """An image that can't be used; the text says why."""


def read_image(path: Path) -> np.ndarray:
    """Return an image as H,W,3 uint8 RGB, turned as its EXIF data says. Raises what `read_turned` does."""
    return read_turned(path)[0]


def read_turned(path: Path) -> tuple[np.ndarray, int]:
    """Return an image as `read_image` does, and the EXIF orientation (1-8) of what is stored.

    Raises UnreadableImage, and SetupError where the system won't read it.
    """
    try:
        with open_image(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage("image too large")
            orientation = read_orientation(image)
            image.load()
            return np.asarray(to_rgb(turn_image(image, orientation))), orientation
    except FileNotFoundError:
        raise UnreadableImage("image missing") from None
    except OSError as error:
        raise_if_system_error(error, path)
        raise UnreadableImage(f"image unreadable: {error.strerror}" if error.strerror else "image truncated") from None
    except (SyntaxError, ValueError):
        raise UnreadableImage("image truncated, not an image, or of neither 8 nor 16 bits") from None
