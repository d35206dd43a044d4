"""Interventions on a batch: inputs that show the subject or the context are blanked, or exchanged between people.

Methods intervene in training (`Method.intervene`), the audit on trained cells; both by these functions.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from clef.config import CONTEXT, SUBJECT, InputName
from clef.data.batch_memory import FEATURES, Batch


def blank(batch: Batch, names: Iterable[InputName]) -> Batch:
    """Return `batch` without some inputs: zeros that are not valid, as of samples that lack these inputs."""
    return _replaced(torch.zeros_like, names, batch)


def blank_context_of(batch: Batch, chosen: Tensor) -> Batch:
    """Return `batch` without the context of the `chosen` people, B bool."""
    return _replaced(lambda seen: seen.masked_fill(chosen.view(-1, *[1] * (seen.dim() - 1)), 0), CONTEXT, batch)


def without_subject(batch: Batch) -> Batch:
    """Return `batch` with every input gone that shows the subject alone, and its box black in the others.

    These come with the batch (`CellDataset(without_subject=True)`). Boxes of regions and people stay.
    """
    frames: dict[str, Tensor] = batch.get("without_subject", {})
    return blank(batch, SUBJECT) | frames


def swap_context(batch: Batch, donors: Batch) -> Batch:
    """Return `batch` with the context of the same rows of `donors`: every input that shows it, and its validity."""
    return _replaced(lambda _, theirs: theirs, CONTEXT, batch, donors)


def exchange_context(batch: Batch, donors: Tensor) -> Batch:
    """Return `batch` with the context of its row donors[i] in row i. `donors`: B int64."""
    return _replaced(lambda seen: seen.index_select(0, donors), CONTEXT, batch)


def _replaced(make: Callable[..., Tensor], names: Iterable[InputName], *batches: Batch) -> Batch:
    """Return the first batch with other tensors for some inputs, each made of those that the batches have there.

    That is images or points, frames without the subject, kept features, and what says who has them. A frozen encoder of
    a backbone keeps its features by the name of its input.
    """
    batch, names = batches[0], [name for name in names if name in batches[0]["valid"]]
    changed = batch | {name: make(*(each[name] for each in batches)) for name in names if name in batch}
    for key in ("valid", FEATURES, "without_subject"):
        if key in batch:
            there = [name for name in names if name in batch[key]]
            changed[key] = batch[key] | {name: make(*(each[key][name] for each in batches)) for name in there}
    return changed
