"""CAER-Net-S (Lee et al., ICCV 2019): the face beside the frame with the face hidden, weighed against each other."""

import torch
from torch import Tensor, nn

from clef.config import CaerNetConfig
from clef.data.batch_memory import Batch
from clef.models.backbone import Backbone, WeightLoader
from clef.models.encoders import scaled
from clef.models.pooling import MaxPool2d

CHANNELS = (32, 64, 128, 256, 256)
"""Of the five convolutions of each encoder."""


class CaerNet(Backbone):
    """Face and context encoders of five 3x3 convolutions, attention over the context, adaptive fusion to 128.

    Layers and sizes are the paper's (section 4.2); it trains from scratch, so no weights are taken. `feature_norm`
    adds a common port's batch norm on both streams' features. The ReLU between the layers that score a stream is the
    port's too. Where no face was found, the context has all the weight: chosen here.
    """

    def build(self, config: CaerNetConfig, load: WeightLoader) -> None:
        """Make both encoders, the attention, and the fusion."""
        dim = scaled(CHANNELS[-1], config.width)
        hidden = scaled(128, config.width)
        self.feature_dim, self.context_pooling = hidden, config.context_pooling
        self.face = _encoder(config.width)
        self.context = _encoder(config.width)
        self.face_norm = nn.BatchNorm1d(dim) if config.feature_norm else nn.Identity()
        self.context_norm = nn.BatchNorm1d(dim) if config.feature_norm else nn.Identity()
        self.attention = nn.Sequential(*_block(dim, hidden), *_block(hidden, 1))
        self.face_weight = _weight_layers(dim, hidden)
        self.context_weight = _weight_layers(dim, hidden)
        self.fusion = nn.Sequential(nn.Linear(2 * dim, hidden), nn.ReLU(), nn.Dropout(config.dropout))

    def features(self, batch: Batch) -> Tensor:
        """Return the joint feature, B,128, of `face` B,3,H,W and `scene_without_face` B,3,H',W'.

        The weights of the two streams are a softmax over their scores (the paper's adaptive fusion).
        """
        face = self.face_norm(self.face(batch["face"]).mean(dim=(2, 3)))
        context = self.context_norm(self._attend(self.context(batch["scene_without_face"])))
        faceless = ~batch["valid"]["face"][:, None]
        scores = [self.face_weight(face).masked_fill(faceless, -torch.inf), self.context_weight(context)]
        weights = torch.cat(scores, dim=1).softmax(dim=1)
        joint: Tensor = self.fusion(torch.cat([face * weights[:, :1], context * weights[:, 1:]], dim=1))
        return joint

    def _attend(self, map_: Tensor) -> Tensor:
        """Return the pooled product of the context's map and its attention, B,256,H,W to B,256.

        The attention sums to 1 over the H x W positions, so the published average is 1/HW of the sum.
        """
        attention = self.attention(map_).flatten(1).softmax(dim=1).view(len(map_), 1, *map_.shape[2:])
        attended = map_ * attention
        return attended.sum(dim=(2, 3)) if self.context_pooling == "sum" else attended.mean(dim=(2, 3))


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


def _encoder(width: float) -> nn.Sequential:
    """Make five blocks, with a 2x2 max-pool after each of the first four: B,3,H,W to B,256,H/16,W/16."""
    layers: list[nn.Module] = []
    inputs = 3
    for i, channels in enumerate(CHANNELS):
        outputs = scaled(channels, width)
        layers += _block(inputs, outputs)
        if i < 4:
            layers.append(MaxPool2d(2))
        inputs = outputs
    return nn.Sequential(*layers)


def _weight_layers(dim: int, hidden: int) -> nn.Sequential:
    """Make what scores a stream, B,dim to B,1: the paper's two 1x1 convolutions, linear layers on a pooled vector."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))
