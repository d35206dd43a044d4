"""CD-Net (Wang et al., JVCIR 2022): face, body and context, which exchange features at several scales."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clef.config import CdNetConfig, InputName
from clef.models.backbone import Backbone, Batch, WeightLoader
from clef.models.resnet import Encoder, scaled
from clef.models.tubal import TubalAttention

SCALES = {2: 128, 3: 256, 4: 512}
"""The stages after which features are exchanged, and their channels."""
SHARED, FUSED = 128, 256


class CdNet(Backbone):
    """Three encoders, a tubal transformer at three scales, hierarchical fusion of the scales to 3 x 256.

    The paper gives this much; the layers are chosen here. ResNet-18 encoders; after stages 2, 3 and 4 the three maps
    are pooled to grid x grid tubes, tubal attention in a shared space of 128 reads across them, and what it reads is
    added to the tubes and, enlarged, to the maps. A scale's enhanced tubes are averaged and fused with the scale below.
    A face that was not found gives zeros at every scale.
    """

    inputs: ClassVar[tuple[InputName, ...]] = ("face", "body", "context")

    def build(self, config: CdNetConfig, load: WeightLoader) -> None:
        """The encoders, the exchange and the fusion of each scale."""
        self.grid = config.grid
        self.face, self.body, self.context = (Encoder("resnet18", config.width) for _ in self.inputs)
        for name in self.inputs:
            load(name, self.get_submodule(name))
        fused = scaled(FUSED, config.width)
        self.feature_dim = len(SCALES) * fused
        self.exchange, self.fusion = nn.ModuleList(), nn.ModuleList()
        below = 0
        for channels in SCALES.values():
            dim = scaled(channels, config.width)
            self.exchange.append(TubalAttention(dim, scaled(SHARED, config.width)))
            self.fusion.append(nn.Sequential(nn.Linear(3 * dim + below, fused), nn.ReLU()))
            below = fused
        self.dropout = nn.Dropout(config.dropout)

    def features(self, batch: Batch) -> Tensor:
        """B,768."""
        encoders = (self.face, self.body, self.context)
        there = torch.stack([batch["valid"][name] for name in self.inputs], dim=1)
        maps = [
            encoder.stage(1)(encoder.stem(batch[name])) for encoder, name in zip(encoders, self.inputs, strict=True)
        ]
        levels: list[Tensor] = []
        for number, exchange, fusion in zip(SCALES, self.exchange, self.fusion, strict=True):
            maps = [encoder.stage(number)(map_) for encoder, map_ in zip(encoders, maps, strict=True)]
            tubes = self._tubes(maps) * there[:, :, None, None]
            change = exchange(tubes, there)
            maps = [map_ + self._enlarged(change[:, i], map_) for i, map_ in enumerate(maps)]
            pooled = (tubes + change).mean(dim=2).flatten(1)
            levels.append(fusion(torch.cat([pooled, *levels[-1:]], dim=1)))
        joint: Tensor = self.dropout(torch.cat(levels, dim=1))
        return joint

    def _tubes(self, maps: list[Tensor]) -> Tensor:
        """B,3,grid * grid,C: the maps of the three components, pooled."""
        return torch.stack([F.adaptive_avg_pool2d(map_, self.grid).flatten(2).mT for map_ in maps], dim=1)

    def _enlarged(self, change: Tensor, map_: Tensor) -> Tensor:
        """B,C,H,W: grid * grid places over the whole map."""
        places = change.mT.unflatten(2, (self.grid, self.grid)).to(map_.dtype)
        return F.interpolate(places, size=map_.shape[-2:], mode="bilinear")
