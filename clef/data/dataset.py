"""The samples of a split as tensors: only what the cell declares is read and decoded."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from clef.config import AnyInput, BoxesConfig, DepthConfig, InputConfig, InputName
from clef.data import transforms
from clef.data.manifest import SOURCE
from clef.data.shards import SplitShards
from clef.errors import ShardError

Sample = dict[str, Any]
_FACTS = {"labels", "vad", *transforms.BOX_FACTS}
"""What is read of a sample's meta.json."""


class CellDataset(Dataset[Sample]):
    """A map from (epoch, place) to one sample: its inputs, their validity, target, VAD and index.

    Images and depth are uint8, 3,H,W and 1,H,W; places and boxes float32. `valid` says of each input whether the
    sample has it: one that it lacks is all zeros, never another person's.
    """

    def __init__(self, shards: SplitShards, inputs: Mapping[InputName, AnyInput], seed: int, augment: bool) -> None:
        self.shards, self.inputs, self.seed, self.augment = shards, inputs, seed, augment
        self.manifest = shards.manifest
        self._class_index = {name: i for i, name in enumerate(self.manifest.classes)}

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        epoch, place = item
        facts = self._facts(place)
        sample: Sample = {"index": place, "target": self._target(facts, place), "valid": {}}
        if self.manifest.vad:
            sample["vad"] = _vad(facts)
        # One generator for each input there is, so that reading one more doesn't move the draws of another.
        draws = transforms.draws(self.seed, epoch, place, len(SOURCE)) if self.augment else [None] * len(SOURCE)
        images: dict[str, Tensor | None] = {}
        for name, draw in zip(SOURCE, draws, strict=True):
            if name in self.inputs:
                found = self._input(name, place, facts, draw, images)
                sample["valid"][name] = found is not None
                sample[name] = transforms.absent(name, self.inputs[name]) if found is None else found
        return sample

    def _input(
        self,
        name: InputName,
        place: int,
        facts: dict[str, Any],
        draws: transforms.Draws | None,
        images: dict[str, Tensor | None],
    ) -> Tensor | None:
        """One input; None where the sample lacks its member. `images`: the members decoded so far, by kind."""
        config, kind = self.inputs[name], SOURCE[name]
        where = f"{self._where(place)} {kind}"
        if isinstance(config, InputConfig | DepthConfig):
            if kind not in images:  # two inputs may come from the scene
                data = self.shards.read(place, kind)
                images[kind] = None if data is None else transforms.decoded(data, where)
            pixels = images[kind]
            if pixels is None:
                return None
            if isinstance(config, DepthConfig):
                return transforms.depth(pixels, config, draws)
            return transforms.image(pixels, transforms.masked(name, facts), config, draws)
        data = self.shards.read(place, kind)
        if data is None:
            return None
        if isinstance(config, BoxesConfig):
            return transforms.boxes(data, config, draws, where)
        return transforms.points(name, data, config, draws, where)

    def _facts(self, place: int) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads(self.shards.read(place, "meta.json") or b"")
        except ValueError:
            raise ShardError(f"{self._where(place)}: meta.json is not JSON; {self.shards.remedy}") from None
        if lacking := _FACTS - set(facts if isinstance(facts, dict) else ()):
            raise ShardError(
                f"{self._where(place)}: meta.json lacks {', '.join(sorted(lacking))}; {self.shards.remedy}"
            )
        return facts

    def _target(self, facts: dict[str, Any], place: int) -> Tensor:
        if strange := [label for label in facts["labels"] if label not in self._class_index]:
            raise ShardError(
                f"{self._where(place)}: label {strange[0]!r} is no class of this set; {self.shards.remedy}"
            )
        indices = [self._class_index[label] for label in facts["labels"]]
        if self.manifest.task == "multi_label":
            target = torch.zeros(len(self.manifest.classes))
            target[indices] = 1
            return target
        if len(indices) != 1:
            raise ShardError(
                f"{self._where(place)}: one label is expected, not {facts['labels']}; {self.shards.remedy}"
            )
        return torch.tensor(indices[0])

    def _where(self, place: int) -> str:
        return f"{self.shards.root.name}/{self.shards.name} sample {self.shards.key(place)}"


def _vad(facts: dict[str, Any]) -> Tensor:
    values = facts["vad"] or [None] * 3
    return torch.tensor([math.nan if v is None else v for v in values], dtype=torch.float32)


def targets(shards: SplitShards) -> np.ndarray:
    """All targets of a split, N,K or N, by place."""
    dataset = CellDataset(shards, {}, seed=0, augment=False)
    return torch.stack([dataset[0, place]["target"] for place in range(len(shards))]).numpy()
