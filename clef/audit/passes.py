"""The forward passes that an audit takes of a split: as it is, without subject or context, with others' contexts."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from clef.audit.streams import CONTEXT, SUBJECT, Split, swapped, without
from clef.data.loader import Batch
from clef.engine.metrics import check_coverage
from clef.engine.trained import Trained

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
