"""From the bytes of an image to pixels at the size that a network wants, on one core and without torch.

simplejpeg (libjpeg-turbo) and OpenCV take a third less time than torchvision, and importing them doesn't take seconds.
Encoders of other libraries want their pictures resized as in their training: by Pillow, from the whole picture.
"""

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from clef.config.inputs import Resizing
from clef.geometry import Size

VERSION = 1
"""Raised when the same bytes would become other pixels: images that were cached before are then not used again."""


class UndecodableImage(ValueError):
    """The bytes are not the image that they should be, or end too soon; the text says which."""


_PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


def decode_image(data: bytes, out: np.ndarray, how: Resizing | None = None) -> None:
    """Decode an image and resize it into `out`, uint8: squashed as `resize` does, or as `how` says.

    `out` is H,W,3 for a JPEG, which becomes RGB, and H,W,1 for a gray PNG. Raises UndecodableImage.
    """
    if how and (how.interpolation, how.fit) != ("area", "squash"):
        _decode_otherwise(data, out, how)
    elif out.shape[2] == 3:
        resize(*_decode_jpeg(data, (out.shape[0], out.shape[1])), out)
    else:
        pixels = _decode_png(data)
        resize(pixels, (pixels.shape[0], pixels.shape[1]), out[:, :, 0])


def _decode_otherwise(data: bytes, out: np.ndarray, how: Resizing) -> None:
    """Decode a JPEG and resize all of it with a filter of Pillow's, or into the middle of a black `out`, or both."""
    try:
        pixels = simplejpeg.decode_jpeg(data, strict=True)
    except ValueError as error:
        raise UndecodableImage(f"not an image that can be decoded ({error})") from None
    stored = pixels.shape[0], pixels.shape[1]
    top, left, height, width = placement(stored, how)
    if how.interpolation == "area":
        resized = np.empty((height, width, 3), np.uint8)
        resize(pixels, stored, resized)
    else:
        image = Image.fromarray(pixels).resize((width, height), _PILLOW[how.interpolation])
        resized = np.asarray(image)
    if (height, width) != out.shape[:2]:
        out[:] = 0
    out[top : top + height, left : left + width] = resized


def placement(stored: Size, how: Resizing) -> tuple[int, int, int, int]:
    """Return top, left, height and width of where an image of size `stored` lies once it is resized.

    A letterbox keeps the aspect ratio, rounds both sides, and of an odd number of black lines has one more below or on
    the right, as timm's and open_clip's have.
    """
    height, width = how.size
    if how.fit == "squash":
        return 0, 0, height, width
    scale = min(height / stored[0], width / stored[1])
    inner = max(1, round(stored[0] * scale)), max(1, round(stored[1] * scale))
    return (height - inner[0]) // 2, (width - inner[1]) // 2, *inner


def resize(pixels: np.ndarray, extent: tuple[float, float], out: np.ndarray) -> None:
    """Resize the part of the pixels that covers `extent` (height, width, from the top left) to the size of `out`.

    Done in bilinear steps: first to the target size times a power of two, which less than halves each side, and then
    by halvings, in which each pixel is the mean of the four below it. So every pixel counts, as in OpenCV's INTER_AREA,
    in a third of its time.
    """
    height, width = out.shape[:2]
    down, across = _count_halvings(extent[0], height), _count_halvings(extent[1], width)
    for remaining in range(max(down, across), -1, -1):
        size = height << min(remaining, down), width << min(remaining, across)
        target = None if remaining else out
        if extent == pixels.shape[:2]:
            pixels = cv2.resize(pixels, (size[1], size[0]), dst=target, interpolation=cv2.INTER_LINEAR)
        else:
            pixels = _resize_part(pixels, extent, size, target)
        extent = size


def _count_halvings(stored: float, wanted: int) -> int:
    """Return how often a side can be halved without becoming smaller than wanted."""
    return max(0, int(stored // wanted).bit_length() - 1)


def _resize_part(pixels: np.ndarray, extent: tuple[float, float], size: Size, out: np.ndarray | None) -> np.ndarray:
    """Resize as cv2.resize does, but from an extent that ends within a pixel."""
    y, x = extent[0] / size[0], extent[1] / size[1]
    inverse = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, inverse, size[::-1], dst=out, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _decode_jpeg(data: bytes, wanted: Size) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the pixels of a JPEG, reduced where that is still large enough, and the extent that its image covers.

    The decoder reduces to a half, a quarter or an eighth. Half of 341 pixels are 171, of which the last lies half
    beyond the edge: the extent is 170.5.
    """
    try:
        stored = simplejpeg.decode_jpeg_header(data, strict=True)[:2]
        # Factors between these (7/8, 3/4, ...) have no SIMD code and take twice the time of the whole image.
        factor = next((f for f in (8, 4, 2) if stored[0] >= f * wanted[0] and stored[1] >= f * wanted[1]), 1)
        least = -(-stored[0] // factor), -(-stored[1] // factor)
        # `strict`: data that end too soon are an error, not gray pixels.
        pixels = simplejpeg.decode_jpeg(data, min_height=least[0], min_width=least[1], min_factor=factor, strict=True)
    except ValueError as error:
        raise UndecodableImage(f"not an image that can be decoded ({error})") from None
    return pixels, (stored[0] / factor, stored[1] / factor)


def _decode_png(data: bytes) -> np.ndarray:
    """Return the pixels H,W of a gray PNG. OpenCV checks the checksums, and returns None for a file that is cut."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if pixels is None:
        raise UndecodableImage("not an image that can be decoded (no PNG, or not all of it)")
    return pixels
