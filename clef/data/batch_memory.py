"""A batch as one block of memory, which loader workers fill and the training process reads, without a copy.

Passing tensors between processes costs a third of a millisecond each, and the first touch of fresh memory as much as
a sixth of the decoding. So a batch is one block, and blocks go round (`Pool`).
"""

import math
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clef.errors import SetupError

Batch = dict[str, Any]
Name = tuple[str, ...]
"""Of a part of a batch: ("body",), or ("valid", "body") for batch["valid"]["body"]."""
_ALIGNED = 64


@dataclass(frozen=True)
class Part:
    """One part of a batch: the type and shape of a row."""

    dtype: torch.dtype
    shape: tuple[int, ...] = ()
    image: bool = False
    """Rows H,W,C as they are decoded; the batch shows them as B,C,H,W."""


class Layout:
    """Where the parts of a batch lie in its block, by the number of its rows."""

    def __init__(self, parts: dict[Name, Part]) -> None:
        self.parts = parts

    def size(self, rows: int) -> int:
        """The bytes of a block of so many rows."""
        return sum(self._padded(part, rows) for part in self.parts.values())

    def arrays(self, block: Tensor, rows: int) -> dict[Name, np.ndarray]:
        """The parts as NumPy sees them, to be filled."""
        return {name: tensor.numpy() for name, tensor in self._views(block, rows).items()}

    def batch(self, block: Tensor, rows: int) -> Batch:
        """The parts as a batch. Only images are views: whoever keeps an index or a target must not keep the block."""
        result: Batch = {}
        for name, tensor in self._views(block, rows).items():
            inner = result
            for key in name[:-1]:
                inner = inner.setdefault(key, {})
            inner[name[-1]] = tensor.permute(0, 3, 1, 2) if self.parts[name].image else tensor.clone()
        return result

    def _views(self, block: Tensor, rows: int) -> dict[Name, Tensor]:
        views, start = {}, 0
        for name, part in self.parts.items():
            flat = block[start : start + self._bytes(part, rows)]
            views[name] = flat.view(part.dtype).view(rows, *part.shape)
            start += self._padded(part, rows)
        return views

    @staticmethod
    def _bytes(part: Part, rows: int) -> int:
        return rows * math.prod(part.shape) * part.dtype.itemsize

    def _padded(self, part: Part, rows: int) -> int:
        return -(-self._bytes(part, rows) // _ALIGNED) * _ALIGNED


class Pool:
    """Blocks of shared memory, made before the workers start, each free again once nobody holds its batch any more.

    SetupError where there is not so much shared memory.
    Numbers travel, not blocks. They are taken in turn, so that a worker mostly gets those that it has touched before.
    """

    def __init__(self, size: int, blocks: int) -> None:
        self.size = size
        try:
            storage = torch.UntypedStorage._new_shared(size * blocks)
        except RuntimeError as error:
            raise SetupError(
                f"no {size * blocks / 1e6:.0f} MB of shared memory for the loader ({error}); give this machine or "
                f"container more (/dev/shm), or set fewer runtime.workers or a smaller batch_size"
            ) from None
        self._memory = torch.empty(0, dtype=torch.uint8).set_(storage)
        self._free = deque(range(blocks))

    def take(self, size: int) -> int | None:
        """A free block of at least that size, or None: then memory of its own will have to do."""
        return self._free.popleft() if self._free and size <= self.size else None

    def block(self, number: int) -> Tensor:
        """A block, for the worker that fills it."""
        return self._memory[number * self.size : (number + 1) * self.size]

    def lent(self, number: int) -> Tensor:
        """A filled block; the last of its views to go sets it free."""
        array = self.block(number).numpy()
        weakref.finalize(array, self._free.append, number).atexit = False
        return torch.from_numpy(array)
