"""Images as cameras, scanners and editors save them: grey of 16 bits, palettes, text in a PNG."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from clef.cues.view import UnreadableImage, read_image
from clef.sharding.frame import Frame, UnusableImage, decode_frame

RAMP = np.arange(0, 65536, 32).reshape(32, 64)


def decoded(path: Path) -> Frame:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return decode_frame(path, 10**6, None)


def write_tiff(path: Path, order: str) -> None:
    """A grey TIFF of 16 bits in either byte order, without Pillow, which writes one of them."""
    pixels = RAMP.astype(f"{order}u2").tobytes()
    entries = [(256, 64), (257, 32), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 32), (279, len(pixels))]
    numbers = np.dtype(",".join(f"{order}u{size}" for size in (2, 2, 4, 4)))  # tag, type, count, value
    table = np.array([(tag, 4, 1, value) for tag, value in entries], numbers)
    ends = np.array([8 + len(pixels)], f"{order}u4").tobytes(), np.array([len(table)], f"{order}u2").tobytes()
    mark = b"II*\0" if order == "<" else b"MM\0*"
    path.write_bytes(mark + ends[0] + pixels + ends[1] + table.tobytes() + bytes(4))


@pytest.mark.parametrize("kind", ["png", "pgm", "<tif", ">tif"])
def test_grey_of_16_bits_keeps_its_upper_8(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind[-3:]}"
    if kind == "pgm":
        path.write_bytes(b"P5 64 32 65535\n" + RAMP.astype(">u2").tobytes())
    elif kind == "png":
        Image.fromarray(RAMP.astype(np.uint16)).save(path)
    else:
        write_tiff(path, kind[0])
    expected = np.repeat((RAMP // 256)[..., None], 3, axis=2)
    frame = decoded(path)
    np.testing.assert_array_equal(np.asarray(frame.pixels), expected)
    np.testing.assert_array_equal(read_image(path), expected)
    assert frame.faults == ("image_converted",)


@pytest.mark.parametrize("values", [RAMP.astype(np.float32), (RAMP - 9).astype(np.int32), RAMP.astype(np.int32) * 2])
def test_grey_of_an_unknown_range_is_refused(values: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(UnusableImage, match="image_unreadable"):
        decoded(tmp_path / "x.tif")
    with pytest.raises(UnreadableImage, match="of neither 8 nor 16 bits"):
        read_image(tmp_path / "x.tif")


def test_a_palette_with_transparency_gives_its_colors_and_no_warning(tmp_path: Path) -> None:
    image = Image.fromarray((np.indices((8, 8)).sum(0) % 3).astype(np.uint8)).convert("P")
    colors = np.array([(200, 10, 30), (0, 90, 60), (5, 6, 7)], np.uint8)
    image.putpalette(colors.tobytes())
    image.save(tmp_path / "x.png", transparency=bytes([0, 128, 255]))
    np.testing.assert_array_equal(np.asarray(decoded(tmp_path / "x.png").pixels), colors[np.asarray(image)])


def test_a_png_with_the_long_history_of_an_editor_is_read(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "history " * 500_000, zip=True)  # 4 MB
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    image.save(tmp_path / "x.png", pnginfo=info)
    np.testing.assert_array_equal(np.asarray(decoded(tmp_path / "x.png").pixels), np.asarray(image))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), np.asarray(image))
