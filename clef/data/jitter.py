"""Colour jitter of a batch, on its device: brightness, contrast and saturation, each sample by factors of its own."""

import torch
from torch import Tensor


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
