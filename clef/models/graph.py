"""What networks on graphs share. Boxes are B,N,4 (x1,y1,x2,y2, 0-1 in the scene); all-zero rows are padding."""

import torch
from torch import Tensor

GEOMETRY = 7


def present(boxes: Tensor) -> Tensor:
    """B,N bool: the rows that are boxes."""
    return (boxes != 0).any(-1)


def geometry(boxes: Tensor) -> Tensor:
    """B,N,7: the corners, width, height and area of each box."""
    size = boxes[..., 2:] - boxes[..., :2]
    return torch.cat([boxes, size, size.prod(-1, keepdim=True)], -1)


def normalised(affinity: Tensor) -> Tensor:
    """D^-1/2 A D^-1/2 of a symmetric A, B,N,N (Kipf & Welling, ICLR 2017); a node without any edge keeps a zero row."""
    degree = affinity.sum(-1)
    scale = torch.where(degree > 0, degree.clamp(min=1e-6).rsqrt(), 0.0)
    return affinity * scale[:, :, None] * scale[:, None, :]


def masked_mean(nodes: Tensor, there: Tensor) -> Tensor:
    """The mean, B,D, of the nodes B,N,D that are there (B,N bool); zeros where none is."""
    weight = there.to(nodes.dtype)[..., None]
    return (nodes * weight).sum(1) / weight.sum(1).clamp(min=1)
