"""The t-product of third-order tensors, and attention made of it (Kilmer & Martin, 2011).

A tensor n,l,m is here n frontal slices of l x m. `bcirc(A)` is the block-circulant matrix of A's slices; the t-product
folds bcirc(A) unfold(B) back. A Fourier transform along n makes it n independent matrix products.
"""

import torch
from torch import Tensor, nn


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
