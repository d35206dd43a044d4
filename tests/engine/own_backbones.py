"""Backbones as a user might bring them: one whose weights share memory in all ways that torch allows, one without."""

import torch
from torch import Tensor, nn

from clef.config import BackboneConfig
from clef.data.batch_memory import Batch
from clef.models import Backbone, WeightLoader

DIM = 4


class Shared(Backbone):
    """One encoder for two inputs, one buffer under two names, two weights in one storage, one weight transposed."""

    inputs = ("body", "scene")

    def build(self, config: BackboneConfig, load: WeightLoader) -> None:
        """Make the layers."""
        self.feature_dim = 2 * DIM
        pool = nn.AdaptiveAvgPool2d(1)
        encoder = nn.Sequential(nn.Conv2d(3, DIM, 5, stride=2), nn.BatchNorm2d(DIM), nn.ReLU(), pool, nn.Flatten())
        self.encoders = nn.ModuleDict(dict.fromkeys(self.inputs, encoder))
        both = torch.randn(2, DIM)
        self.scale, self.shift = nn.Parameter(both[0]), nn.Parameter(both[1])
        self.mixing = nn.Parameter(torch.randn(DIM, 2 * DIM).t()[:, :DIM])
        self.register_buffer("center", torch.randn(DIM))
        self.register_buffer("origin", self.center)

    def features(self, batch: Batch) -> Tensor:
        """Return the joint feature, B,2*DIM."""
        body, scene = (self.encoders[name](batch[name]) for name in self.inputs)
        body = (body - self.center) * self.scale + self.shift
        return torch.cat([body, scene - self.origin], dim=1) @ self.mixing @ self.mixing.t()


class Fixed(Backbone):
    """Scores that follow from the mean color alone: no weight is trained."""

    inputs = ("scene",)

    def build(self, config: BackboneConfig, load: WeightLoader) -> None:
        """Make nothing."""
        self.feature_dim = 3

    def make_classifier(self, classes: int) -> nn.Module:
        """Return a head with nothing to train."""
        return FixedHead(classes)

    def features(self, batch: Batch) -> Tensor:
        """Return the mean color, B,3."""
        return batch["scene"].mean((2, 3))


class FixedHead(nn.Module):
    """A fixed matrix."""

    matrix: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.linspace(-1, 1, 3 * classes).reshape(classes, 3))

    def forward(self, feature: Tensor) -> Tensor:
        """Return logits, B,K."""
        return feature @ self.matrix.T
