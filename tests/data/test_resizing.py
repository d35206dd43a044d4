"""How pictures reach an encoder: as timm's, open_clip's and torchvision's own transforms bring them there.

Measured on these photographs: with the same decoded pixels and Pillow's filters, every uint8 value is equal, so that
normalized ones differ by the rounding of float32 alone.
"""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clef.config import InputConfig
from clef.data import decode, transforms
from clef.data.loader import to_device

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TOLERANCE = 1e-5
"""Of normalized values: float32's rounding of (x / 255 - mean) / std."""


def photographs() -> dict[str, bytes]:
    """Return real photographs as JPEG, square and not."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    pictures = {"astronaut": data.astronaut(), "china": china, "flower": flower, "tall": china[:, 200:400]}
    files = {}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(file := BytesIO(), "JPEG", quality=95)
        files[name] = file.getvalue()
    return files


@pytest.fixture(scope="module", name="photographs")
def _photographs() -> dict[str, bytes]:
    return photographs()


def ours(data: bytes, config: InputConfig) -> torch.Tensor:
    """Return the normalized image 3,H,W, as a batch has it."""
    out = np.empty((*config.shape, 3), np.uint8)
    decode.decode_image(data, out, config.resizing)
    batch = {"body": torch.from_numpy(out).permute(2, 0, 1)[None], "valid": {"body": torch.ones(1, dtype=torch.bool)}}
    image: torch.Tensor = to_device(batch, {"body": config}, torch.device("cpu"))["body"][0]
    return image


def image_of(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data)).convert("RGB")


@pytest.mark.parametrize("size", [(160, 160), (224, 224)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_squashed_they_are_timms(photographs: dict[str, bytes], interpolation: Any, size: tuple[int, int]) -> None:
    from timm.data import create_transform

    transform = create_transform(
        (3, *size), crop_pct=1.0, crop_mode="squash", interpolation=interpolation, mean=MEAN, std=STD
    )
    config = InputConfig(size=size, interpolation=interpolation, mean=MEAN, std=STD)
    for data in photographs.values():
        torch.testing.assert_close(ours(data, config), transform(image_of(data)), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("fit", "mode"), [("squash", "squash"), ("letterbox", "longest")])
def test_squashed_and_in_letterboxes_they_are_open_clips(photographs: dict[str, bytes], fit: Any, mode: str) -> None:
    from open_clip.transform import image_transform

    transform = image_transform(224, is_train=False, mean=MEAN, std=STD, resize_mode=mode, interpolation="bicubic")
    config = InputConfig(size=(224, 224), interpolation="bicubic", fit=fit, mean=MEAN, std=STD)
    for data in photographs.values():
        torch.testing.assert_close(ours(data, config), transform(image_of(data)), atol=TOLERANCE, rtol=0)


def test_in_letterboxes_they_are_timms_but_for_the_color_of_the_bars(photographs: dict[str, bytes]) -> None:
    from timm.data import create_transform

    transform = create_transform((3, 224, 224), crop_pct=1.0, crop_mode="border", interpolation="bicubic")
    config = InputConfig(size=(224, 224), interpolation="bicubic", fit="letterbox")
    for data in photographs.values():
        image = image_of(data)
        top, left, height, width = decode.placement((image.height, image.width), config.resizing)
        inside = np.s_[:, top : top + height, left : left + width]
        torch.testing.assert_close(ours(data, config)[inside], transform(image)[inside], atol=TOLERANCE, rtol=0)


def test_square_ones_are_torchvisions(photographs: dict[str, bytes]) -> None:
    from torchvision.transforms._presets import ImageClassification

    transform = ImageClassification(crop_size=224, resize_size=224)
    config = InputConfig(size=(224, 224), interpolation="bilinear")
    data = photographs["astronaut"]
    torch.testing.assert_close(ours(data, config), transform(image_of(data)), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("interpolation", ["area", "bicubic", "nearest"])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("stored", [(50, 90), (91, 40)])
def test_a_masked_box_is_black_in_a_letterbox_and_nothing_else_is(
    stored: tuple[int, int], mirrored: bool, interpolation: Any
) -> None:
    height, width = stored
    box = (0.25 * width, 0.5 * height, 0.5 * width, 0.75 * height)
    pixels = np.full((height, width, 3), 200, np.uint8)
    pixels[:, : width // 8] = (250, 20, 20)  # tells left from right
    Image.fromarray(pixels).save(file := BytesIO(), "JPEG", quality=100, subsampling=0)
    config = InputConfig(size=(64, 64), fit="letterbox", interpolation=interpolation, flip=True)
    resized, out = np.empty((64, 64, 3), np.uint8), np.empty((64, 64, 3), np.uint8)
    decode.decode_image(file.getvalue(), resized, config.resizing)
    draws = transforms.MIRRORED if mirrored else None
    region = transforms.mask_region(box, stored, config, draws)
    transforms.augment_image(resized, region, config, draws, out)
    top, left, inner_height, inner_width = decode.placement(stored, config.resizing)
    upright = out[:, ::-1] if mirrored else out
    assert tuple(upright[top + inner_height // 3, left + inner_width // 16]) > (200, 0, 0), (
        "the red edge is on the left"
    )
    black = (upright == 0).all(axis=2)
    bars = np.ones((64, 64), bool)
    bars[top : top + inner_height, left : left + inner_width] = False
    assert black[bars].all()
    rows, columns = np.nonzero(black & ~bars)
    scale = inner_height / height, inner_width / width
    expected = (top + box[1] * scale[0], left + box[0] * scale[1], top + box[3] * scale[0], left + box[2] * scale[1])
    found = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    assert np.abs(np.subtract(found, expected)).max() < 1, "rounded outward, to whole pixels"
    assert len(rows) == (found[2] - found[0]) * (found[3] - found[1])


def test_what_would_not_fit_a_letterbox_is_refused() -> None:
    with pytest.raises(ValueError, match="jitter would color its black bars"):
        InputConfig(fit="letterbox", jitter=0.1)
