"""The encoders by name: torchvision's networks without their classifiers."""

from clef.models.resnet import Encoder
from clef.models.vgg import Vgg16


def encoder(network: str, width: float = 1.0) -> Encoder | Vgg16:
    """An encoder B,3,H,W -> B,`dim`, with random weights: resnet18, resnet50, resnet152 or vgg16."""
    return Vgg16(width) if network == "vgg16" else Encoder(network, width)
