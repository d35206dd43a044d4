"""From the members of a sample to the tensors of a batch: decode, squash, augment, mask again, mirror.

Augmentation draws are a function of (seed, epoch, place, input), so neither workers, ranks nor a resume change them.
The box is zeroed after the last pixel-space transform: resizing, jitter and JPEG rings would leave it grey.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_jpeg, decode_png

from clef.config import AnyInput, BoxesConfig, DepthConfig, InputConfig, InputName, PointsConfig
from clef.cues.boxes import extended_face
from clef.cues.points import JOINTS, LANDMARKS, MIRRORED_JOINTS, MIRRORED_LANDMARKS
from clef.errors import ShardError

BOX_FACTS = ("box", "face_box", "person_box")
"""What `masked` reads of a sample's meta.json: boxes in stored pixels."""
POINTS: dict[InputName, tuple[int, int]] = {"landmarks": (LANDMARKS, 2), "pose": (len(JOINTS), 3)}
"""The shape of an input that is places."""
_MIRRORED = {"landmarks": torch.tensor(MIRRORED_LANDMARKS), "pose": torch.tensor(MIRRORED_JOINTS)}


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


def masked(name: InputName, facts: dict[str, Any]) -> Sequence[float] | None:
    """The box that is black in an input, in stored pixels, by the sample's meta.json; None: nothing is."""
    face: list[float] | None = facts["face_box"]
    boxes: dict[str, Sequence[float] | None] = {
        "context": facts["box"],
        "scene_without_face": face,
        "scene_without_extended_face": extended_face((face[0], face[1], face[2], face[3])) if face else facts["box"],
        "scene_without_person": facts["person_box"] or facts["box"],
    }
    return boxes.get(name)


def decoded(data: bytes, where: str) -> Tensor:
    """A JPEG as 3,H,W or a grey PNG as 1,H,W, uint8. ShardError that names `where` for bytes that are neither."""
    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    png = data.startswith(b"\x89PNG")
    try:
        return decode_png(raw, ImageReadMode.GRAY) if png else decode_jpeg(raw, ImageReadMode.RGB)
    except RuntimeError as error:
        raise _damaged(where, f"not an image that can be decoded ({error})") from None


def image(pixels: Tensor, box: Sequence[float] | None, config: InputConfig, draws: Draws | None) -> Tensor:
    """A decoded image as 3,H,W uint8. `box` is black in the result, down to the last pixel that it touches."""
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


def depth(pixels: Tensor, config: DepthConfig, draws: Draws | None) -> Tensor:
    """A decoded depth map as 1,H,W uint8, squashed to the size that the config names."""
    pixels = F.interpolate(pixels[None], config.size, mode="bilinear", antialias=True)[0]
    return pixels.flip(-1) if draws and draws.mirrored and config.flip else pixels


def points(name: InputName, data: bytes, config: PointsConfig, draws: Draws | None, where: str) -> Tensor:
    """Landmarks 68,2 or joints 17,3. Mirrored, x is 1 - x, and left and right change places."""
    result = _array(data, where)
    if result.shape != POINTS[name]:
        raise _damaged(where, f"an array {POINTS[name]} is expected, not {tuple(result.shape)}")
    if draws and draws.mirrored and config.flip:
        result = result[_MIRRORED[name]]
        result[:, 0] = 1 - result[:, 0]
    return result


def boxes(data: bytes, config: BoxesConfig, draws: Draws | None, where: str) -> Tensor:
    """The first `count` boxes, count,4; rows that no box fills are zeros, mirrored or not."""
    found = _array(data, where)
    if found.ndim != 2 or found.shape[1] != 4:
        raise _damaged(where, f"rows of four numbers are expected, not {tuple(found.shape)}")
    found = found[: config.count]
    if draws and draws.mirrored and config.flip:
        found = torch.stack([1 - found[:, 2], found[:, 1], 1 - found[:, 0], found[:, 3]], dim=1)
    return F.pad(found, (0, 0, 0, config.count - len(found)))


def absent(name: InputName, config: AnyInput) -> Tensor:
    """The zeros that stand for an input that a sample lacks."""
    if isinstance(config, InputConfig):
        return torch.zeros(3, *config.shape, dtype=torch.uint8)
    if isinstance(config, DepthConfig):
        return torch.zeros(1, *config.shape, dtype=torch.uint8)
    return torch.zeros(config.count, 4) if isinstance(config, BoxesConfig) else torch.zeros(POINTS[name])


def _array(data: bytes, where: str) -> Tensor:
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
        return torch.from_numpy(values.astype(np.float32))
    except (ValueError, TypeError, EOFError, OSError, AttributeError) as error:  # AttributeError: an .npz
        raise _damaged(where, f"not an array of numbers ({error})") from None


def _damaged(where: str, what: str) -> ShardError:
    return ShardError(f"{where}: {what}; check the set with python -m clef.shard --verify")


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


def _zeroed(pixels: Tensor, box: Sequence[float], scale: tuple[float, float], corner: tuple[int, int]) -> Tensor:
    """The box, in stored pixels, zeroed in the squashed and cropped image, rounded outwards."""
    x1, y1, x2, y2 = box
    top, bottom = math.floor(y1 * scale[0]) - corner[0], math.ceil(y2 * scale[0]) - corner[0]
    left, right = math.floor(x1 * scale[1]) - corner[1], math.ceil(x2 * scale[1]) - corner[1]
    result = pixels.clone()
    result[:, max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 0
    return result
