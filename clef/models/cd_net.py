"""CD-Net (Wang et al., JVCIR 2022): face, body and context, which exchange features at several scales.

The t-product of third-order tensors, and attention made of it (Kilmer & Martin, 2011).

A tensor n,l,m is here n frontal slices of l x m. `bcirc(A)` is the block-circulant matrix of A's slices; the t-product
folds bcirc(A) unfold(B) back. A Fourier transform along n makes it n independent matrix products.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clef.config import CdNetConfig, InputName
from clef.models.backbone import Backbone, Batch, WeightLoader
from clef.models.encoders import Encoder, scaled


def t_product(a: Tensor, b: Tensor) -> Tensor:
    """A * B: ...,n,l,m and ...,n,m,p to ...,n,l,p; float32, slice k being the sum over i + j = k (mod n) of A_i B_j."""
    product = torch.fft.rfft(a, dim=-3) @ torch.fft.rfft(b, dim=-3)
    return torch.fft.irfft(product, n=a.shape[-3], dim=-3)


def t_transpose(a: Tensor) -> Tensor:
    """A^T: every slice is transposed, and the order of all but the first is reversed."""
    return torch.cat([a[..., :1, :, :], a[..., 1:, :, :].flip(-3)], dim=-3).mT


class TubalAttention(nn.Module):
    """What components read from each other: B,n,P,C to the same shape, B,n,P,C, to be added.

    A tube is a position across the n components. Queries, keys and values are t-products with learned tensors, so
    each component's share depends on which of the others it reads; the weights sum to 1 over positions and slices.
    """

    def __init__(self, dim: int, shared: int, components: int = 3) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.query, self.key, self.value = (_tensor(components, dim, shared) for _ in range(3))
        self.out = _tensor(components, shared, dim)

    def forward(self, tubes: Tensor, there: Tensor) -> Tensor:
        """`there` B,n bool: an absent component gives zeros, and gets none. Fourier transforms need float32."""
        mask = there[:, :, None, None]
        with torch.autocast(tubes.device.type, enabled=False):
            tubes = self.norm(tubes.float()) * mask
            query, key, value = (t_product(tubes, weight) for weight in (self.query, self.key, self.value))
            read = t_product(self.weights(query, key), value)
            return t_product(read, self.out) * mask

    @staticmethod
    def weights(query: Tensor, key: Tensor) -> Tensor:
        """B,n,P,P: of a position, in the n shifts between components, on every position."""
        components, places, shared = query.shape[1:]
        scores = t_product(query, t_transpose(key)) * (components * shared) ** -0.5
        flat = scores.transpose(1, 2).flatten(2).softmax(-1)
        return flat.view(-1, places, components, places).transpose(1, 2)


def _tensor(components: int, inputs: int, outputs: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(components, inputs, outputs) * (components * inputs) ** -0.5)


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
