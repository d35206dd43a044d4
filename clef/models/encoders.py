"""The image encoders: torchvision's ResNets and VGG-16 without their classifiers.

Every layer's channels are scaled by a width. At width 1 they are torchvision's networks weight by weight, so that
published weights fit.
"""

from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import cfgs, make_layers

from clef.config import EncoderConfig
from clef.models.named import build_named
from clef.models.pooling import MaxPool2d


def build_encoder(config: EncoderConfig) -> nn.Module:
    """Return the encoder that a config names, B,3,H,W -> B,dim, with random weights."""
    return build_named(config.network) if config.is_named else make_encoder(config.network, config.width)


def encoder_dim(config: EncoderConfig) -> int:
    """Return the numbers in its feature, without building it."""
    if config.is_named:
        assert config.dim is not None, "a resolved config states it"
        return config.dim
    if config.network == "vgg16":
        return scaled(4096, config.width)
    return scaled(512, config.width) * _LAYERS[config.network][0].expansion


def make_encoder(network: str, width: float = 1.0) -> "ResNetEncoder | Vgg16Encoder":
    """Return an encoder B,3,H,W -> B,`dim` with random weights: resnet18, resnet50, resnet152 or vgg16."""
    return Vgg16Encoder(width) if network == "vgg16" else ResNetEncoder(network, width)


def scaled(channels: int, width: float) -> int:
    """Return a channel count scaled by `width`, at least 4."""
    return max(4, round(channels * width))


_LAYERS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
    "resnet152": (Bottleneck, [3, 8, 36, 3]),
}


class ResNetEncoder(ResNet):
    """A ResNet without its classifier: B,3,H,W to B,dim. Width 1 is torchvision's network, weight by weight."""

    def __init__(self, architecture: str, width: float = 1.0) -> None:
        self.width = width
        block, layers = _LAYERS[architecture]
        super().__init__(block, layers)
        self.dim = scaled(512, width) * block.expansion
        self.fc: nn.Module = nn.Identity()
        self.maxpool = MaxPool2d(kernel_size=3, stride=2, padding=1)
        if width != 1:
            stem = scaled(64, width)
            self.conv1 = nn.Conv2d(3, stem, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.bn1 = nn.BatchNorm2d(stem)

    # torchvision's constructor makes its four stages by this method, a private one; a test notices if that changes.
    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> nn.Sequential:
        if planes == 64:  # the first stage: its input is the stem's output
            self.inplanes = scaled(64, self.width)
        return super()._make_layer(block, scaled(planes, self.width), blocks, stride, dilate)

    def stem(self, images: Tensor) -> Tensor:
        """Return the map that the first stage reads, B,64,H/4,W/4, of normalized images B,3,H,W."""
        features: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return features

    def stage(self, number: int) -> nn.Module:
        """Return stage 1 to 4, from map to map; from the second on, each halves its height and width."""
        stage: nn.Module = getattr(self, f"layer{number}")
        return stage

    def forward(self, images: Tensor) -> Tensor:
        """Return pooled features, B,dim, of normalized images B,3,H,W."""
        features: Tensor = super().forward(images)
        return features


class Vgg16Encoder(nn.Module):
    """VGG-16 without its last layer: B,3,H,W to B,dim (4096). Width 1 is torchvision's network, weight by weight.

    A map of odd size is pooled with its last row and column, which torchvision drops, so that an image may be smaller
    than 32 pixels; at 224, as at every multiple of 32, there is no difference. The default dropout is torchvision's.
    """

    def __init__(self, width: float = 1.0, dropout: float = 0.5) -> None:
        super().__init__()
        channels = [c if isinstance(c, str) else scaled(c, width) for c in cfgs["D"]]
        self.features = make_layers(channels)
        for number, layer in enumerate(self.features):
            if isinstance(layer, nn.MaxPool2d):
                self.features[number] = MaxPool2d(kernel_size=2, ceil_mode=True)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.dim = scaled(4096, width)
        self.classifier = nn.Sequential(
            nn.Linear(scaled(512, width) * 7 * 7, self.dim),
            nn.ReLU(True),
            nn.Dropout(dropout),
            nn.Linear(self.dim, self.dim),
            nn.ReLU(True),
            nn.Dropout(dropout),
        )
        _initialize_like_torchvision(self, width)

    def forward(self, images: Tensor) -> Tensor:
        """Return features, B,dim, of normalized images B,3,H,W."""
        features: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return features


def _initialize_like_torchvision(network: nn.Module, width: float) -> None:
    """Draw the weights as torchvision does, but a thin network's linear layers larger, to keep their outputs' size."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01 / width**0.5)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
