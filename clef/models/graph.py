"""What networks on graphs share. Boxes are B,N,4 (x1,y1,x2,y2, 0-1 in the scene); all-zero rows are padding."""

import torch
from torch import Tensor

GEOMETRY_SIZE = 7
"""The numbers that describe a box: its corners, width, height and area."""


def valid_boxes(boxes: Tensor) -> Tensor:
    """Return which rows of B,N,4 are boxes, B,N bool."""
    return (boxes != 0).any(-1)


def box_geometry(boxes: Tensor) -> Tensor:
    """Return the corners, width, height and area of each box, B,N,4 to B,N,7."""
    size = boxes[..., 2:] - boxes[..., :2]
    return torch.cat([boxes, size, size.prod(-1, keepdim=True)], -1)


def normalize_adjacency(adjacency: Tensor) -> Tensor:
    """Return D^-1/2 A D^-1/2 of a symmetric A, B,N,N (Kipf & Welling, ICLR 2017, equation 2).

    D is the diagonal matrix of the degrees, the sums of A's rows; a node without any edge keeps a row of zeros.
    """
    degree = adjacency.sum(-1)
    scale = torch.where(degree > 0, degree.clamp(min=1e-6).rsqrt(), 0.0)
    return adjacency * scale[:, :, None] * scale[:, None, :]


def masked_mean(nodes: Tensor, valid: Tensor) -> Tensor:
    """Return the mean, B,D, of the valid ones (B,N bool) among nodes B,N,D; zeros where none is valid."""
    weight = valid.to(nodes.dtype)[..., None]
    return (nodes * weight).sum(1) / weight.sum(1).clamp(min=1)
