"""EMOT-Net (Kosti et al., CVPR 2017 and TPAMI 2019), variant `resnet`: the subject's body beside the whole image."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from clef.config import BackboneConfig, InputName
from clef.models.backbone import Backbone, WeightLoader
from clef.models.resnet import Encoder, scaled


class EmotNet(Backbone):
    """Two ResNet-18 encoders, 512 + 512 -> Linear 256 -> BN -> ReLU -> dropout -> heads K and 3.

    The common port's layers; there the whole image goes through Places365 weights and the body through ImageNet's.
    The image is *not* masked: what the body shows is in it too (TPAMI section 4.1).
    """

    inputs: ClassVar[tuple[InputName, ...]] = ("scene", "body")

    def build(self, config: BackboneConfig, load: WeightLoader) -> None:
        """Both encoders and the fusion layer."""
        self.scene = Encoder("resnet18", config.width)
        self.body = Encoder("resnet18", config.width)
        load("scene", self.scene)
        load("body", self.body)
        self.feature_dim = scaled(256, config.width)
        self.fusion = nn.Sequential(
            nn.Linear(self.scene.dim + self.body.dim, self.feature_dim),
            nn.BatchNorm1d(self.feature_dim),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )

    def features(self, batch: dict[str, Any]) -> Tensor:
        """B,256."""
        joint: Tensor = self.fusion(torch.cat([self.scene(batch["scene"]), self.body(batch["body"])], dim=1))
        return joint
