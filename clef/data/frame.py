"""The image of a person as the source has it: decoded, made RGB, named by its bytes.

Sharding and the check share it.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


class BadImage(Exception):
    """An image that can't be used; the text is the rule that says so."""


@dataclass(frozen=True)
class Frame:
    """An image in RGB, the sha256 of its file, and the rules that were met in reading it."""

    image: Image.Image
    digest: str
    faults: tuple[str, ...]


@lru_cache(maxsize=1)  # the people of one image follow each other
def read(path: Path, max_pixels: int) -> Frame:
    """The image at `path`. Raises BadImage. Annotations were drawn on the stored pixels: no EXIF rotation."""
    try:
        data = path.read_bytes()
    except OSError:
        raise BadImage("image_missing" if not path.exists() else "image_unreadable") from None
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > max_pixels:
            raise BadImage("image_too_large")
        faults = _faults(image, path)
        return Frame(image.convert("RGB"), hashlib.sha256(data).hexdigest(), faults)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise BadImage("image_unreadable") from None


def _faults(image: Image.Image, path: Path) -> tuple[str, ...]:
    converted = ("image_converted",) if image.mode != "RGB" else ()
    misnamed = image.format != _FORMATS.get(path.suffix.lower(), image.format)
    return (*converted, *(("image_misnamed",) if misnamed else ()))
