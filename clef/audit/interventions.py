"""Interventions on the inputs of a trained cell: the subject or the context blanked, or the context swapped.

`run_passes` takes all forward passes that an audit needs of a split. N is the number of people in the split,
K that of classes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from clef.config import CONTEXT, SUBJECT, CellConfig, InputName
from clef.data.dataset import CellDataset, evaluated_dataset
from clef.data.interventions import blank, swap_context, without_subject
from clef.data.loader import Batch, BatchLoader
from clef.data.shards import SplitShards
from clef.engine.model_io import TrainedModel
from clef.metrics import check_coverage

Arrays = dict[str, np.ndarray]
"""The predictions for a whole split in its order: index N, target N or N,K, scores N,K, and the effects, each N,K."""
ScoredCallback = Callable[[int], None]
"""Called with the number of samples that have just been scored."""


def inputs_read(config: CellConfig, names: tuple[InputName, ...]) -> list[InputName]:
    """Return those of the inputs `names` that a cell reads."""
    return [name for name in names if name in config.inputs.present]


class AuditSplit:
    """A split of a cell's shards, read as evaluation reads it."""

    def __init__(self, config: CellConfig, shards: SplitShards) -> None:
        self.config, self.shards = config, shards
        self.batch_size = 2 * config.batch_size
        self._dataset = evaluated_dataset(config, shards)

    def __len__(self) -> int:
        return len(self.shards)

    def batches(self, indices: Iterable[int] | None = None) -> Iterator[Batch]:
        """Yield all samples in order, or those at `indices`."""
        yield from self._load(self._dataset, range(len(self)) if indices is None else indices)

    def without_subject(self) -> Iterator[Batch]:
        """Yield all samples with the subject blanked: inputs that show it gone, and its box black in the others."""
        inputs, seed = self.config.inputs.present, self.config.seed
        dataset = CellDataset(self.shards, inputs, seed, augment=False, without_subject=True)
        for batch in self._load(dataset, range(len(self))):
            yield without_subject(batch)

    def _load(self, dataset: CellDataset, indices: Iterable[int]) -> Iterator[Batch]:
        samples = [(0, int(index)) for index in indices]  # the loader wants (epoch, index)
        batches = [samples[first : first + self.batch_size] for first in range(0, len(samples), self.batch_size)]
        yield from BatchLoader(dataset, batches, self.config.runtime.num_workers)


@dataclass(frozen=True)
class Passes:
    """The predictions for a split under each intervention."""

    plain: Arrays
    subject_only: Arrays
    context_only: Arrays
    neither: Arrays
    """Neither subject nor context: the same prediction for everyone, repeated to N,K."""
    donors: list[np.ndarray]
    """For each draw, N: the index of the sample whose context each sample was given."""
    swaps: list[Arrays]
    """For each draw: the predictions with the donor's context in every input that shows it."""


def run_passes(
    model: TrainedModel, split: AuditSplit, draws: int, seed: int, on_scored: ScoredCallback = lambda _: None
) -> Passes:
    """Take all passes. Raises CellError where one does not give each sample exactly one prediction."""
    samples = len(split)
    donors = [draw_donors(samples, seed, draw) for draw in range(draws)]
    return Passes(
        plain=predict_all(model, split.batches(), samples, on_scored),
        subject_only=predict_all(model, (blank(batch, CONTEXT) for batch in split.batches()), samples, on_scored),
        context_only=predict_all(model, split.without_subject(), samples, on_scored),
        neither=_predict_neither(model, split),
        donors=donors,
        swaps=[predict_all(model, swapped_batches(split, donor), samples, on_scored) for donor in donors],
    )


def count_predictions(split: AuditSplit, draws: int) -> int:
    """Return how many predictions `run_passes` takes."""
    return len(split) * (3 + draws)


def draw_donors(samples: int, seed: int, draw: int) -> np.ndarray:
    """Return the index of the sample whose context each sample is given, N.

    It is one random round through all samples, so nobody keeps their own context and none is given twice.
    """
    order = np.random.default_rng([seed, draw]).permutation(samples)
    donors = np.empty(samples, np.int64)
    donors[order] = np.roll(order, -1)
    return donors


def swapped_batches(split: AuditSplit, donors: np.ndarray) -> Iterator[Batch]:
    """Yield the split's batches, each subject with the context of its donor."""
    for batch, donor_batch in zip(split.batches(), split.batches(donors.tolist()), strict=True):
        yield swap_context(batch, donor_batch)


def predict_all(
    model: TrainedModel, batches: Iterable[Batch], samples: int, on_scored: ScoredCallback = lambda _: None
) -> Arrays:
    """Return what the model predicts for batches that hold each of a split's samples once."""
    parts: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        prediction = model.predict(batch)
        tensors = {"index": batch["index"], "target": batch["target"], "scores": prediction.scores}
        for name, values in (tensors | prediction.effects).items():
            parts.setdefault(name, []).append(values.cpu().numpy())
        on_scored(len(batch["index"]))
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    check_coverage(arrays["index"], samples)
    order = np.argsort(arrays["index"])
    return {name: values[order] for name, values in arrays.items()}


def _predict_neither(model: TrainedModel, split: AuditSplit) -> Arrays:
    """Predict without subject and context; the same for everyone, so one sample is enough."""
    batch = blank(next(split.batches([0])), (*SUBJECT, *CONTEXT))
    arrays = predict_all(model, [batch], 1)
    return {name: np.repeat(values, len(split), axis=0) for name, values in arrays.items() if name != "target"}
