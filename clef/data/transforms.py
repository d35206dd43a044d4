"""From the members of a sample to the tensors of a batch: decode, squash, augment, mask again.

Augmentation draws are a function of (seed, epoch, place, input), so neither workers, ranks nor a resume change them.
The box is zeroed after the last pixel-space transform: resizing, jitter and JPEG rings would leave it grey.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_jpeg

from clef.config import InputConfig, InputName
from clef.errors import ShardError

MASKED: dict[InputName, str] = {"context": "box", "scene_without_face": "face_box"}
"""The box (by its key in meta.json, in stored pixels) that is black in an input."""


@dataclass(frozen=True)
class Draws:
    """What chance decides for one input of a sample; evaluation draws nothing and passes None."""

    mirrored: bool
    corner: tuple[float, float]
    """Where the crop lies, from 0 (top, left) to 1."""
    jitter: tuple[float, float, float]
    """How far brightness, contrast and saturation go, from -1 to 1 times the configured strength."""


def draws(seed: int, epoch: int, place: int, inputs: int) -> list[Draws]:
    """The draws of a sample in an epoch: a row of one table for each input, and one coin for all that flip together."""
    table = np.random.default_rng([seed, epoch, place]).random((inputs + 1, 5)).tolist()
    mirrored = table[0][0] < 0.5
    return [Draws(mirrored, (y, x), (2 * b - 1, 2 * c - 1, 2 * s - 1)) for y, x, b, c, s in table[1:]]


def image(data: bytes, box: list[int] | None, config: InputConfig, draws: Draws | None, where: str) -> Tensor:
    """One input as 3,H,W uint8. `box` is black in the result, down to the last pixel that it touches."""
    try:
        pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    except RuntimeError as error:
        raise ShardError(
            f"{where}: not a JPEG that can be decoded ({error}); check the set with python -m clef.shard --verify"
        ) from None
    stored = pixels.shape[-2:]
    pixels = F.interpolate(pixels[None], config.size, mode="bilinear", antialias=True)[0]
    top, left = _corner(config, draws)
    height, width = config.shape
    pixels = pixels[:, top : top + height, left : left + width]
    if draws and config.jitter:
        pixels = jittered(pixels, *(1 + config.jitter * draw for draw in draws.jitter))
    if box is not None:
        scale = config.size[0] / stored[0], config.size[1] / stored[1]
        pixels = _zeroed(pixels, box, scale, (top, left))
    return pixels.flip(-1) if draws and draws.mirrored and config.flip else pixels


def _corner(config: InputConfig, draws: Draws | None) -> tuple[int, int]:
    spare = config.size[0] - config.shape[0], config.size[1] - config.shape[1]
    if draws and config.crop:
        return int(draws.corner[0] * (spare[0] + 1)), int(draws.corner[1] * (spare[1] + 1))
    return spare[0] // 2, spare[1] // 2


_GREY = torch.tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)


def jittered(pixels: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Brightness, contrast and saturation times these factors, in this order; 3,H,W uint8.

    torchvision's definitions, in one pass of float32: its own functions would take most of a small sample's time.
    """
    result = (pixels.float() * brightness).clamp_(0, 255)
    result = torch.lerp((result * _GREY).sum(0).mean(), result, contrast).clamp_(0, 255)
    result = torch.lerp((result * _GREY).sum(0, keepdim=True), result, saturation).clamp_(0, 255)
    return result.round_().to(torch.uint8)


def _zeroed(pixels: Tensor, box: list[int], scale: tuple[float, float], corner: tuple[int, int]) -> Tensor:
    """The box, in stored pixels, zeroed in the squashed and cropped image, rounded outwards."""
    x1, y1, x2, y2 = box
    top, bottom = math.floor(y1 * scale[0]) - corner[0], math.ceil(y2 * scale[0]) - corner[0]
    left, right = math.floor(x1 * scale[1]) - corner[1], math.ceil(x2 * scale[1]) - corner[1]
    result = pixels.clone()
    result[:, max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 0
    return result
