"""What loading consists of, a stage at a time, by the functions that the loader itself uses.

A stage's ceiling is its rate when all cores do nothing else, with what it needs in memory.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from clef.bench.setting import Batches, Setting, single_thread
from clef.data import transforms
from clef.data.dataset import CellDataset
from clef.data.loader import loader, to_device
from clef.data.manifest import SOURCE

SECONDS = 1.0
"""A stage is repeated over its share of the people until so much time has passed."""
Members = dict[str, bytes | None]
Work = Callable[[list[int]], object]
"""Does a stage for some of a worker's people, given as places in its share."""


def dataset(setting: Setting) -> CellDataset:
    """The cell's dataset, as training uses it."""
    return CellDataset(setting.shards, setting.inputs, setting.seed, augment=True)


def ours(setting: Setting) -> Batches:
    """The whole loader, from JPEG bytes."""
    return loader(dataset(setting), setting.order(), setting.workers)


def read(data: CellDataset, place: int, kinds: list[str]) -> Members:
    """The members of a sample that its inputs are made of, and its facts."""
    return {kind: data.shards.read(place, kind) for kind in (*kinds, "meta.json")}


def decode(members: Members) -> dict[str, Tensor]:
    """The pixels of each JPEG, 3,H,W uint8."""
    return {
        kind: transforms.decoded(content, kind)
        for kind, content in members.items()
        if content is not None and kind.endswith(".jpg")
    }


class _InMemory:
    """Stands where a split's shards do and holds one sample, which someone else has read."""

    def __init__(self, setting: Setting) -> None:
        self.manifest, self.root, self.name = setting.shards.manifest, setting.shards.root, setting.shards.name
        self.remedy = setting.shards.remedy
        self.members: Members = {}

    def read(self, _place: int, kind: str) -> bytes | None:
        return self.members.get(kind)

    def key(self, place: int) -> str:
        return f"{place:08d}"


class OurDecoder:
    """Bytes of a sample's members to its inputs: decoded, squashed, augmented and masked as our loader does it."""

    def __init__(self, setting: Setting) -> None:
        self._shards = _InMemory(setting)
        self._data = CellDataset(self._shards, setting.inputs, setting.seed, augment=True)  # type: ignore[arg-type]
        self._names = list(setting.inputs)

    def __call__(self, members: Members, place: int, epoch: int = 0) -> dict[str, Tensor]:
        self._shards.members = members
        sample = self._data[epoch, place]
        return {name: sample[name] for name in self._names}


@dataclass
class Share:
    """What a worker holds of its people: places in the split, and their members."""

    data: CellDataset
    setting: Setting
    places: list[int]

    def members(self) -> list[Members]:
        return [read(self.data, place, self.setting.kinds) for place in self.places]


def _read(share: Share) -> Work:
    return lambda batch: [read(share.data, share.places[i], share.setting.kinds) for i in batch]


def _decode(share: Share) -> Work:
    members = share.members()
    return lambda batch: [decode(members[i]) for i in batch]


def _squash(share: Share) -> Work:
    members = share.members()
    return lambda batch: [squash(decode(members[i]), share.setting) for i in batch]


def squash(pixels: dict[str, Tensor], setting: Setting) -> dict[str, Tensor]:
    """Decoded members as inputs of their size, not augmented."""
    found = {name: pixels.get(SOURCE[name]) for name in setting.inputs}
    return {
        name: transforms.image(found, None, setting.inputs[name], None)
        for name, found in found.items()
        if found is not None
    }


def _held(share: Share) -> list[dict[str, Any]]:
    """Whole samples; so many as fit a worker's memory."""
    return [share.data[0, place] for place in share.places[: 2 * share.setting.batch]]


def _augment(share: Share) -> Work:
    held = _held(share)
    box = (20, 20, 60, 60)

    def work(batch: list[int]) -> object:
        draws = transforms.draws(0, 0, batch[0], len(SOURCE))
        return [
            transforms.image(held[i % len(held)][name], box, config, draws[0])
            for i in batch
            for name, config in share.setting.inputs.items()
        ]

    return work


def _collate(share: Share) -> Work:
    held = _held(share)
    return lambda batch: default_collate([held[i % len(held)] for i in batch])


STAGES: dict[str, Callable[[Share], Work]] = {
    "read": _read,
    "decode": _decode,
    "decode+squash": _squash,
    "augment": _augment,
    "collate": _collate,
}
"""What workers do, in this order; decode+squash holds decode."""
CEILING = "decode+squash"


class _Alone(Dataset[tuple[int, float]]):
    """Its item w is worker w's measurement of one stage: people done, and seconds."""

    def __init__(self, setting: Setting, stage: str, workers: int) -> None:
        self.setting, self.stage, self.workers = setting, stage, workers
        self._together = torch.multiprocessing.get_context().Barrier(workers)

    def __getitem__(self, worker: int) -> tuple[int, float]:
        places = list(range(self.setting.places))[: self.setting.samples][worker :: self.workers]
        work = STAGES[self.stage](Share(dataset(self.setting), self.setting, places))
        batches = list(_batches(len(places), self.setting.batch))
        work(batches[0])
        self._together.wait()
        done, start = 0, time.perf_counter()
        while True:
            for batch in batches:
                work(batch)
                done += len(batch)
            if (seconds := time.perf_counter() - start) >= SECONDS:
                return done, seconds


def _batches(people: int, size: int) -> Iterator[list[int]]:
    for first in range(0, people, size):
        yield list(range(first, min(first + size, people)))


def alone(setting: Setting, stage: str, workers: int) -> float:
    """People a second of one stage that `workers` processes do at once, each for its share of the people."""
    data = _Alone(setting, stage, workers)
    measured: DataLoader[Any] = DataLoader(
        data, batch_size=None, sampler=range(workers), num_workers=workers, worker_init_fn=single_thread
    )
    return sum(people / seconds for people, seconds in measured)


def to_device_alone(setting: Setting, device: torch.device) -> float:
    """People a second of the step from a delivered batch to the device, in the training process with all its threads."""
    batch = next(iter(ours(setting)))
    done, start = 0, time.perf_counter()
    while True:
        to_device(batch, setting.inputs, device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        done += setting.batch
        if (seconds := time.perf_counter() - start) >= SECONDS:
            return done / seconds


def all_alone(setting: Setting) -> tuple[dict[str, float], dict[str, float]]:
    """The rate of every stage in one process, and in all workers at once (its ceiling)."""
    one = {stage: alone(setting, stage, 1) for stage in STAGES}
    every = {stage: alone(setting, stage, setting.workers) for stage in STAGES}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    every[f"to {device.type}"] = to_device_alone(setting, device)
    return one, every
