"""CAER-Net-S (Lee et al., ICCV 2019): the face beside the frame with the face hidden, weighed against each other."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from clef.config import CaerNetConfig, InputName
from clef.models.backbone import Backbone, Batch, WeightLoader
from clef.models.encoders import scaled

CHANNELS = (32, 64, 128, 256, 256)


class CaerNet(Backbone):
    """Face and context encoders of five 3x3 convolutions, attention over the context, adaptive fusion to 128.

    The paper's layers and sizes (section 4.2). Its attended map is summed over the frame (an attention-weighted
    mean), which the paper leaves open; from-scratch training, so no weights are taken. `feature_norm` adds a common
    port's batch norm on both streams' features. Where no face was found, the context has all the weight: chosen here.
    """

    inputs: ClassVar[tuple[InputName, ...]] = ("face", "scene_without_face")

    def build(self, config: CaerNetConfig, load: WeightLoader) -> None:
        """Both encoders, the attention, and the fusion."""
        dim = scaled(CHANNELS[-1], config.width)
        hidden = scaled(128, config.width)
        self.feature_dim = hidden
        self.face = _encoder(config.width)
        self.context = _encoder(config.width)
        self.face_norm = nn.BatchNorm1d(dim) if config.feature_norm else nn.Identity()
        self.context_norm = nn.BatchNorm1d(dim) if config.feature_norm else nn.Identity()
        self.attention = nn.Sequential(*_block(dim, hidden), *_block(hidden, 1))
        self.face_weight = _weigher(dim, hidden)
        self.context_weight = _weigher(dim, hidden)
        self.fusion = nn.Sequential(nn.Linear(2 * dim, hidden), nn.ReLU(), nn.Dropout(config.dropout))

    def features(self, batch: Batch) -> Tensor:
        """B,128."""
        face = self.face_norm(self.face(batch["face"]).mean(dim=(2, 3)))
        context = self.context_norm(self._attended(self.context(batch["scene_without_face"])))
        faceless = ~batch["valid"]["face"][:, None]
        scores = [self.face_weight(face).masked_fill(faceless, -torch.inf), self.context_weight(context)]
        weights = torch.cat(scores, dim=1).softmax(dim=1)
        joint: Tensor = self.fusion(torch.cat([face * weights[:, :1], context * weights[:, 1:]], dim=1))
        return joint

    def _attended(self, map_: Tensor) -> Tensor:
        """B,256: the map's mean, as the attention weighs its places."""
        attention = self.attention(map_).flatten(1).softmax(dim=1).view(len(map_), 1, *map_.shape[2:])
        return (map_ * attention).sum(dim=(2, 3))


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


def _encoder(width: float) -> nn.Sequential:
    """Five blocks, a 2x2 max-pool after each of the first four."""
    layers: list[nn.Module] = []
    inputs = 3
    for i, channels in enumerate(CHANNELS):
        outputs = scaled(channels, width)
        layers += _block(inputs, outputs)
        if i < 4:
            layers.append(nn.MaxPool2d(2))
        inputs = outputs
    return nn.Sequential(*layers)


def _weigher(dim: int, hidden: int) -> nn.Sequential:
    """The paper's two 1x1 convolutions; on a pooled vector they are linear layers."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))
