"""People stored as shards store them, but in memory, and read from there as a cell reads a split."""

from collections.abc import Sequence
from pathlib import Path

import clef
from clef.cards import Card
from clef.config import CellConfig
from clef.data.dataset import CellDataset
from clef.data.decide import Unusable
from clef.data.loader import Batch, loader
from clef.data.manifest import FORMAT, Manifest
from clef.data.render import Sample, render
from clef.data.shards import SplitShards
from clef.datasets.person import Person
from clef.errors import DataError
from clef.policies import describe


class Rendered(SplitShards):
    """A split of people that lies in no file."""

    def __init__(self, card: Card, samples: Sequence[Sample]) -> None:
        self.root, self.name, self.samples = Path(card.name), "predict", samples
        self.manifest = Manifest(
            format=FORMAT, dataset=card.name, task=card.task, classes=list(card.classes), vad=card.vad, source="",
            protocol=card.protocol, policies=card.policies.model_dump(), samples_per_shard=len(samples),
            tool=f"clef {clef.__version__}", splits={},
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, place: int, kind: str) -> bytes | None:
        """The bytes of a member, or None."""
        return self.samples[place].members.get(kind)

    def key(self, place: int) -> str:
        """Its number."""
        return str(place)


def batch_of(people: Sequence[Person], card: Card, config: CellConfig) -> Batch:
    """The people as a batch of the cell, in order. DataError where a box or image can't be used."""
    shards = Rendered(card, [_sample(person, card) for person in people])
    dataset = CellDataset(shards, config.inputs.present, config.seed, augment=False)
    (batch,) = loader(dataset, [[(0, place) for place in range(len(shards))]], 0)
    return batch


def _sample(person: Person, card: Card) -> Sample:
    try:
        return render(person, card, "predict")
    except Unusable as rule:
        raise DataError(f"{person.image}: {describe(str(rule))}") from None
