"""What every loader reads and delivers, and how a measured pass is timed: the same for all of them."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from clef.config import InputConfig, InputName
from clef.data.manifest import KINDS, MEMBER_OF_INPUT
from clef.data.order import Order
from clef.data.shards import SplitShards
from clef.errors import SetupError

PREFETCH = 4
"""Batches that a worker of any loader may be ahead."""
Batches = Iterable[dict[str, Tensor]]
"""Every image input as uint8 B,3,H,W."""


@dataclass(frozen=True)
class Setting:
    """The images of a cell, and how they are delivered."""

    shards: SplitShards
    inputs: Mapping[InputName, InputConfig]
    batch_size: int
    workers: int
    samples: int
    """People in a measured pass; if fewer are read, they come again."""
    stage_seconds: float = 1.0
    """A stage alone is repeated over a worker's people until so much time has passed."""
    seed: int = 0

    @cached_property
    def tars(self) -> int:
        """Return how many shards are read: the first ones, one a worker at least, with `samples` people if possible."""
        people, tars = 0, 0
        for tars, shard in enumerate(self.shards.split.shards, 1):
            people += shard.samples
            if people >= self.samples and tars >= self.workers:
                break
        return tars

    @cached_property
    def people(self) -> int:
        """Return how many people are read: all those of these shards."""
        return sum(shard.samples for shard in self.shards.split.shards[: self.tars])

    @property
    def members(self) -> list[str]:
        """Return the names of the members that the inputs are decoded from, each once."""
        wanted = {MEMBER_OF_INPUT[name] for name in self.inputs}
        return [kind for kind in KINDS if kind in wanted]

    @cached_property
    def member_bytes(self) -> dict[str, float]:
        """Return the mean size of each of those members, over the people that have it."""
        sizes = {kind: self.shards.rows["size"][: self.people, KINDS.index(kind)] for kind in self.members}
        return {kind: float(size[size >= 0].mean()) for kind, size in sizes.items() if (size >= 0).any()}

    @cached_property
    def jpegs_per_person(self) -> float:
        """Return the mean number of JPEGs decoded for a person."""
        columns = [KINDS.index(kind) for kind in self.members]
        return float((self.shards.rows["size"][: self.people, columns] >= 0).sum() / self.people)

    def index_of(self, key: int) -> int:
        """Return the index in the split of the sample with this key."""
        return int(np.searchsorted(self.shards.rows["key"], key))

    @cached_property
    def image_sizes(self) -> tuple[list[int], list[int]]:
        """Return width and height of the first person's image: at the source, and as frames are stored."""
        facts = json.loads(self.shards.read(0, "meta.json") or b"{}")
        return facts["source_size"], facts["size"]

    @property
    def warm_batches(self) -> int:
        """Return how many batches come before the clock starts: enough that workers are as far ahead as later."""
        return self.workers * (PREFETCH + 1)

    def timed_batches(self, share: float = 1) -> int:
        """Return how many batches are timed in `share` of a pass."""
        return max(1, round(self.samples * share / self.batch_size))

    def all_batches(self, share: float = 1) -> int:
        """Return how many batches there are; those after the timed ones keep all workers busy until the clock stops."""
        return self.warm_batches + self.timed_batches(share) + self.warm_batches

    def order(self, share: float = 1) -> list[list[tuple[int, int]]]:
        """Return epoch and index of each sample of each batch, shuffled as in training."""
        order = Order(self.people, self.batch_size, self.seed)
        return [order.batch(number) for number in range(self.all_batches(share))]


def measure(batches: Batches, setting: Setting, name: str, share: float = 1) -> float:
    """Return people a second, from the delivery of the last warm batch to that of the last timed one.

    `share`: how much of a pass is timed. Raises SetupError when a loader delivers something else than the others,
    because then its rate can't be compared.
    """
    iterator, count = iter(batches), setting.timed_batches(share)
    for _ in range(setting.warm_batches):
        _check_batch(next(iterator), setting, name)
    start = time.perf_counter()
    for _ in range(count):
        batch = next(iterator)
    seconds = time.perf_counter() - start
    _check_batch(batch, setting, name)
    for _ in iterator:  # to the end: torch's workers may abort with a traceback when they are stopped half way
        pass
    return count * setting.batch_size / seconds


def _check_batch(batch: Mapping[str, Any], setting: Setting, name: str) -> None:
    for key, config in setting.inputs.items():
        expected = (setting.batch_size, 3, *config.shape)
        if tuple(batch[key].shape) != expected or str(batch[key].dtype) != "torch.uint8":
            actual = f"{batch[key].dtype} {tuple(batch[key].shape)}"
            raise SetupError(
                f"{name}: delivers {key} as {actual}, not torch.uint8 {expected}; its rate can't be compared"
            )


def single_thread(_worker: int) -> None:
    """Limit a loader's worker to one thread: there is a process for each core."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
