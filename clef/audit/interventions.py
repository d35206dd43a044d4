"""Which inputs show the subject and which the context, and batches in which one of them is another's, or gone.

The forward passes that an audit takes of a split: as it is, without subject or context, with others' contexts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from clef.config import AnyInput, CellConfig, InputName
from clef.data.dataset import CellDataset
from clef.data.loader import Batch, loader
from clef.data.shards import SplitShards
from clef.data.transforms import black_box
from clef.engine.model_io import Trained
from clef.metrics import check_coverage

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


Arrays = dict[str, np.ndarray]
"""As `clef.engine.evaluation` gives them: index, target, scores and effects of a whole split, in its order."""
Scored = Callable[[int], None]
"""Told how many more samples have been scored."""


@dataclass(frozen=True)
class Passes:
    """A split's predictions. Nothing (`neither`) is one prediction for all of them, N,K like the others."""

    plain: Arrays
    subject_only: Arrays
    context_only: Arrays
    neither: Arrays
    donors: list[np.ndarray]
    """Of each draw, N: whose context each sample was given."""
    swaps: list[Arrays]
    """With the donor's context in every stream that shows it."""


def run(model: Trained, split: Split, draws: int, seed: int, scored: Scored = lambda _: None) -> Passes:
    """All passes. CellError where one doesn't give each sample exactly one prediction."""
    donors = [donors_of(len(split), seed, draw) for draw in range(draws)]
    return Passes(
        plain=predictions(model, split.batches(), len(split), scored),
        subject_only=predictions(model, (without(b, CONTEXT) for b in split.batches()), len(split), scored),
        context_only=predictions(model, split.without_subject(), len(split), scored),
        neither=_nothing(model, split),
        donors=donors,
        swaps=[predictions(model, exchanged(split, donor), len(split), scored) for donor in donors],
    )


def count(split: Split, draws: int) -> int:
    """How many predictions `run` takes."""
    return len(split) * (3 + draws)


def donors_of(samples: int, seed: int, draw: int) -> np.ndarray:
    """Whose context each sample is given: one random round through all, so nobody keeps theirs and none comes twice."""
    order = np.random.default_rng([seed, draw]).permutation(samples)
    donors = np.empty(samples, np.int64)
    donors[order] = np.roll(order, -1)
    return donors


def exchanged(split: Split, donors: np.ndarray) -> Iterator[Batch]:
    """The split's batches, each subject with the context of its donor."""
    for own, others in zip(split.batches(), split.batches(donors.tolist()), strict=True):
        yield swapped(own, others)


def predictions(model: Trained, batches: Iterable[Batch], samples: int, scored: Scored = lambda _: None) -> Arrays:
    """What the model predicts for batches that hold each of so many samples once."""
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        prediction = model.predict(batch)
        found = {"index": batch["index"], "target": batch["target"], "scores": prediction.scores}
        for name, values in (found | prediction.effects).items():
            parts.setdefault(name, []).append(values.cpu().numpy())
        scored(len(batch["index"]))
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    check_coverage(arrays["index"], samples)
    order = np.argsort(arrays["index"])
    return {name: values[order] for name, values in arrays.items()}


def _nothing(model: Trained, split: Split) -> Arrays:
    """Neither subject nor context: the same for everyone, so one batch tells it."""
    batch = without(next(split.batches([0])), (*SUBJECT, *CONTEXT))
    one = predictions(model, [batch], 1)
    return {name: np.repeat(values, len(split), axis=0) for name, values in one.items() if name != "target"}
