"""EMOT-Net (Kosti et al., CVPR 2017 and TPAMI 2019): the subject's body beside the whole image."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from clef.config import EmotNetConfig, InputName
from clef.models.backbone import Backbone, Batch, WeightLoader
from clef.models.decomposed import BODY, IMAGE, Decomposed
from clef.models.resnet import Encoder, scaled


class EmotNet(Backbone):
    """Two encoders -> Linear 256 -> BN -> ReLU -> dropout -> heads K and 3.

    Variant `resnet`: the common port's two ResNet-18, 512 + 512; there the whole image goes through Places365 weights
    and the body through ImageNet's. Variant `decomposed`: the official networks of 1-D kernels, 640 + 128, which take
    no weights. The image is *not* masked: what the body shows is in it too (TPAMI section 4.1).
    """

    inputs: ClassVar[tuple[InputName, ...]] = ("scene", "body")

    def build(self, config: EmotNetConfig, load: WeightLoader) -> None:
        """Both encoders and the fusion layer."""
        self.scene: Encoder | Decomposed
        self.body: Encoder | Decomposed
        if config.variant == "decomposed":
            self.scene, self.body = Decomposed(IMAGE, config.width), Decomposed(BODY, config.width)
        else:
            self.scene, self.body = Encoder("resnet18", config.width), Encoder("resnet18", config.width)
            load("scene", self.scene)
            load("body", self.body)
        self.feature_dim = scaled(256, config.width)
        self.fusion = nn.Sequential(
            nn.Linear(self.scene.dim + self.body.dim, self.feature_dim),
            nn.BatchNorm1d(self.feature_dim),
            nn.ReLU(),
            nn.Dropout(config.dropout),
        )

    def features(self, batch: Batch) -> Tensor:
        """B,256."""
        joint: Tensor = self.fusion(torch.cat([self.scene(batch["scene"]), self.body(batch["body"])], dim=1))
        return joint
