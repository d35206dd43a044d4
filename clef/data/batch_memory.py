"""A batch as one block of memory, which loader workers fill and the training process reads without a copy.

Passing tensors between processes costs a third of a millisecond each, and touching fresh memory for the first time
costs as much as a sixth of the decoding. So all tensors of a batch lie in one buffer (`BatchLayout` says where), and
the buffers are reused (`BufferPool`).
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
"""Tensors by name; `valid`, `without_subject`, `jitter`, `masked_region` and `subject_region` are dictionaries of
tensors, by input.
"""
FEATURES = "features"
"""The key of a batch below which features that were computed beforehand lie, B,dim float32, by encoder."""
FieldName = tuple[str, ...]
"""Where a field lies in a batch: ("body",) is batch["body"], ("valid", "body") is batch["valid"]["body"]."""
_ALIGNMENT = 64
"""Bytes. Each field begins at a multiple of it, a cache line, whatever the size of the one before."""


@dataclass(frozen=True)
class Field:
    """One tensor of a batch: the type and shape of a row."""

    dtype: torch.dtype
    shape: tuple[int, ...] = ()
    image: bool = False
    """Rows are H,W,C, as images are decoded; the batch shows them as B,C,H,W."""

    def num_bytes(self, rows: int) -> int:
        """Return how many bytes so many rows take."""
        return rows * math.prod(self.shape) * self.dtype.itemsize


class BatchLayout:
    """Where the fields of a batch lie in its buffer, depending on the number of rows (samples)."""

    def __init__(self, fields: dict[FieldName, Field]) -> None:
        self.fields = fields

    def size(self, rows: int) -> int:
        """Return the bytes of a buffer for so many rows."""
        return sum(_aligned(field.num_bytes(rows)) for field in self.fields.values())

    def arrays(self, buffer: Tensor, rows: int) -> dict[FieldName, np.ndarray]:
        """Return the fields of a buffer as NumPy arrays, to be filled."""
        return {name: tensor.numpy() for name, tensor in self._views(buffer, rows).items()}

    def batch(self, buffer: Tensor, rows: int) -> Batch:
        """Return the fields of a filled buffer as a batch.

        Only images are views. All else is copied, so that code which keeps an index or a target doesn't keep the whole
        buffer from being reused.
        """
        result: Batch = {}
        for name, tensor in self._views(buffer, rows).items():
            inner = result
            for key in name[:-1]:
                inner = inner.setdefault(key, {})
            inner[name[-1]] = tensor.permute(0, 3, 1, 2) if self.fields[name].image else tensor.clone()
        return result

    def _views(self, buffer: Tensor, rows: int) -> dict[FieldName, Tensor]:
        views, start = {}, 0
        for name, field in self.fields.items():
            flat = buffer[start : start + field.num_bytes(rows)]
            views[name] = flat.view(field.dtype).view(rows, *field.shape)
            start += _aligned(field.num_bytes(rows))
        return views


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class BufferPool:
    """Buffers in shared memory, allocated before the workers start.

    What travels between processes is the number of a buffer. The loader reserves one (`reserve`), a worker fills it
    (`buffer`), and the training process reads it (`borrow`) until nothing refers to its tensors any more; then it is
    free again. Free buffers are used in turn, so a worker mostly gets those whose memory it has touched before.

    Raises:
        SetupError: There is not so much shared memory.
    """

    def __init__(self, size: int, count: int) -> None:
        self.size = size
        try:
            # Not in torch's public interface; tests/data/test_batch_memory.py watches that it is still there.
            storage = torch.UntypedStorage._new_shared(size * count)
        except RuntimeError as error:
            raise SetupError(
                f"no {size * count / 1e6:.0f} MB of shared memory for the loader ({error}); give this machine or "
                f"container more (/dev/shm), or set fewer runtime.num_workers or a smaller batch_size"
            ) from None
        self._memory = torch.empty(0, dtype=torch.uint8).set_(storage)
        self._free = deque(range(count))

    def reserve(self, size: int) -> int | None:
        """Return the number of a free buffer of at least that size, or None: the batch then needs memory of its own."""
        return self._free.popleft() if self._free and size <= self.size else None

    def buffer(self, number: int) -> Tensor:
        """Return a reserved buffer, flat uint8, for the worker that fills it."""
        return self._memory[number * self.size : (number + 1) * self.size]

    def borrow(self, number: int) -> Tensor:
        """Return a filled buffer, flat uint8. It is free again once the last view of the result is gone."""
        array = self.buffer(number).numpy()
        weakref.finalize(array, self._free.append, number).atexit = False
        return torch.from_numpy(array)
