"""Pixels to inputs the way loaders are mostly used: torchvision's or Pillow's resize, then crop, mask and coin flip."""

import random
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from clef.bench.setting import Setting
from clef.config import InputConfig
from clef.data import transforms
from clef.data.boxes import scaled
from clef.data.manifest import SOURCE


class Shipped:
    """Decoded members of a sample (Pillow images or 3,H,W tensors), and its facts, to inputs as uint8 3,H,W."""

    def __init__(self, setting: Setting) -> None:
        self.inputs = setting.inputs

    def __call__(self, images: Mapping[str, Any], facts: dict[str, Any]) -> dict[str, Tensor]:
        mirrored = random.random() < 0.5
        result: dict[str, Tensor] = {}
        for name, config in self.inputs.items():
            image = images.get(SOURCE[name])
            if image is None:
                result[name] = torch.zeros(3, *config.shape, dtype=torch.uint8)
                continue
            result[name] = finished(image, transforms.masked(name, facts), facts["size"], config, mirrored)
        return result


def finished(image: Any, box: Any, size: tuple[int, int], config: InputConfig, mirrored: bool) -> Tensor:
    """One image squashed, masked, cropped and mirrored. `box` lies in an image of `size` (width, height)."""
    height, width = config.size
    if isinstance(image, Image.Image):
        pixels = F.pil_to_tensor(image.resize((width, height), Image.Resampling.BILINEAR))
    else:
        pixels = F.resize(image, [height, width], antialias=True)
    if box is not None:
        left, top, right, bottom = scaled(tuple(box), size, (width, height))
        pixels[:, max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 0
    if config.crop:
        top, left = (random.randint(0, a - b) for a, b in zip(config.size, config.shape, strict=True))
        pixels = pixels[:, top : top + config.shape[0], left : left + config.shape[1]]
    return pixels.flip(-1) if mirrored and config.flip else pixels
