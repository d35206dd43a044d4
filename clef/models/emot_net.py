"""EMOT-Net (Kosti et al., CVPR 2017 and TPAMI 2019): the subject's body beside the whole image."""

import torch
from torch import Tensor, nn

from clef.config import EmotNetConfig
from clef.data.batch_memory import Batch
from clef.models.backbone import Backbone, WeightLoader
from clef.models.encoders import ResNetEncoder, scaled

Pair = tuple[int, int, int, int]
"""Channels between the two convolutions, channels out, kernel, stride."""
IMAGE: tuple[Pair, ...] = (
    (32, 64, 11, 4),
    (128, 256, 5, 2),
    (384, 512, 3, 2),
    (384, 384, 3, 1),
    (640, 640, 3, 2),
    (640, 640, 3, 1),
    (640, 640, 3, 2),
    (640, 640, 3, 1),
)
BODY: tuple[Pair, ...] = ((32, 64, 3, 2), (128, 128, 3, 2), (128, 128, 3, 2))


class EmotNet(Backbone):
    """Two encoders -> Linear 256 -> BN -> ReLU -> dropout -> heads K and 3.

    Variant `resnet`: the common port's two ResNet-18, 512 + 512; there the whole image goes through Places365 weights
    and the body through ImageNet's. Variant `decomposed`: the official networks of 1-D kernels, 640 + 128, which take
    no weights. The image is *not* masked: what the body shows is in it too (TPAMI section 4.1).
    """

    def build(self, config: EmotNetConfig, load: WeightLoader) -> None:
        """Make both encoders and the fusion layer."""
        self.scene: ResNetEncoder | Decomposed
        self.body: ResNetEncoder | Decomposed
        if config.variant == "decomposed":
            self.scene, self.body = Decomposed(IMAGE, config.width), Decomposed(BODY, config.width)
        else:
            self.scene, self.body = ResNetEncoder("resnet18", config.width), ResNetEncoder("resnet18", config.width)
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
        """Return the joint feature, B,256, of `scene` B,3,H,W and `body` B,3,H',W'."""
        joint: Tensor = self.fusion(torch.cat([self.scene(batch["scene"]), self.body(batch["body"])], dim=1))
        return joint


class Decomposed(nn.Sequential):
    """The official encoder (TPAMI 2019): pairs of convolutions k x 1, ReLU, 1 x k, batch norm, ReLU; B,3,H,W to B,dim.

    Chosen here: half the kernel for padding, which gives the image branch its published 4x4 map at 224; each
    convolution strides along its own kernel; no bias ahead of a batch norm. The average is over the whole map: the
    published windows are 4x4 for the image and 3x3 for the body, whose map is larger at 128.
    """

    def __init__(self, pairs: tuple[Pair, ...], width: float = 1.0) -> None:
        layers: list[nn.Module] = []
        inputs = 3
        for between, outputs, kernel, stride in pairs:
            layers += _pair(inputs, scaled(between, width), scaled(outputs, width), kernel, stride)
            inputs = scaled(outputs, width)
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dim = inputs


def _pair(inputs: int, between: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    half = kernel // 2
    return [
        nn.Conv2d(inputs, between, (kernel, 1), (stride, 1), (half, 0)),
        nn.ReLU(),
        nn.Conv2d(between, outputs, (1, kernel), (1, stride), (0, half), bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
