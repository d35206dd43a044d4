"""torchvision's VGG-16, with every layer's channels scaled by a width."""

from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from clef.models.resnet import scaled


class Vgg16(nn.Module):
    """VGG-16 without its last layer: B,3,H,W to B,dim (4096). Width 1 is torchvision's network, weight by weight.

    A map of odd size is pooled with its last row and column, which torchvision drops, so that an image may be smaller
    than 32 pixels; at 224, as at every multiple of 32, there is no difference. The default dropout is torchvision's.
    """

    def __init__(self, width: float = 1.0, dropout: float = 0.5) -> None:
        super().__init__()
        channels = [c if isinstance(c, str) else scaled(c, width) for c in cfgs["D"]]
        self.features = make_layers(channels)
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True
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
        _initialise(self, width)

    def forward(self, images: Tensor) -> Tensor:
        """B,3,H,W normalised images to B,dim."""
        features: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return features


def _initialise(network: nn.Module, width: float) -> None:
    """torchvision's; a thin network's linear layers get as much more as keeps their outputs' size."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01 / width**0.5)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
