"""Which inputs show the subject and which the context, and batches in which one of them is another's, or gone."""

from collections.abc import Iterable, Iterator, Mapping

import torch

from clef.config import AnyInput, CellConfig, InputName
from clef.data.dataset import CellDataset
from clef.data.loader import Batch, loader
from clef.data.shards import SplitShards
from clef.data.transforms import black_box

SUBJECT: tuple[InputName, ...] = ("body", "face", "landmarks", "pose")
CONTEXT: tuple[InputName, ...] = (
    "context", "scene", "scene_without_face", "scene_without_extended_face", "scene_without_person", "depth",
    "regions", "agents",
)  # fmt: skip
SHOWING: tuple[InputName, ...] = tuple(name for name in CONTEXT if name != "context")
"""Contexts that show something of the subject too: in `context` alone nothing but the place of their box is left."""
Items = list[list[tuple[int, int]]]


def of(config: CellConfig, names: tuple[InputName, ...]) -> list[InputName]:
    """Those of the names that a cell reads."""
    return [name for name in names if name in config.inputs.present]


def swapped(own: Batch, others: Batch) -> Batch:
    """Each subject of `own` with the context of the same row of `others`: every stream that shows it, mask and all."""
    taken = [name for name in CONTEXT if name in own]
    valid = own["valid"] | {name: others["valid"][name] for name in taken}
    return own | {name: others[name] for name in taken} | {"valid": valid}


def without(batch: Batch, names: Iterable[InputName]) -> Batch:
    """The batch without some inputs: as of samples that lack them, zeros and not valid."""
    gone = [name for name in names if name in batch]
    valid = batch["valid"] | {name: torch.zeros_like(batch["valid"][name]) for name in gone}
    return batch | {name: torch.zeros_like(batch[name]) for name in gone} | {"valid": valid}


class Split:
    """A split of a cell's shards, read as evaluation reads it."""

    def __init__(self, config: CellConfig, shards: SplitShards) -> None:
        self.config, self.shards = config, shards
        self.batch_size = 2 * config.batch_size
        self._own = self._dataset(config.inputs.present)

    def __len__(self) -> int:
        return len(self.shards)

    def batches(self, places: Iterable[int] | None = None) -> Iterator[Batch]:
        """All samples in order, or those at `places`."""
        yield from self._read(self._own, range(len(self)) if places is None else places)

    def without_subject(self) -> Iterator[Batch]:
        """All samples, the subject blanked: their own streams gone, and their box black in every frame and depth map.

        A frame is then what `context` stores of it, in which no pixel of the subject was mixed into the rest.
        """
        frames = [name for name in self.config.inputs.images if name in SHOWING]
        masks = [self._dataset({"context": self.config.inputs.images[name]}) for name in frames]
        masked = [self._read(dataset, range(len(self))) for dataset in masks]
        for batch, *contexts in zip(self.batches(), *masked, strict=True):
            found = without(batch, SUBJECT)
            for name, context in zip(frames, contexts, strict=True):
                found[name], found["valid"][name] = context["context"], context["valid"]["context"]
            if "depth" in found:
                found["depth"] = self._without_box(found)
            yield found

    def _dataset(self, inputs: Mapping[InputName, AnyInput]) -> CellDataset:
        return CellDataset(self.shards, inputs, self.config.seed, augment=False)

    def _read(self, dataset: CellDataset, places: Iterable[int]) -> Iterator[Batch]:
        yield from loader(dataset, _items(places, self.batch_size), self.config.runtime.workers)

    def _without_box(self, batch: Batch) -> torch.Tensor:
        """The depth maps with each subject's box as far away as can be."""
        depth, config = batch["depth"].clone(), self.config.inputs.depth
        assert config is not None
        for row, place in enumerate(batch["index"].tolist()):
            facts = self._own.facts(place)
            top, left, bottom, right = black_box(facts["box"], facts["size"], config, None)
            depth[row, :, top:bottom, left:right] = 0
        return depth


def _items(places: Iterable[int], size: int) -> Items:
    listed = [(0, int(place)) for place in places]
    return [listed[first : first + size] for first in range(0, len(listed), size)]
