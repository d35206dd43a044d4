"""The image of a person: decoded, turned as its EXIF data says, converted to RGB, with the hash of its file.

Sharding and the check share it. A JPEG that is far larger than needed is decoded at a half, a quarter or an eighth of
its size, so memory doesn't grow with the image. That decoder mixes pixels within blocks, which masking must know of.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from clef.cues.view import to_rgb
from clef.datasets.orientation import open_image, read_orientation, size_when_turned, turn_image
from clef.errors import raise_if_system_error
from clef.geometry import PixelBox, Size, round_outward, turn_back, turn_box, turned_size

_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
REDUCED_ABOVE = 16_000_000
"""Pixels. Smaller images are always decoded whole."""
_BLOCK = 32
"""The side, in pixels, within which a JPEG's decoder may mix: a block is 8 pixels of a color channel, and a channel has
a quarter of the image's pixels on each side at least."""


class UnusableImage(Exception):
    """An image that can't be used; the text is the rule that says so."""


@dataclass(frozen=True)
class Frame:
    """A decoded image, turned upright, and what is known of its file.

    One pixel of `pixels` stands for `factor` x `factor` of the source; the last ones may reach beyond it.
    """

    path: Path
    pixels: Image.Image
    """RGB."""
    size: Size
    """Height and width in the source, when it is turned."""
    orientation: int
    """What EXIF says of how it is stored, 1-8; 1: upright."""
    factor: int
    sha256: str
    """Of the file."""
    faults: tuple[str, ...]
    """The rules that were met in reading it."""

    def reduce_box(self, box: PixelBox) -> PixelBox:
        """Return a box of the source in the pixels of `pixels`, rounded outward."""
        return round_outward(tuple(value / self.factor for value in box))  # type: ignore[arg-type]

    def mask(self, box: PixelBox) -> PixelBox:
        """Return the box of the source that must be hidden so that `pixels` shows nothing of `box`.

        Where the decoder reduced the image: all blocks that the box touches, and one reduced pixel around them, because
        the decoder interpolates color between neighbors.
        """
        if self.factor == 1:
            return box
        # Blocks begin at a corner of what is stored.
        stored_box = turn_box(box, turn_back(self.orientation), self.size)
        x1, y1, x2, y2 = (value * _BLOCK for value in round_outward(tuple(value / _BLOCK for value in stored_box)))  # type: ignore[arg-type]
        margin, (height, width) = self.factor, turned_size(self.size, self.orientation)
        hidden = max(0, x1 - margin), max(0, y1 - margin), min(width, x2 + margin), min(height, y2 + margin)
        return round_outward(turn_box(hidden, self.orientation, (height, width)))


@lru_cache(maxsize=1)  # the people of one image come one after another
def read_frame(path: Path, max_pixels: int, short_side: int | None = None) -> Frame:
    """Return the image at `path`. Raises UnusableImage, and SetupError where the system doesn't let it be read.

    A large JPEG keeps at least `short_side` pixels on its short side, and all of them when that is None.
    """
    # Drop the last image before the next is decoded, not after it: two large ones may not fit in memory.
    read_frame.cache_clear()
    return decode_frame(path, max_pixels, short_side)


def decode_frame(path: Path, max_pixels: int, short_side: int | None) -> Frame:
    """Return the image at `path` as `read_frame` does, without caching it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise_if_system_error(error, path)
        raise UnusableImage("image_missing" if not path.exists() else "image_unreadable") from None
    try:
        image = open_image(io.BytesIO(data))
        if image.width * image.height > max_pixels:
            raise UnusableImage("image_too_large")
        orientation = read_orientation(image)
        size = size_when_turned(image, orientation)
        faults = _faults(image, path, orientation)
        factor = _reduce(image, short_side, orientation)
        image.load()
        pixels = to_rgb(turn_image(image, orientation))
        return Frame(path, pixels, size, orientation, factor, hashlib.sha256(data).hexdigest(), faults)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise UnusableImage("image_unreadable") from None


def reduction_for(short_side: int, needed: int) -> int:
    """Return the largest factor by which a JPEG's decoder may reduce `short_side` pixels and leave `needed` ones."""
    return next((factor for factor in (8, 4, 2) if short_side // factor >= needed), 1)


def _reduce(image: Image.Image, short_side: int | None, orientation: int) -> int:
    """Have a large JPEG decoded smaller. Returns the factor; 1 for all other images."""
    width, height = image.size
    if short_side is None or width * height <= REDUCED_ABOVE:
        return 1
    factor = reduction_for(min(width, height), short_side)
    if orientation != 1 and (width % factor or height % factor):
        return 1  # else its incomplete last pixels could come first when it is turned
    return factor if image.draft(image.mode, (width // factor, height // factor)) else 1


def _faults(image: Image.Image, path: Path, orientation: int) -> tuple[str, ...]:
    format_ = "JPEG" if image.format == "MPO" else image.format  # what Pillow calls a phone's JPEG with a preview in it
    misnamed = format_ != _FORMATS.get(path.suffix.lower(), format_)
    met = {"image_converted": image.mode != "RGB", "image_misnamed": misnamed, "image_rotated": orientation != 1}
    return tuple(rule for rule, is_met in met.items() if is_met)
