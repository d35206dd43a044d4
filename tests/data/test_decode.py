"""Decoding and squashing, against Pillow, and what happens with bytes that are damaged."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from skimage import data

from clef.data import decode

PHOTO = Image.fromarray(data.astronaut())
FRAME = PHOTO.crop((0, 60, 512, 444)).resize((341, 256), Image.Resampling.LANCZOS)  # as frames of 4:3 are stored
TALL = PHOTO.crop((130, 0, 330, 500)).resize((160, 400), Image.Resampling.LANCZOS)  # as bodies are


def encoded(image: Image.Image, kind: str = "JPEG", quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": quality, "subsampling": 0} if kind == "JPEG" else {}))
    return buffer.getvalue()


def decoded(content: bytes, size: tuple[int, int], channels: int = 3) -> np.ndarray:
    out = np.full((*size, channels), 77, np.uint8)
    decode.decode_image(content, out)
    return out


def far(pixels: np.ndarray, image: Image.Image, how: Image.Resampling = Image.Resampling.BILINEAR) -> float:
    """The mean absolute difference to Pillow's antialiased resize, in grey levels."""
    theirs = np.asarray(image.resize((pixels.shape[1], pixels.shape[0]), how))
    return float(np.abs(pixels.astype(float) - theirs.reshape(pixels.shape)).mean())


SIZES = [(224, 224), (128, 171), (128, 128), (112, 112), (96, 96), (64, 64), (48, 48)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("image", [PHOTO, FRAME, TALL], ids=["photo", "frame", "tall"])
def test_a_photograph_is_squashed_nearly_as_pillow_does_it(image: Image.Image, size: tuple[int, int]) -> None:
    # Pillow's own filters, BILINEAR and BOX, are 1 to 4 levels from each other here; without an antialiasing filter,
    # the distance is 3 to 13.
    mine = decoded(encoded(image), size)
    assert min(far(mine, image), far(mine, image, Image.Resampling.BOX)) < 3


def test_without_antialiasing_it_would_be_far_away() -> None:
    # The control of the test above.
    aliased = np.asarray(TALL.resize((64, 64), Image.Resampling.NEAREST))
    assert far(aliased, TALL) > 9


@pytest.mark.parametrize("size", [(341, 256), (170, 128), (85, 64), (40, 33), (300, 100)])
def test_squashing_moves_nothing(size: tuple[int, int]) -> None:
    # Halves of odd sides end within a pixel: a ramp shows where each pixel came from.
    width, height = 341, 257
    across, down = np.meshgrid(np.linspace(10, 240, width), np.linspace(10, 240, height))
    x, y = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in ((size[1], width), (size[0], height)))
    inner = slice(3, -3)  # the filter leans on the edge in the outermost pixels
    for ramp, axis, expected in ((across, 0, x / (width - 1)), (down, 1, y / (height - 1))):
        mine = decoded(encoded(Image.fromarray(ramp.round().astype(np.uint8)), quality=100), size)
        seen = mine[inner, inner, 0].astype(float).mean(axis)
        error = seen - (10 + 230 * expected[inner])
        assert np.abs(error).max() < 1.5
        # All three are rounded. Stretched by the half pixel, the far end would be 0.5 to 2 levels off.
        assert abs(error[-len(error) // 4 :].mean()) < 0.35


def test_at_its_own_size_a_jpeg_is_what_pillow_decodes() -> None:
    content = encoded(FRAME)
    theirs = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    assert np.abs(decoded(content, (256, 341)) - theirs).max() <= 1


def test_a_grey_jpeg_has_three_equal_channels() -> None:
    mine = decoded(encoded(FRAME.convert("L")), (60, 80))
    assert (mine == mine[:, :, :1]).all()
    assert far(mine[:, :, :1], FRAME.convert("L")) < 3


def test_a_depth_map_is_exact_at_its_own_size_and_near_at_others() -> None:
    grey = FRAME.convert("L")
    assert np.array_equal(decoded(encoded(grey, "PNG"), (256, 341), 1)[:, :, 0], np.asarray(grey))
    assert far(decoded(encoded(grey, "PNG"), (112, 112), 1), grey) < 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.01, 0.5, 0.99, "all but a byte"])
def test_what_is_cut_short_is_an_error_not_a_grey_picture(kind: str, kept: float | str) -> None:
    content = encoded(PHOTO if kind == "JPEG" else PHOTO.convert("L"), kind)
    cut = content[:-1] if isinstance(kept, str) else content[: int(kept * len(content))]
    with pytest.raises(decode.UndecodableImage, match="not an image that can be decoded"):
        decoded(cut, (64, 64), 3 if kind == "JPEG" else 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("content", [b"nothing", b"\x89PNG\r\n\x1a\nno picture", b"\xff\xd8\xff\xe0no picture"])
def test_garbage_is_an_error(content: bytes, channels: int) -> None:
    with pytest.raises(decode.UndecodableImage, match="not an image that can be decoded"):
        decoded(content, (64, 64), channels)


def test_a_jpeg_with_a_hole_is_an_error() -> None:
    content = encoded(PHOTO)
    with pytest.raises(decode.UndecodableImage):
        decoded(content[:20000] + bytes(20000) + content[40000:], (64, 64))


@pytest.mark.slow
def test_the_data_layer_imports_no_torchvision() -> None:
    # Importing torchvision.io takes seconds, in each command and each worker that is spawned.
    code = "import sys, clef.data.loader; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
