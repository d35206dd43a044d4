"""The image of a person as the source has it: decoded, made RGB, named by its bytes.

Sharding and the check share it. A JPEG that is far larger than needed is decoded at a half, a quarter or an eighth of
its size: memory then doesn't grow with the image. Its decoder mixes pixels within blocks, which masking must know of.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from clef.cues.view import rgb
from clef.geometry import PixelBox, outward

_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
REDUCED_ABOVE = 16_000_000
"""Pixels. Smaller images are always decoded whole."""
_BLOCK = 32
"""Pixels a side within which a JPEG's decoder may mix: 8 of a colour channel, which has every fourth pixel at least."""


class BadImage(Exception):
    """An image that can't be used; the text is the rule that says so."""


@dataclass(frozen=True)
class Frame:
    """An image in RGB, its size in the source, the sha256 of its file, and the rules that were met in reading it.

    One pixel of `image` stands for `factor` x `factor` of the source; the last ones may reach beyond it.
    """

    path: Path
    image: Image.Image
    size: tuple[int, int]
    factor: int
    digest: str
    faults: tuple[str, ...]

    def box(self, box: PixelBox) -> PixelBox:
        """A box of the source, rounded outwards in `image`."""
        return outward(tuple(value / self.factor for value in box))  # type: ignore[arg-type]

    def mask(self, box: PixelBox) -> PixelBox:
        """What of the source must be hidden so that `image` shows nothing of a box of the source.

        Where the decoder made the image smaller: all blocks that the box touches, and a pixel of `image` around them,
        because colour is interpolated between neighbours.
        """
        if self.factor == 1:
            return box
        x1, y1, x2, y2 = (value * _BLOCK for value in outward(tuple(value / _BLOCK for value in box)))  # type: ignore[arg-type]
        more, (width, height) = self.factor, self.size
        return max(0, x1 - more), max(0, y1 - more), min(width, x2 + more), min(height, y2 + more)


@lru_cache(maxsize=1)  # the people of one image follow each other
def read(path: Path, max_pixels: int, short_side: int | None = None) -> Frame:
    """The image at `path`. Raises BadImage. Annotations were drawn on the stored pixels: no EXIF rotation.

    A large JPEG keeps at least `short_side` pixels on its short side, and all of them when that is None.
    """
    read.cache_clear()  # before the next image, not after it: large ones must not both be there
    return decoded(path, max_pixels, short_side)


def decoded(path: Path, max_pixels: int, short_side: int | None) -> Frame:
    """As `read`, without keeping it for the next who asks."""
    try:
        data = path.read_bytes()
    except OSError:
        raise BadImage("image_missing" if not path.exists() else "image_unreadable") from None
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours
    try:
        image = Image.open(io.BytesIO(data))
        size = image.size
        if image.width * image.height > max_pixels:
            raise BadImage("image_too_large")
        faults = _faults(image, path)
        factor = _reduce(image, short_side)
        image.load()
        return Frame(path, rgb(image), size, factor, hashlib.sha256(data).hexdigest(), faults)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise BadImage("image_unreadable") from None


def factor_for(short_side: int, needed: int) -> int:
    """By how much a JPEG's decoder may reduce `short_side` pixels so that those needed are left."""
    return next((factor for factor in (8, 4, 2) if short_side // factor >= needed), 1)


def _reduce(image: Image.Image, short_side: int | None) -> int:
    """Have a large JPEG decoded smaller. Returns the factor; 1 for all other images."""
    width, height = image.size
    if short_side is None or width * height <= REDUCED_ABOVE:
        return 1
    factor = factor_for(min(width, height), short_side)
    return factor if image.draft(image.mode, (width // factor, height // factor)) else 1


def _faults(image: Image.Image, path: Path) -> tuple[str, ...]:
    converted = ("image_converted",) if image.mode != "RGB" else ()
    misnamed = image.format != _FORMATS.get(path.suffix.lower(), image.format)
    return (*converted, *(("image_misnamed",) if misnamed else ()))
