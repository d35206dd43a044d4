"""The images and depth maps of a split, decoded into the rows of a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clef.config import AnyInput, DepthConfig, InputConfig, InputName, Size
from clef.data import decode, transforms
from clef.data.block import Name
from clef.data.cache import Key
from clef.data.manifest import SOURCE
from clef.data.shards import SplitShards
from clef.data.table import Table
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
