"""The stages of loading, each by the functions that the loader itself uses, and the loader as a whole.

All that the benchmarks call of the loader is called here. A stage alone has what it needs in memory; its rate in all
workers at once is its ceiling on these cores.
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

from benchmarks.setting import Batches, Setting, single_thread
from clef.config import InputName
from clef.config.inputs import Resizing
from clef.data import decode, transforms
from clef.data.dataset import CellDataset, ImageInputs
from clef.data.decoded_cache import NodeCache
from clef.data.loader import BatchLoader, to_device
from clef.data.manifest import MEMBER_OF_INPUT
from clef.data.order import EvaluationBatches

AUGMENT_BATCHES = 2
"""Batches of squashed images that the stage `augment` keeps in memory and goes over again and again."""
META = "meta.json"
Members = dict[str, bytes]
Work = Callable[[list[int]], object]
"""Does a stage for some of a worker's people, given as positions in its share."""


def our_loader(setting: Setting, cache: NodeCache | None = None, share: float = 1) -> Batches:
    """Return the whole loader, from JPEG bytes or from the node cache, for `share` of a pass."""
    return BatchLoader(_dataset(setting, cache), setting.order(share), setting.workers)


def fill_cache(setting: Setting, cache: NodeCache) -> None:
    """Decode everyone who is read into the cache."""
    everyone = EvaluationBatches(setting.people, setting.batch_size, 0, 1)
    for _ in BatchLoader(_dataset(setting, cache), everyone, setting.workers):
        pass


def _dataset(setting: Setting, cache: NodeCache | None = None) -> CellDataset:
    return CellDataset(setting.shards, setting.inputs, setting.seed, augment=True, cache=cache)


class OurDecoder:
    """Decodes, squashes, augments and masks members that another loader has read, as our loader does it.

    It takes the place of a split's shards (`read`, `key`, `root`, `name`) and holds one sample's members.
    """

    def __init__(self, setting: Setting) -> None:
        self.root, self.name = setting.shards.root, setting.shards.name
        self._setting, self._members = setting, Members()
        self._images = ImageInputs(self, setting.inputs, {})  # type: ignore[arg-type]

    def __call__(self, members: Members, index: int, epoch: int = 0) -> dict[str, Tensor]:
        """Return one sample's inputs, each uint8 H,W,3."""
        self._members = members
        inputs = self._setting.inputs
        batch: dict[tuple[str, ...], np.ndarray] = {}
        for name, config in inputs.items():
            batch[name,] = np.empty((1, *config.shape, 3), np.uint8)
            batch["valid", name] = np.empty(1, bool)
        draws = transforms.draw_augmentation(self._setting.seed, epoch, index, tuple(inputs))
        self._images.fill(batch, [index], [json.loads(members[META])], [draws])
        return {name: torch.from_numpy(batch[name,][0]) for name in inputs}

    def read(self, _index: int, kind: str) -> bytes | None:
        """Return a member of the sample at hand."""
        return self._members.get(kind)

    def key(self, index: int) -> str:
        """Return what messages call the sample."""
        return f"{index:08d}"


def collate(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Return samples of `OurDecoder` as a batch, B,3,H,W; channels stay last in memory, as in our loader.

    What another loader adds to a sample, such as webdataset its key, is dropped.
    """
    images = [{name: value for name, value in sample.items() if isinstance(value, Tensor)} for sample in samples]
    return {name: value.permute(0, 3, 1, 2) for name, value in default_collate(images).items()}


@dataclass(frozen=True)
class Share:
    """The people of one worker, as indices in the split."""

    setting: Setting
    indices: list[int]

    def read_all(self) -> list[Members]:
        """Return the members of all of them."""
        return [self.read(index) for index in self.indices]

    def read(self, index: int) -> Members:
        """Return the members that the inputs are made of, and the facts."""
        members = {kind: self.setting.shards.read(index, kind) for kind in (*self.setting.members, META)}
        return {kind: content for kind, content in members.items() if content is not None}

    def squash(self, members: Members) -> dict[InputName, np.ndarray]:
        """Return the inputs before augmentation; inputs of one member and size share their pixels."""
        pixels: dict[tuple[str, Resizing], np.ndarray] = {}
        images = {}
        for name, config in self.setting.inputs.items():
            kind = MEMBER_OF_INPUT[name]
            if kind in members and (kind, config.resizing) not in pixels:
                pixels[kind, config.resizing] = np.empty((*config.size, 3), np.uint8)
                decode.decode_image(members[kind], pixels[kind, config.resizing], config.resizing)
            if kind in members:
                images[name] = pixels[kind, config.resizing]
        return images


def _read(share: Share) -> Work:
    return lambda batch: [share.read(share.indices[i]) for i in batch]


def _decode(share: Share) -> Work:
    jpegs = [[content for kind, content in members.items() if kind != META] for members in share.read_all()]
    return lambda batch: [simplejpeg.decode_jpeg(content) for i in batch for content in jpegs[i]]


def _squash(share: Share) -> Work:
    members = share.read_all()
    return lambda batch: [share.squash(members[i]) for i in batch]


def _augment(share: Share) -> Work:
    samples = share.read_all()[: AUGMENT_BATCHES * share.setting.batch_size]
    held = [(json.loads(members[META]), share.squash(members)) for members in samples]
    outs = {name: np.empty((*config.shape, 3), np.uint8) for name, config in share.setting.inputs.items()}

    def work(batch: list[int]) -> None:
        for i in batch:
            facts, images = held[i % len(held)]
            draws = transforms.draw_augmentation(share.setting.seed, 0, share.indices[i], tuple(images))
            for name, pixels in images.items():
                config, box = share.setting.inputs[name], transforms.mask_box(name, facts)
                frame = transforms.frame_size(facts)
                region = None if box is None else transforms.mask_region(box, frame, config, draws[name])
                transforms.augment_image(pixels, region, config, draws[name], outs[name])

    return work


def _collate(share: Share) -> Work:
    """Write all that a batch holds besides images (facts, labels, VAD, indices) into the batch's memory."""
    data = CellDataset(share.setting.shards, {}, share.setting.seed, augment=True)
    block = torch.empty(data.layout.size(share.setting.batch_size), dtype=torch.uint8)

    def work(batch: list[int]) -> None:
        data.fill(block, [(0, share.indices[i]) for i in batch])
        data.layout.batch(block, len(batch))

    return work


STAGES: dict[str, Callable[[Share], Work]] = {
    "read": _read,
    "decode": _decode,
    "decode+squash": _squash,
    "augment": _augment,
    "collate": _collate,
}
"""What workers do, in this order; decode+squash includes decode."""
CEILING_STAGE = "decode+squash"


class _StageAlone(Dataset[tuple[int, float]]):
    """Its item w is worker w's measurement of one stage: people done, and seconds."""

    def __init__(self, setting: Setting, stage: str, workers: int) -> None:
        self.setting, self.stage, self.workers = setting, stage, workers
        self._together = torch.multiprocessing.get_context().Barrier(workers)

    def __getitem__(self, worker: int) -> tuple[int, float]:
        people = min(self.setting.people, self.setting.samples)
        share = Share(self.setting, list(range(worker, people, self.workers)))
        work = STAGES[self.stage](share)
        batches = list(_batches(len(share.indices), self.setting.batch_size))
        work(batches[0])
        self._together.wait()
        done, start = 0, time.perf_counter()
        while True:
            for batch in batches:
                work(batch)
                done += len(batch)
            if (seconds := time.perf_counter() - start) >= self.setting.stage_seconds:
                return done, seconds


def _batches(people: int, size: int) -> Iterator[list[int]]:
    for first in range(0, people, size):
        yield list(range(first, min(first + size, people)))


def measure_stage(setting: Setting, stage: str, workers: int) -> float:
    """Return people a second of one stage that `workers` processes do at once, each for its share of the people."""
    data = _StageAlone(setting, stage, workers)
    loader: DataLoader[Any] = DataLoader(
        data, batch_size=None, sampler=range(workers), num_workers=workers, worker_init_fn=single_thread
    )
    return sum(people / seconds for people, seconds in loader)


def measure_to_device(setting: Setting, device: torch.device) -> float:
    """Return people a second of the step from a delivered batch to the device, in a process with all its threads."""
    batch = next(iter(BatchLoader(_dataset(setting), setting.order()[:1], 0)))
    done, start = 0, time.perf_counter()
    while True:
        to_device(batch, setting.inputs, device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        done += setting.batch_size
        if (seconds := time.perf_counter() - start) >= setting.stage_seconds:
            return done / seconds


def measure_stages(setting: Setting) -> tuple[dict[str, float], dict[str, float]]:
    """Return the rate of every stage in one process, and in all workers at once (its ceiling)."""
    one = {stage: measure_stage(setting, stage, 1) for stage in STAGES}
    every = {stage: measure_stage(setting, stage, setting.workers) for stage in STAGES}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    every[f"to {device.type}"] = measure_to_device(setting, device)
    return one, every
