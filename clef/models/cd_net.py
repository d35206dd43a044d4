"""CD-Net (Wang et al., JVCIR 2022): face, body and context, which exchange features at several scales.

They exchange by attention made of t-products of third-order tensors (Kilmer & Martin, 2011). A tensor n,l,m is here n
frontal slices of l x m. `bcirc(A)` is the block-circulant matrix of A's slices; the t-product A * B folds
bcirc(A) unfold(B) back. A Fourier transform along n makes it n independent matrix products.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clef.config import CdNetConfig
from clef.data.batch_memory import Batch
from clef.models.backbone import Backbone, WeightLoader
from clef.models.encoders import ResNetEncoder, scaled

COMPONENTS = ("face", "body", "context")
"""What exchanges features, in the order of a tube."""
SCALES = {2: 128, 3: 256, 4: 512}
"""The ResNet stages after which features are exchanged, and their channels."""
SHARED, FUSED = 128, 256
"""Dimensions of the space in which the components read each other, and of each fused scale."""


class CdNet(Backbone):
    """Three encoders, a tubal transformer at three scales, hierarchical fusion of the scales to 3 x 256.

    The paper gives this much; the layers are chosen here. ResNet-18 encoders; after stages 2, 3 and 4 the three maps
    are pooled to grid x grid tubes, tubal attention in a shared space of 128 reads across them, and what it reads is
    added to the tubes and, enlarged, to the maps. A scale's enhanced tubes are averaged and fused with the scale below.
    A face that was not found gives zeros at every scale.
    """

    def build(self, config: CdNetConfig, load: WeightLoader) -> None:
        """Make the encoders, and the exchange and fusion of each scale."""
        self.grid = config.grid
        self.face, self.body, self.context = (ResNetEncoder("resnet18", config.width) for _ in COMPONENTS)
        for name in COMPONENTS:
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
        """Return the joint feature, B,768, of `face`, `body` and `context`, each B,3,H,W of its own size."""
        encoders = (self.face, self.body, self.context)
        valid = torch.stack([batch["valid"][name] for name in COMPONENTS], dim=1)
        maps = [encoder.stage(1)(encoder.stem(batch[name])) for encoder, name in zip(encoders, COMPONENTS, strict=True)]
        scales: list[Tensor] = []
        for number, exchange, fusion in zip(SCALES, self.exchange, self.fusion, strict=True):
            maps = [encoder.stage(number)(map_) for encoder, map_ in zip(encoders, maps, strict=True)]
            tubes = self._pool_tubes(maps) * valid[:, :, None, None]
            change = exchange(tubes, valid)
            maps = [map_ + self._enlarge(change[:, i], map_) for i, map_ in enumerate(maps)]
            pooled = (tubes + change).mean(dim=2).flatten(1)
            scales.append(fusion(torch.cat([pooled, *scales[-1:]], dim=1)))
        joint: Tensor = self.dropout(torch.cat(scales, dim=1))
        return joint

    def _pool_tubes(self, maps: list[Tensor]) -> Tensor:
        """Return B,3,P,C with P = grid * grid positions: the maps B,C,H,W of the three components, pooled."""
        return torch.stack([F.adaptive_avg_pool2d(map_, self.grid).flatten(2).mT for map_ in maps], dim=1)

    def _enlarge(self, change: Tensor, map_: Tensor) -> Tensor:
        """Return B,C,H,W, as large as `map_`: the change of one component, B,P,C, spread over the whole map."""
        positions = change.mT.unflatten(2, (self.grid, self.grid)).to(map_.dtype)
        return F.interpolate(positions, size=map_.shape[-2:], mode="bilinear")


class TubalAttention(nn.Module):
    """What components read from each other: B,n,P,C to the same shape, B,n,P,C, to be added.

    A tube is a position across the n components. Queries, keys and values are t-products with learned tensors, so
    each component's share depends on which of the others it reads; the weights sum to 1 over positions and slices.
    """

    def __init__(self, dim: int, shared: int, components: int = 3) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.query, self.key, self.value = (_random_tensor(components, dim, shared) for _ in range(3))
        self.out = _random_tensor(components, shared, dim)

    def forward(self, tubes: Tensor, valid: Tensor) -> Tensor:
        """Return what each of the `tubes` B,n,P,C reads, B,n,P,C in float32.

        `valid` B,n bool: a component that is missing gives zeros, and gets none.
        """
        mask = valid[:, :, None, None]
        with torch.autocast(tubes.device.type, enabled=False):  # Fourier transforms need float32
            tubes = self.norm(tubes.float()) * mask
            query, key, value = (t_product(tubes, weight) for weight in (self.query, self.key, self.value))
            read = t_product(self.weights(query, key), value)
            return t_product(read, self.out) * mask

    @staticmethod
    def weights(query: Tensor, key: Tensor) -> Tensor:
        """Return B,n,P,P of B,n,P,D: a position's weights, in the n shifts between components, on every position."""
        components, positions, shared = query.shape[1:]
        scores = t_product(query, t_transpose(key)) * (components * shared) ** -0.5
        flat = scores.transpose(1, 2).flatten(2).softmax(-1)
        return flat.view(-1, positions, components, positions).transpose(1, 2)


def t_product(a: Tensor, b: Tensor) -> Tensor:
    """Return A * B: ...,n,l,m and ...,n,m,p to ...,n,l,p; float32.

    Its slice k is the sum of A_i B_j over i + j = k (mod n).
    """
    product = torch.fft.rfft(a, dim=-3) @ torch.fft.rfft(b, dim=-3)
    return torch.fft.irfft(product, n=a.shape[-3], dim=-3)


def t_transpose(a: Tensor) -> Tensor:
    """Return A^T, ...,n,l,m to ...,n,m,l: slices are transposed, and the order of all but the first is reversed."""
    return torch.cat([a[..., :1, :, :], a[..., 1:, :, :].flip(-3)], dim=-3).mT


def _random_tensor(components: int, inputs: int, outputs: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(components, inputs, outputs) * (components * inputs) ** -0.5)
