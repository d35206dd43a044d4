"""Which sample comes when, as pure arithmetic: a function of (seed, epoch, place), known without reading anything.

Training reads one endless stream of samples, epoch after epoch, each epoch a fresh permutation. The stream is cut
into global batches of one size, whatever the epoch boundaries, so every sample comes exactly once an epoch, no batch
is short and none is dropped. A rank takes its equal slice of each batch. The only state is how many samples have
been consumed: a run stopped on 4 ranks goes on with 1 or 2 through the same batches, at no cost for the way there.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from clef.errors import ConfigError


@lru_cache(maxsize=4)  # a batch touches two epochs at most, unless the set is smaller than a batch
def permutation(seed: int, epoch: int, samples: int) -> np.ndarray:
    """The places 0..samples-1 in the order of an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(samples)


@dataclass(frozen=True)
class Order:
    """The stream of a training run: `samples` in the split, `batch_size` in a global batch."""

    samples: int
    batch_size: int
    seed: int

    def at(self, position: int) -> tuple[int, int]:
        """Epoch (from 0) and place of the sample at a position of the stream."""
        epoch, offset = divmod(position, self.samples)
        return epoch, int(permutation(self.seed, epoch, self.samples)[offset])

    def batch(self, number: int) -> list[tuple[int, int]]:
        """Epoch and place of each sample of global batch `number`."""
        first = number * self.batch_size
        return [self.at(position) for position in range(first, first + self.batch_size)]

    def batches(self, epochs: int) -> int:
        """Global batches that `epochs` epochs take; the last may reach into the epoch after."""
        return -(-epochs * self.samples // self.batch_size)


@dataclass(frozen=True)
class RankBatches:
    """A rank's slice of each global batch from `start` up to `stop`: the batch sampler of a training loader."""

    order: Order
    rank: int
    ranks: int
    start: int
    stop: int

    def __post_init__(self) -> None:
        check_batch_size(self.order.batch_size, self.ranks)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size = self.order.batch_size // self.ranks
        for number in range(self.start, self.stop):
            yield self.order.batch(number)[self.rank * size : (self.rank + 1) * size]

    def __len__(self) -> int:
        return self.stop - self.start


def check_batch_size(batch_size: int, ranks: int) -> None:
    """Refuse a global batch that the ranks can't share equally, and name the nearest sizes that they can."""
    if batch_size % ranks:
        below, above = batch_size // ranks * ranks, -(-batch_size // ranks) * ranks
        fitting = " or ".join(str(size) for size in (below, above) if size)
        raise ConfigError(f"batch_size={batch_size} can't be shared equally by {ranks} ranks; {fitting} would do")


@dataclass(frozen=True)
class EveryOnce:
    """A rank's batches for evaluation: every place exactly once over all ranks, neither padded nor dropped."""

    samples: int
    batch_size: int
    rank: int
    ranks: int

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        mine = range(self.rank, self.samples, self.ranks)
        for first in range(0, len(mine), self.batch_size):
            yield [(0, place) for place in mine[first : first + self.batch_size]]

    def __len__(self) -> int:
        return math.ceil(len(range(self.rank, self.samples, self.ranks)) / self.batch_size)
