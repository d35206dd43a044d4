"""From the bytes of a picture to pixels at the size that a network wants, on one core and without torch.

simplejpeg (libjpeg-turbo) and OpenCV take a third less time than torchvision, and importing them takes no seconds.
"""

import cv2
import numpy as np
import simplejpeg

VERSION = 1
"""Raised when the same bytes would become other pixels: what was decoded before is then not used again."""


class Undecodable(ValueError):
    """The bytes are not the picture they should be, or end too soon; the text says which, for a sentence."""


def picture(data: bytes, out: np.ndarray) -> None:
    """Decode into `out`, uint8, and squash to its size: a JPEG to H,W,3 in RGB, or a grey PNG to H,W,1.

    Raises Undecodable.
    """
    if out.shape[2] == 3:
        squash(*_jpeg(data, out.shape[0], out.shape[1]), out)
    else:
        pixels = _png(data)
        squash(pixels, (pixels.shape[0], pixels.shape[1]), out[:, :, 0])


def squash(pixels: np.ndarray, extent: tuple[float, float], out: np.ndarray) -> None:
    """Resize what covers `extent` of the pixels (height, width, from the top left) to the size of `out`.

    Bilinear steps: one to the size times a power of two, each side less than halved, and then halvings, in which a
    pixel is the mean of those under it. So each pixel counts, as in OpenCV's AREA, in a third of its time.
    """
    height, width = out.shape[:2]
    down, across = _halvings(extent[0], height), _halvings(extent[1], width)
    for left in range(max(down, across), -1, -1):
        size, target = (width << min(left, across), height << min(left, down)), None if left else out
        if extent == pixels.shape[:2]:
            pixels = cv2.resize(pixels, size, dst=target, interpolation=cv2.INTER_LINEAR)
        else:
            pixels = _stretched(pixels, extent, size, target)
        extent = size[1], size[0]


def _halvings(stored: float, wanted: int) -> int:
    return max(0, int(stored // wanted).bit_length() - 1)


def _stretched(
    pixels: np.ndarray, extent: tuple[float, float], size: tuple[int, int], out: np.ndarray | None
) -> np.ndarray:
    """As cv2.resize, from an extent that ends within a pixel."""
    x, y = extent[1] / size[0], extent[0] / size[1]
    back = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, back, size, dst=out, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _jpeg(data: bytes, height: int, width: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Decoded at a half, a quarter or an eighth where that is no smaller than the size wanted, and its extent.

    Half of 341 pixels are 171, the last of them half beyond the edge: the extent is 170.5.
    """
    try:
        stored = simplejpeg.decode_jpeg_header(data, strict=True)[:2]
        # Factors between these (7/8, 3/4, ...) have no SIMD code and take twice the time of the whole image.
        by = next((f for f in (8, 4, 2) if stored[0] >= f * height and stored[1] >= f * width), 1)
        least = -(-stored[0] // by), -(-stored[1] // by)
        # `strict`: data that end too soon are an error, not grey pixels.
        pixels = simplejpeg.decode_jpeg(data, min_height=least[0], min_width=least[1], min_factor=by, strict=True)
    except ValueError as error:
        raise Undecodable(f"not an image that can be decoded ({error})") from None
    return pixels, (stored[0] / by, stored[1] / by)


def _png(data: bytes) -> np.ndarray:
    """Grey, at its own size. OpenCV checks the checksums, and gives nothing for a file that is cut."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if pixels is None:
        raise Undecodable("not an image that can be decoded (no PNG, or not all of it)")
    return pixels
