"""What loading consists of, a stage at a time, by the functions that the loader itself uses.

All that the benchmarks call of the loader is called here. A stage's ceiling is its rate when all cores do nothing
else, with what it needs in memory.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from benchmarks.common import Batches, Setting, single_thread
from clef.config import InputName
from clef.data import decode, transforms
from clef.data.dataset import CellDataset, Pictures
from clef.data.decoded_cache import NodeCache
from clef.data.loader import loader, to_device
from clef.data.manifest import SOURCE
from clef.data.order import EveryOnce

SECONDS = 1.0
"""A stage is repeated over its share of the people until so much time has passed."""
HELD = 2
"""Batches of squashed images that the stage `augment` holds, and goes over again and again."""
META = "meta.json"
Members = dict[str, bytes]
Work = Callable[[list[int]], object]
"""Does a stage for some of a worker's people, given as numbers in its share."""


def ours(setting: Setting, cache: NodeCache | None = None, share: float = 1) -> Batches:
    """The whole loader, from JPEG bytes or from the node cache, for `share` of a pass."""
    return loader(_dataset(setting, cache), setting.order(share), setting.workers)


def fill(setting: Setting, cache: NodeCache) -> None:
    """Have everyone who is read decoded and kept in the cache."""
    for _ in loader(_dataset(setting, cache), EveryOnce(setting.places, setting.batch, 0, 1), setting.workers):
        pass


def _dataset(setting: Setting, cache: NodeCache | None = None) -> CellDataset:
    return CellDataset(setting.shards, setting.inputs, setting.seed, augment=True, cache=cache)


class OurDecoder:
    """Members of one sample to its inputs, H,W,3 uint8: decoded, squashed, augmented and masked as our loader does it.

    Stands where a split's shards do, and holds what another reader has read.
    """

    def __init__(self, setting: Setting) -> None:
        self.root, self.name = setting.shards.root, setting.shards.name
        self._setting, self._members = setting, Members()
        self._pictures = Pictures(self, setting.inputs, {})  # type: ignore[arg-type]

    def __call__(self, members: Members, place: int, epoch: int = 0) -> dict[str, Tensor]:
        self._members = members
        inputs = self._setting.inputs
        batch: dict[tuple[str, ...], np.ndarray] = {}
        for name, config in inputs.items():
            batch[name,] = np.empty((1, *config.shape, 3), np.uint8)
            batch["valid", name] = np.empty(1, bool)
        draws = transforms.draws(self._setting.seed, epoch, place, tuple(inputs))
        self._pictures.fill(batch, [place], [json.loads(members[META])], [draws])
        return {name: torch.from_numpy(batch[name,][0]) for name in inputs}

    def read(self, _place: int, kind: str) -> bytes | None:
        """The member that was handed over."""
        return self._members.get(kind)

    def key(self, place: int) -> str:
        """For messages."""
        return f"{place:08d}"


def collated(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Samples of OurDecoder as a batch, B,3,H,W; channels stay last in memory, as our loader has them.

    What a peer adds to a sample, such as webdataset its key, is left out.
    """
    images = [{name: value for name, value in sample.items() if isinstance(value, Tensor)} for sample in samples]
    return {name: value.permute(0, 3, 1, 2) for name, value in default_collate(images).items()}


@dataclass(frozen=True)
class Share:
    """A worker's people: places in the split."""

    setting: Setting
    places: list[int]

    def members(self) -> list[Members]:
        """All that is read of each."""
        return [self.read(place) for place in self.places]

    def read(self, place: int) -> Members:
        """The members that the inputs are made of, and the facts."""
        kinds = (*self.setting.kinds, META)
        found = {kind: self.setting.shards.read(place, kind) for kind in kinds}
        return {kind: content for kind, content in found.items() if content is not None}

    def squashed(self, members: Members) -> dict[InputName, np.ndarray]:
        """The inputs, before anything is augmented; inputs of one member and size share it."""
        pixels: dict[tuple[str, tuple[int, int]], np.ndarray] = {}
        found = {}
        for name, config in self.setting.inputs.items():
            kind = SOURCE[name]
            if kind in members and (kind, config.size) not in pixels:
                pixels[kind, config.size] = np.empty((*config.size, 3), np.uint8)
                decode.picture(members[kind], pixels[kind, config.size])
            if kind in members:
                found[name] = pixels[kind, config.size]
        return found


def _read(share: Share) -> Work:
    return lambda batch: [share.read(share.places[i]) for i in batch]


def _decode(share: Share) -> Work:
    jpegs = [[content for kind, content in found.items() if kind != META] for found in share.members()]
    return lambda batch: [simplejpeg.decode_jpeg(content) for i in batch for content in jpegs[i]]


def _squash(share: Share) -> Work:
    members = share.members()
    return lambda batch: [share.squashed(members[i]) for i in batch]


def _augment(share: Share) -> Work:
    members = share.members()[: HELD * share.setting.batch]
    held = [(json.loads(found[META]), share.squashed(found)) for found in members]
    outs = {name: np.empty((*config.shape, 3), np.uint8) for name, config in share.setting.inputs.items()}

    def work(batch: list[int]) -> None:
        for i in batch:
            facts, images = held[i % len(held)]
            draws = transforms.draws(share.setting.seed, 0, share.places[i], tuple(images))
            for name, pixels in images.items():
                config, box = share.setting.inputs[name], transforms.masked(name, facts)
                black = None if box is None else transforms.black_box(box, facts["size"], config, draws[name])
                transforms.image(pixels, black, config, draws[name], outs[name])

    return work


def _collate(share: Share) -> Work:
    """All that a batch holds besides images: facts, labels, VAD, places, written into the batch's memory."""
    data = CellDataset(share.setting.shards, {}, share.setting.seed, augment=True)
    block = torch.empty(data.layout.size(share.setting.batch), dtype=torch.uint8)

    def work(batch: list[int]) -> None:
        data.fill(block, [(0, share.places[i]) for i in batch])
        data.layout.batch(block, len(batch))

    return work


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
        people = min(self.setting.places, self.setting.samples)
        share = Share(self.setting, list(range(worker, people, self.workers)))
        work = STAGES[self.stage](share)
        batches = list(_batches(len(share.places), self.setting.batch))
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
    """People a second of the step from a delivered batch to the device, with all threads of the training process."""
    batch = next(iter(loader(_dataset(setting), setting.order()[:1], 0)))
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
