"""Which sample comes when: a function of (seed, epoch, position), known without reading any data.

Training reads one endless stream of samples, epoch after epoch, each epoch a new permutation. The stream is cut into
global batches of one size, regardless of where an epoch ends. So every sample comes exactly once an epoch, no batch is
short and none is dropped. Each rank takes an equal slice of each global batch. The only state is how many samples have
been consumed: a run that was stopped on 4 ranks continues with 1 or 2 through the same batches, without skipping ahead.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from clef.errors import ConfigError


@lru_cache(maxsize=4)  # a batch touches two epochs at most, unless the set is smaller than a batch
def permutation(seed: int, epoch: int, samples: int) -> np.ndarray:
    """Return the indices 0..samples-1 in the order of an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(samples)


@dataclass(frozen=True)
class Order:
    """The stream of a training run: `samples` in the split, `batch_size` in a global batch."""

    samples: int
    batch_size: int
    seed: int

    def batch(self, number: int) -> list[tuple[int, int]]:
        """Return epoch and index of each sample of global batch `number`, from 0: step n trains batch n - 1."""
        positions = np.arange(number * self.batch_size, (number + 1) * self.batch_size)
        epochs, offsets = np.divmod(positions, self.samples)
        parts = [
            permutation(self.seed, epoch, self.samples)[offsets[epochs == epoch]]
            for epoch in range(int(epochs[0]), int(epochs[-1]) + 1)
        ]
        return list(zip(epochs.tolist(), np.concatenate(parts).tolist(), strict=True))

    def num_batches(self, epochs: int) -> int:
        """Return how many global batches `epochs` epochs take; the last may reach into the epoch after."""
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
    """Raise ConfigError for a global batch that the ranks can't share equally; it names the nearest sizes that work."""
    if batch_size % ranks:
        below, above = batch_size // ranks * ranks, -(-batch_size // ranks) * ranks
        fitting = " or ".join(str(size) for size in (below, above) if size)
        raise ConfigError(f"batch_size={batch_size} can't be shared equally by {ranks} ranks; {fitting} would do")


@dataclass(frozen=True)
class EvaluationBatches:
    """A rank's batches for evaluation: every sample exactly once over all ranks, neither padded nor dropped."""

    samples: int
    batch_size: int
    rank: int
    ranks: int

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield lists of (epoch, index); the epoch is always 0."""
        indices = range(self.rank, self.samples, self.ranks)
        for first in range(0, len(indices), self.batch_size):
            yield [(0, index) for index in indices[first : first + self.batch_size]]

    def __len__(self) -> int:
        return math.ceil(len(range(self.rank, self.samples, self.ranks)) / self.batch_size)
