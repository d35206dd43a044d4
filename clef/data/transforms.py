"""What happens to a sample after decoding: crop, mirror, mask; color jitter, on the device.

A loader worker crops and mirrors in NumPy, straight into the batch. Jitter changes a whole batch on its device. The
augmentation draws are a function of (seed, epoch, index, input), so neither the number of workers or ranks nor a resume
changes them.

Where a box is masked, its pixels must be exactly black. The box of `context.jpg` is already black in the shard, but
JPEG and the resize blur its edge with pixels from outside. So every masked box is zeroed after the resize, and again on
the device, because jitter changes black.
"""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from clef import io
from clef.config import BoxesConfig, DepthConfig, InputConfig, InputName, PointsConfig
from clef.data.decode import placement
from clef.data.manifest import MEMBER_OF_INPUT
from clef.errors import ShardError
from clef.geometry import JOINTS, MIRRORED_JOINTS, MIRRORED_LANDMARKS, NUM_LANDMARKS, Size, extended_face

MASK_KEYS = ("size", "box", "face_box", "person_box")
"""What masking reads of a sample's meta.json: the stored frame's width and height, and boxes in its pixels."""
POINT_SHAPES: dict[InputName, tuple[int, int]] = {"landmarks": (NUM_LANDMARKS, 2), "pose": (len(JOINTS), 3)}
"""The shapes of the inputs that are points: x, y, and for joints a confidence."""
_MIRRORED = {"landmarks": np.array(MIRRORED_LANDMARKS), "pose": np.array(MIRRORED_JOINTS)}
_DRAW_ROW = {name: row for row, name in enumerate(MEMBER_OF_INPUT, 1)}
Region = tuple[int, int, int, int]
"""Top, left, bottom, right in the pixels of an input, half-open."""


class AugmentationDraws(NamedTuple):
    """What chance decides for one input of a sample. Evaluation draws nothing and passes None in its place."""

    mirrored: bool
    corner: tuple[float, float]
    """Where the crop lies: from 0 (top, left) to 1."""
    jitter: tuple[float, float, float]
    """How much brightness, contrast and saturation change: from -1 to 1 times the configured strength."""


MIRRORED = AugmentationDraws(True, (0.5, 0.5), (0.0, 0.0, 0.0))
"""What a sample that is mirrored and nothing else draws."""


def draw_augmentation(
    seed: int, epoch: int, index: int, inputs: Sequence[InputName] = tuple(MEMBER_OF_INPUT)
) -> dict[InputName, AugmentationDraws]:
    """Return the draws of a sample in an epoch, by input.

    All are read from one table of random numbers, with a row for each input that exists and one coin for all that flip.
    So a cell that reads one input more doesn't change the draws of the others; `inputs` only selects.
    """
    table = np.random.default_rng([seed, epoch, index]).random((len(MEMBER_OF_INPUT) + 1, 5))
    mirrored = bool(table[0, 0] < 0.5)
    draws = {}
    for name in inputs:
        y, x, brightness, contrast, saturation = table[_DRAW_ROW[name]].tolist()
        draws[name] = AugmentationDraws(mirrored, (y, x), (2 * brightness - 1, 2 * contrast - 1, 2 * saturation - 1))
    return draws


def frame_size(meta: Mapping[str, Any]) -> Size:
    """Return the height and width of a sample's frame as it is stored; meta.json has width first."""
    width, height = meta["size"]
    return height, width


def mask_box(name: InputName, meta: Mapping[str, Any]) -> Sequence[float] | None:
    """Return the box x1, y1, x2, y2 that is black in an input, in pixels of the stored frame; None where nothing is.

    `meta` is the sample's meta.json.
    """
    if name == "context":
        box: Sequence[float] = meta["box"]
        return box
    face: list[float] | None = meta["face_box"]
    if name == "scene_without_extended_face":
        return extended_face((face[0], face[1], face[2], face[3])) if face else meta["box"]
    if name == "scene_without_person":
        return meta["person_box"] or meta["box"]
    return face if name == "scene_without_face" else None


def mask_region(
    box: Sequence[float], stored: Size, config: InputConfig | DepthConfig, draws: AugmentationDraws | None
) -> Region:
    """Return the pixels of an input that a box covers, given in pixels of the frame as stored, of size `stored`.

    Rounded outward: every pixel that the box touches belongs to it. The region is empty where the crop leaves the box
    out.
    """
    height, width = config.shape
    above, before, inner_height, inner_width = placement(stored, config.resizing)
    down, across = inner_height / stored[0], inner_width / stored[1]
    y, x = crop_corner(config, draws)
    y, x = y - above, x - before
    top, bottom = math.floor(box[1] * down) - y, math.ceil(box[3] * down) - y
    left, right = math.floor(box[0] * across) - x, math.ceil(box[2] * across) - x
    if draws and draws.mirrored and config.flip:
        left, right = width - right, width - left
    return (
        min(max(0, top), height), min(max(0, left), width), min(max(0, bottom), height), min(max(0, right), width)
    )  # fmt: skip


def crop_corner(config: InputConfig | DepthConfig, draws: AugmentationDraws | None) -> tuple[int, int]:
    """Return top and left of the crop in the resized image: drawn, or the center crop."""
    spare = config.size[0] - config.shape[0], config.size[1] - config.shape[1]
    if draws and spare != (0, 0):
        return int(draws.corner[0] * (spare[0] + 1)), int(draws.corner[1] * (spare[1] + 1))
    return spare[0] // 2, spare[1] // 2


def augment_image(
    pixels: np.ndarray,
    masked_region: Region | None,
    config: InputConfig | DepthConfig,
    draws: AugmentationDraws | None,
    out: np.ndarray,
) -> None:
    """Crop and mirror a resized image H,W,C into `out`, and zero the masked region there.

    `pixels` may be `out` itself where nothing is cropped: OpenCV mirrors in place.
    """
    top, left = crop_corner(config, draws)
    height, width = config.shape
    crop = pixels[top : top + height, left : left + width]
    if draws and draws.mirrored and config.flip:
        cv2.flip(crop, 1, dst=out)
    elif pixels is not out:
        out[:] = crop
    if masked_region is not None:
        top, left, bottom, right = masked_region
        out[top:bottom, left:right] = 0


def jitter_factors(config: InputConfig, draws: AugmentationDraws) -> list[float]:
    """Return the factors that brightness, contrast and saturation are multiplied by."""
    return [1 + config.jitter * draw for draw in draws.jitter]


def read_points(
    name: InputName, data: bytes, config: PointsConfig, draws: AugmentationDraws | None, where: str
) -> np.ndarray:
    """Return landmarks 68,2 or joints 17,3 from the bytes of a member.

    In a mirrored sample, x becomes 1 - x, and left and right change places. Raises ShardError that names `where`.
    """
    points = _read_array(data, where)
    if points.shape != POINT_SHAPES[name]:
        raise _damage_error(where, f"an array {POINT_SHAPES[name]} is expected, not {tuple(points.shape)}")
    if draws and draws.mirrored and config.flip:
        points = points[_MIRRORED[name]]
        points[:, 0] = 1 - points[:, 0]
    return points


def read_boxes(data: bytes, config: BoxesConfig, draws: AugmentationDraws | None, where: str) -> np.ndarray:
    """Return the first `count` boxes, count,4, from the bytes of a member; rows that no box fills are zeros.

    Raises ShardError that names `where`.
    """
    boxes = _read_array(data, where)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise _damage_error(where, f"rows of four numbers are expected, not {tuple(boxes.shape)}")
    boxes = boxes[: config.count]
    if draws and draws.mirrored and config.flip:
        boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    result = np.zeros((config.count, 4), np.float32)
    result[: len(boxes)] = boxes
    return result


def _read_array(data: bytes, where: str) -> np.ndarray:
    try:
        return io.load_array(BytesIO(data)).astype(np.float32)
    except (ValueError, TypeError, OSError) as error:
        raise _damage_error(where, f"not an array of numbers ({error})") from None


def _damage_error(where: str, what: str) -> ShardError:
    return ShardError(f"{where}: {what}; check the set with python -m clef.shard --verify")


def apply_jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Change `images` B,3,H,W float32 of 0-255 in place, each by its row of `factors` B,3.

    The factors are those of brightness, contrast and saturation, applied in this order, as torchvision defines them,
    but without its rounding after each step.
    """
    brightness, contrast, saturation = factors.view(-1, 3, 1, 1, 1).unbind(1)
    images.mul_(brightness).clamp_(0, 255)
    _blend(images, _luminance(images).mean((1, 2, 3), keepdim=True), contrast)
    _blend(images, _luminance(images), saturation)
    return images


def zero_regions(images: Tensor, regions: Tensor) -> Tensor:
    """Zero a region in each of `images` B,C,H,W, in place.

    `regions`: B,4 integers: top, left, bottom, right; a region may be empty.
    """
    top, left, bottom, right = regions.view(-1, 4, 1).unbind(1)
    y, x = (torch.arange(side, device=images.device) for side in images.shape[-2:])
    inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None]
    return images.masked_fill_(inside[:, None], 0)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> None:
    """Replace each image by a blend with `other`: `other` itself at factor 0, the image at 1, and more beyond."""
    images.sub_(other).mul_(factor).add_(other).clamp_(0, 255)


def _luminance(images: Tensor) -> Tensor:
    """Return the gray values B,1,H,W of RGB images, by the weights of ITU-R BT.601 as torchvision rounds them."""
    red, green, blue = images.unbind(1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)[:, None]
