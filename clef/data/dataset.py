"""The samples of a split as batches: only what the cell declares is read and decoded.

The images and depth maps of a split, decoded into the rows of a batch.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from clef.config import AnyInput, BoxesConfig, DepthConfig, InputConfig, InputName, PointsConfig, Size
from clef.data import decode, transforms
from clef.data.batch_memory import Batch, Layout, Name, Part
from clef.data.decoded_cache import Key, NodeCache, Table
from clef.data.manifest import SOURCE
from clef.data.shards import SplitShards
from clef.data.transforms import Draws
from clef.errors import ShardError

Facts = dict[str, Any]
AllDraws = Mapping[InputName, Draws]
"""By input; none of any in evaluation."""


class Pictures:
    """What a cell sees of a split: inputs of one member and one size share its pixels, whatever each does with them."""

    def __init__(self, shards: SplitShards, inputs: Mapping[InputName, AnyInput], tables: Mapping[Key, Table]) -> None:
        self.shards, self.tables = shards, tables
        self.inputs = {name: config for name, config in inputs.items() if isinstance(config, InputConfig | DepthConfig)}
        self._shared: dict[Key, list[InputName]] = {}
        for name, config in self.inputs.items():
            self._shared.setdefault((SOURCE[name], config.size), []).append(name)
        self._buffers: dict[Key, np.ndarray] = {}

    def fill(
        self, batch: dict[Name, np.ndarray], places: Sequence[int], facts: list[Facts], draws: list[AllDraws]
    ) -> None:
        """Write the samples at `places` into the rows of each input; zeros, not valid, for those that lack it."""
        for kind, size in self._shared:
            names = self._shared[kind, size]
            for row, place in enumerate(places):
                outs = [batch[name,][row] for name in names]
                alone = len(names) == 1 and outs[0].shape[:2] == size
                pixels = outs[0] if alone else self._buffer(kind, size, outs[0].shape[2])
                found = self._squashed(place, kind, pixels)
                for name, out in zip(names, outs, strict=True):
                    draw = draws[row].get(name)
                    batch["valid", name][row] = found
                    if found:
                        black = self._black(name, facts[row], draw)
                        transforms.image(pixels, black, self.inputs[name], draw, out)
                    else:
                        out[:] = 0

    def fill_jitter(self, batch: dict[Name, np.ndarray], facts: list[Facts], draws: list[AllDraws]) -> None:
        """Write what the device needs for the jitter of each input that has some: factors, and what is black after."""
        for name, config in self.inputs.items():
            if isinstance(config, InputConfig) and ("jitter", name) in batch:
                for row, (fact, draw) in enumerate(zip(facts, draws, strict=True)):
                    batch["jitter", name][row] = transforms.factors(config, draw[name])
                    batch["black", name][row] = self._black(name, fact, draw[name]) or 0

    def commit(self) -> None:
        """Let others use what was decoded since the last time."""
        for table in self.tables.values():
            table.commit()

    def _black(self, name: InputName, facts: Facts, draw: Draws | None) -> transforms.Rows | None:
        box = transforms.masked(name, facts)
        return None if box is None else transforms.black_box(box, facts["size"], self.inputs[name], draw)

    def _squashed(self, place: int, kind: str, out: np.ndarray) -> bool:
        """Fill `out` with the member's pixels at that size; False where the sample has no such member."""
        table = self.tables.get((kind, (out.shape[0], out.shape[1])))
        if table and table.read(place, out):
            return True
        data = self.shards.read(place, kind)
        if data is None:
            return False
        try:
            decode.picture(data, out)
        except decode.Undecodable as error:
            sample = f"{self.shards.root.name}/{self.shards.name} sample {self.shards.key(place)}"
            remedy = "check the set with python -m clef.shard --verify"
            raise ShardError(f"{sample} {kind}: {error}; {remedy}") from None
        if table:
            table.write(place, out)
        return True

    def _buffer(self, kind: str, size: Size, channels: int) -> np.ndarray:
        if (kind, size) not in self._buffers:
            self._buffers[kind, size] = np.empty((*size, channels), np.uint8)
        return self._buffers[kind, size]


_FACTS = {"labels", "vad", *transforms.MASK_FACTS}
"""What is read of a sample's meta.json."""


class CellDataset(Dataset[Batch]):
    """A map from (epoch, place) to one sample: its inputs, their validity, target, VAD and index.

    Images and depth are uint8, 3,H,W and 1,H,W; places and boxes float32. `valid` says of each input whether the
    sample has it: one that it lacks is all zeros, never another person's. Colour jitter is left to the device: its
    factors (`jitter`, 3) and the box that is black after it (`black`, 4) come with the sample.
    """

    def __init__(
        self,
        shards: SplitShards,
        inputs: Mapping[InputName, AnyInput],
        seed: int,
        augment: bool,
        cache: NodeCache | None = None,
    ) -> None:
        self.shards, self.inputs, self.seed, self.augment = shards, inputs, seed, augment
        self.manifest = shards.manifest
        self.layout = Layout(self._parts())
        self._pictures = Pictures(shards, inputs, cache.tables(shards, inputs) if cache else {})
        self._names = tuple(inputs)
        self._class_index = {name: i for i, name in enumerate(self.manifest.classes)}

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, item: tuple[int, int]) -> Batch:
        block = torch.empty(self.layout.size(1), dtype=torch.uint8)
        self.fill(block, [item])
        return _first(self.layout.batch(block, 1))

    def fill(self, block: Tensor, items: Sequence[tuple[int, int]]) -> None:
        """Write the samples of a batch into a block of memory (see `layout`)."""
        batch, places = self.layout.arrays(block, len(items)), [place for _, place in items]
        # Stage by stage: small steps between two decodings would find the processor's caches full of pixels.
        facts = [self.facts(place) for place in places]
        draws = [self._draws(epoch, place) for epoch, place in items]
        batch["index",][:] = places
        for row, place in enumerate(places):
            batch["target",][row] = self._target(facts[row], place)
            if self.manifest.vad:
                batch["vad",][row] = _vad(facts[row])
            self._fill_places(batch, row, place, draws[row])
        self._pictures.fill(batch, places, facts, draws)
        self._pictures.commit()
        self._pictures.fill_jitter(batch, facts, draws)

    def target(self, place: int) -> np.ndarray | int:
        """The classes of a sample, K float32, or its one class."""
        return self._target(self.facts(place), place)

    def facts(self, place: int) -> dict[str, Any]:
        """What meta.json says of a sample. Raises ShardError where that isn't what it should be."""
        try:
            facts: dict[str, Any] = json.loads(self.shards.read(place, "meta.json") or b"")
        except ValueError:
            raise ShardError(f"{self._where(place)}: meta.json is not JSON; {self.shards.remedy}") from None
        if lacking := _FACTS - set(facts if isinstance(facts, dict) else ()):
            raise ShardError(
                f"{self._where(place)}: meta.json lacks {', '.join(sorted(lacking))}; {self.shards.remedy}"
            )
        return facts

    def _parts(self) -> dict[Name, Part]:
        several = self.manifest.task == "multi_label"
        target = Part(torch.float32, (len(self.manifest.classes),)) if several else Part(torch.int64)
        parts: dict[Name, Part] = {("index",): Part(torch.int64), ("target",): target}
        if self.manifest.vad:
            parts["vad",] = Part(torch.float32, (3,))
        for name, config in self.inputs.items():
            parts[name,] = _part(name, config)
            parts["valid", name] = Part(torch.bool)
            if self.augment and isinstance(config, InputConfig) and config.jitter:
                parts["jitter", name], parts["black", name] = Part(torch.float32, (3,)), Part(torch.int32, (4,))
        return parts

    def _draws(self, epoch: int, place: int) -> AllDraws:
        return transforms.draws(self.seed, epoch, place, self._names) if self.augment else {}

    def _fill_places(self, batch: dict[Name, np.ndarray], row: int, place: int, draws: AllDraws) -> None:
        for name, config in self.inputs.items():
            if isinstance(config, PointsConfig):
                values = self._places(name, config, place, draws.get(name))
                batch["valid", name][row] = values is not None
                batch[name,][row] = 0 if values is None else values

    def _places(
        self, name: InputName, config: PointsConfig, place: int, draws: transforms.Draws | None
    ) -> np.ndarray | None:
        """An input that is points or boxes; None where the sample lacks it."""
        data = self.shards.read(place, SOURCE[name])
        if data is None:
            return None
        where = f"{self._where(place)} {SOURCE[name]}"
        if isinstance(config, BoxesConfig):
            return transforms.boxes(data, config, draws, where)
        return transforms.points(name, data, config, draws, where)

    def _target(self, facts: dict[str, Any], place: int) -> np.ndarray | int:
        if strange := [label for label in facts["labels"] if label not in self._class_index]:
            raise ShardError(
                f"{self._where(place)}: label {strange[0]!r} is no class of this set; {self.shards.remedy}"
            )
        indices = [self._class_index[label] for label in facts["labels"]]
        if self.manifest.task == "multi_label":
            target = np.zeros(len(self.manifest.classes), np.float32)
            target[indices] = 1
            return target
        if len(indices) != 1:
            raise ShardError(
                f"{self._where(place)}: one label is expected, not {facts['labels']}; {self.shards.remedy}"
            )
        return indices[0]

    def _where(self, place: int) -> str:
        return f"{self.shards.root.name}/{self.shards.name} sample {self.shards.key(place)}"


def _part(name: InputName, config: AnyInput) -> Part:
    if isinstance(config, InputConfig | DepthConfig):
        return Part(torch.uint8, (*config.shape, 3 if isinstance(config, InputConfig) else 1), image=True)
    return Part(torch.float32, (config.count, 4) if isinstance(config, BoxesConfig) else transforms.POINTS[name])


def _first(batch: Batch) -> Batch:
    return {key: _first(value) if isinstance(value, dict) else value[0] for key, value in batch.items()}


def _vad(facts: dict[str, Any]) -> list[float]:
    return [math.nan if value is None else value for value in facts["vad"] or [None] * 3]


def targets(shards: SplitShards) -> np.ndarray:
    """All targets of a split, N,K or N, by place."""
    dataset = CellDataset(shards, {}, seed=0, augment=False)
    return np.stack([dataset.target(place) for place in range(len(shards))])
