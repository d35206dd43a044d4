"""What every contender reads and delivers, and how one measured pass is timed: alike for all."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from clef.config import InputConfig, InputName
from clef.data.manifest import KINDS, SOURCE
from clef.data.order import Order
from clef.data.shards import SplitShards
from clef.errors import SetupError

PREFETCH = 4
"""Batches that a worker of any contender may be ahead."""
Batches = Iterable[dict[str, Tensor]]
"""Every image input as uint8 B,3,H,W."""


@dataclass(frozen=True)
class Setting:
    """The images of a cell, and how they are delivered."""

    shards: SplitShards
    inputs: Mapping[InputName, InputConfig]
    batch: int
    workers: int
    samples: int
    """People in a measured pass; the people read come round as often as that takes."""
    seed: int = 0

    @cached_property
    def tars(self) -> int:
        """How many shards are read: the first ones, one for each worker at least, with `samples` people if they can."""
        people, tars = 0, 0
        for tars, shard in enumerate(self.shards.split.shards, 1):
            people += shard.samples
            if people >= self.samples and tars >= self.workers:
                break
        return tars

    @cached_property
    def places(self) -> int:
        """How many people are read: all of those shards."""
        return sum(shard.samples for shard in self.shards.split.shards[: self.tars])

    @property
    def kinds(self) -> list[str]:
        """The members that the inputs are decoded from, each once."""
        wanted = {SOURCE[name] for name in self.inputs}
        return [kind for kind in KINDS if kind in wanted]

    @cached_property
    def member_bytes(self) -> dict[str, float]:
        """The mean size of each of those members, of the people that have it."""
        sizes = {kind: self.shards.index["size"][: self.places, KINDS.index(kind)] for kind in self.kinds}
        return {kind: float(found[found >= 0].mean()) for kind, found in sizes.items() if (found >= 0).any()}

    @cached_property
    def images_per_person(self) -> float:
        """JPEGs decoded for a person."""
        columns = [KINDS.index(kind) for kind in self.kinds]
        return float((self.shards.index["size"][: self.places, columns] >= 0).sum() / self.places)

    def place(self, key: int) -> int:
        """The place of the sample with this key."""
        return int(np.searchsorted(self.shards.index["key"], key))

    @cached_property
    def sizes(self) -> tuple[list[int], list[int]]:
        """Width and height of the first person's image: at the source, and as frames are stored."""
        facts = json.loads(self.shards.read(0, "meta.json") or b"{}")
        return facts["source_size"], facts["size"]

    @property
    def warm(self) -> int:
        """Batches that come before the clock starts: so many that workers are as far ahead as they will be later."""
        return self.workers * (PREFETCH + 1)

    def timed(self, share: float = 1) -> int:
        """Batches that are timed in `share` of a pass."""
        return max(1, round(self.samples * share / self.batch))

    def stream(self, share: float = 1) -> int:
        """Batches in all; those after the timed ones keep every worker busy, and ahead, until the clock stops."""
        return self.warm + self.timed(share) + self.warm

    def order(self, share: float = 1) -> list[list[tuple[int, int]]]:
        """The epoch and place of each sample of each batch of the stream, shuffled as in training."""
        order = Order(self.places, self.batch, self.seed)
        return [order.batch(number) for number in range(self.stream(share))]


def timed(batches: Batches, setting: Setting, name: str, share: float = 1) -> float:
    """People a second, from the delivery of the last warm batch to that of the last timed one.

    `share`: how much of a pass is timed.
    SetupError when a contender delivers something else than the others: then rates can't be compared.
    """
    iterator, count = iter(batches), setting.timed(share)
    for _ in range(setting.warm):
        _check(next(iterator), setting, name)
    start = time.perf_counter()
    for _ in range(count):
        batch = next(iterator)
    seconds = time.perf_counter() - start
    _check(batch, setting, name)
    for _ in iterator:  # to the end: torch's workers may abort, with a traceback, when they are left half way
        pass
    return count * setting.batch / seconds


def _check(batch: Mapping[str, Tensor], setting: Setting, name: str) -> None:
    for key, config in setting.inputs.items():
        wanted = (setting.batch, 3, *config.shape)
        if tuple(batch[key].shape) != wanted or str(batch[key].dtype) != "torch.uint8":
            found = f"{batch[key].dtype} {tuple(batch[key].shape)}"
            raise SetupError(f"{name}: delivers {key} as {found}, not torch.uint8 {wanted}; its rate can't be compared")


def single_thread(_worker: int) -> None:
    """What every worker begins with: a process a core, a thread a process."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
