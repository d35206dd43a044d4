"""What a loader worker does to a decoded sample: augment, mask again, mirror; in NumPy, straight into a batch.

Augmentation draws are a function of (seed, epoch, place, input), so neither workers, ranks nor a resume change them.
The box is zeroed after the picture was squashed, which would leave it grey, and on the device once more after jitter.

Colour jitter of a batch, on its device: brightness, contrast and saturation, each sample by factors of its own.
"""

import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from clef import io
from clef.config import BoxesConfig, DepthConfig, InputConfig, InputName, PointsConfig
from clef.data.manifest import SOURCE
from clef.errors import ShardError
from clef.geometry import JOINTS, LANDMARKS, MIRRORED_JOINTS, MIRRORED_LANDMARKS, extended_face

MASK_FACTS = ("size", "box", "face_box", "person_box")
"""What masking reads of a sample's meta.json: the frame's size, and boxes in its pixels."""
POINTS: dict[InputName, tuple[int, int]] = {"landmarks": (LANDMARKS, 2), "pose": (len(JOINTS), 3)}
"""The shape of an input that is places."""
_MIRRORED = {"landmarks": np.array(MIRRORED_LANDMARKS), "pose": np.array(MIRRORED_JOINTS)}
_ROW = {name: row for row, name in enumerate(SOURCE, 1)}
Rows = tuple[int, int, int, int]
"""Top, left, bottom, right in the pixels of an input, half-open."""


class Draws(NamedTuple):
    """What chance decides for one input of a sample; evaluation draws nothing and passes None."""

    mirrored: bool
    corner: tuple[float, float]
    """Where the crop lies, from 0 (top, left) to 1."""
    jitter: tuple[float, float, float]
    """How far brightness, contrast and saturation go, from -1 to 1 times the configured strength."""


def draws(seed: int, epoch: int, place: int, inputs: Sequence[InputName] = tuple(SOURCE)) -> dict[InputName, Draws]:
    """The draws of a sample in an epoch: a row of one table for each input there is, and one coin for all that flip.

    So reading one input more doesn't move the draws of another; only those of `inputs` are given.
    """
    table = np.random.default_rng([seed, epoch, place]).random((len(SOURCE) + 1, 5))
    mirrored = bool(table[0, 0] < 0.5)
    result = {}
    for name in inputs:
        y, x, b, c, s = table[_ROW[name]].tolist()
        result[name] = Draws(mirrored, (y, x), (2 * b - 1, 2 * c - 1, 2 * s - 1))
    return result


def masked(name: InputName, facts: dict[str, Any]) -> Sequence[float] | None:
    """The box that is black in an input, in stored pixels, by the sample's meta.json; None: nothing is."""
    if name == "context":
        box: Sequence[float] = facts["box"]
        return box
    face: list[float] | None = facts["face_box"]
    if name == "scene_without_extended_face":
        return extended_face((face[0], face[1], face[2], face[3])) if face else facts["box"]
    if name == "scene_without_person":
        return facts["person_box"] or facts["box"]
    return face if name == "scene_without_face" else None


def image(
    pixels: np.ndarray, black: Rows | None, config: InputConfig | DepthConfig, draws: Draws | None, out: np.ndarray
) -> None:
    """Crop and mirror a squashed picture into `out`, and zero what is black there.

    `pixels` may be `out` itself where nothing is cropped: OpenCV mirrors in place.
    """
    top, left = corner(config, draws)
    height, width = config.shape
    part = pixels[top : top + height, left : left + width]
    if draws and draws.mirrored and config.flip:
        cv2.flip(part, 1, dst=out)
    elif pixels is not out:
        out[:] = part
    if black is not None:
        out[black[0] : black[2], black[1] : black[3]] = 0


def corner(config: InputConfig | DepthConfig, draws: Draws | None) -> tuple[int, int]:
    """Top and left of the crop in the squashed picture."""
    spare = config.size[0] - config.shape[0], config.size[1] - config.shape[1]
    if draws and spare != (0, 0):
        return int(draws.corner[0] * (spare[0] + 1)), int(draws.corner[1] * (spare[1] + 1))
    return spare[0] // 2, spare[1] // 2


def black_box(
    box: Sequence[float], stored: Sequence[int], config: InputConfig | DepthConfig, draws: Draws | None
) -> Rows:
    """A box in the pixels of the frame as stored (width, height) in those of the input, rounded outwards.

    It is black down to the last pixel that it touches, and empty where the crop leaves it out.
    """
    height, width = config.shape
    down, across = config.size[0] / stored[1], config.size[1] / stored[0]
    y, x = corner(config, draws)
    top, bottom = math.floor(box[1] * down) - y, math.ceil(box[3] * down) - y
    left, right = math.floor(box[0] * across) - x, math.ceil(box[2] * across) - x
    if draws and draws.mirrored and config.flip:
        left, right = width - right, width - left
    return (
        min(max(0, top), height), min(max(0, left), width), min(max(0, bottom), height), min(max(0, right), width)
    )  # fmt: skip


def factors(config: InputConfig, draws: Draws) -> list[float]:
    """What brightness, contrast and saturation are multiplied by."""
    return [1 + config.jitter * draw for draw in draws.jitter]


def points(name: InputName, data: bytes, config: PointsConfig, draws: Draws | None, where: str) -> np.ndarray:
    """Landmarks 68,2 or joints 17,3. Mirrored, x is 1 - x, and left and right change places."""
    result = _array(data, where)
    if result.shape != POINTS[name]:
        raise _damaged(where, f"an array {POINTS[name]} is expected, not {tuple(result.shape)}")
    if draws and draws.mirrored and config.flip:
        result = result[_MIRRORED[name]]
        result[:, 0] = 1 - result[:, 0]
    return result


def boxes(data: bytes, config: BoxesConfig, draws: Draws | None, where: str) -> np.ndarray:
    """The first `count` boxes, count,4; rows that no box fills are zeros, mirrored or not."""
    found = _array(data, where)
    if found.ndim != 2 or found.shape[1] != 4:
        raise _damaged(where, f"rows of four numbers are expected, not {tuple(found.shape)}")
    found = found[: config.count]
    if draws and draws.mirrored and config.flip:
        found = np.stack([1 - found[:, 2], found[:, 1], 1 - found[:, 0], found[:, 3]], axis=1)
    result = np.zeros((config.count, 4), np.float32)
    result[: len(found)] = found
    return result


def _array(data: bytes, where: str) -> np.ndarray:
    try:
        return io.load(BytesIO(data)).astype(np.float32)
    except (ValueError, TypeError, OSError) as error:
        raise _damaged(where, f"not an array of numbers ({error})") from None


def _damaged(where: str, what: str) -> ShardError:
    return ShardError(f"{where}: {what}; check the set with python -m clef.shard --verify")


def jittered(images: Tensor, factors: Tensor) -> Tensor:
    """`images` B,3,H,W float32 of 0-255, changed in place, by `factors` B,3, in the order named above.

    torchvision's definitions, without its rounding after each step.
    """
    brightness, contrast, saturation = factors.view(-1, 3, 1, 1, 1).unbind(1)
    images.mul_(brightness).clamp_(0, 255)
    _towards(images, _grey(images).mean((1, 2, 3), keepdim=True), contrast)
    _towards(images, _grey(images), saturation)
    return images


def blackened(images: Tensor, boxes: Tensor) -> Tensor:
    """`images` B,C,H,W with a box zeroed in each, in place. `boxes`: B,4 top, left, bottom, right; may be empty."""
    top, left, bottom, right = boxes.view(-1, 4, 1).unbind(1)
    y, x = (torch.arange(side, device=images.device) for side in images.shape[-2:])
    inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None]
    return images.masked_fill_(inside[:, None], 0)


def _towards(images: Tensor, other: Tensor, factor: Tensor) -> None:
    """From `other` (0) to the image (1), and beyond it."""
    images.sub_(other).mul_(factor).add_(other).clamp_(0, 255)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)[:, None]
