"""torchvision's ResNets, with every layer's channels scaled by a width."""

from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

_LAYERS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
    "resnet152": (Bottleneck, [3, 8, 36, 3]),
}


class Encoder(ResNet):
    """A ResNet without its classifier: B,3,H,W to B,dim. Width 1 is torchvision's network, weight by weight."""

    def __init__(self, architecture: str, width: float = 1.0) -> None:
        self.width = width
        block, layers = _LAYERS[architecture]
        super().__init__(block, layers)
        self.dim = scaled(512, width) * block.expansion
        self.fc: nn.Module = nn.Identity()
        if width != 1:
            stem = scaled(64, width)
            self.conv1 = nn.Conv2d(3, stem, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.bn1 = nn.BatchNorm2d(stem)

    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> nn.Sequential:
        if planes == 64:  # the first stage: its input is the stem's output
            self.inplanes = scaled(64, self.width)
        return super()._make_layer(block, scaled(planes, self.width), blocks, stride, dilate)

    def stem(self, images: Tensor) -> Tensor:
        """B,3,H,W to the map that the first stage reads, B,64,H/4,W/4."""
        features: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return features

    def stage(self, number: int) -> nn.Module:
        """Stage 1 to 4; from the second on, each halves the map."""
        found: nn.Module = getattr(self, f"layer{number}")
        return found

    def forward(self, images: Tensor) -> Tensor:
        """B,3,H,W normalised images to B,dim pooled features."""
        features: Tensor = super().forward(images)
        return features


def scaled(channels: int, width: float) -> int:
    """A channel count scaled by `width`, at least 4."""
    return max(4, round(channels * width))
