"""The encoders by name."""

from typing import Any

from clef.models.resnet import Encoder


def encoder(network: str, width: float = 1.0) -> Any:
    """An encoder B,3,H,W -> B,dim, with random weights."""
    return Encoder(network, width)
