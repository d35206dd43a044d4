"""The samples of a split as tensors: only what the cell declares is read and decoded."""

import json
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from clef.config import InputConfig, InputName
from clef.data import transforms
from clef.data.manifest import SOURCE
from clef.data.shards import SplitShards
from clef.errors import ShardError

Sample = dict[str, Any]
_FACTS = {"labels", "vad", *transforms.MASKED.values()}
"""What is read of a sample's meta.json."""


class CellDataset(Dataset[Sample]):
    """A map from (epoch, place) to one sample: its inputs as uint8, their validity, target, VAD and index."""

    def __init__(self, shards: SplitShards, inputs: dict[InputName, InputConfig], seed: int, augment: bool) -> None:
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
        for name, draw in zip(SOURCE, draws, strict=True):
            if name in self.inputs:
                sample[name], sample["valid"][name] = self._image(name, place, facts, draw)
        return sample

    def _image(
        self, name: InputName, place: int, facts: dict[str, Any], draws: transforms.Draws | None
    ) -> tuple[Tensor, bool]:
        config = self.inputs[name]
        data = self.shards.read(place, SOURCE[name])
        if data is None:  # a missing face is a zero tensor with a flag, never another person's
            return torch.zeros(3, *config.shape, dtype=torch.uint8), False
        box = facts[transforms.MASKED[name]] if name in transforms.MASKED else None
        return transforms.image(data, box, config, draws, f"{self._where(place)} {SOURCE[name]}"), True

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
