"""Interventions on a batch: inputs that show the subject or the context are blanked, or exchanged between people.

Methods intervene in training (`Method.intervene`), the audit on trained cells; both by these functions.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from clef.config import CONTEXT, SUBJECT, InputName
from clef.data.batch_memory import FEATURES, Batch


def blank(batch: Batch, names: Iterable[InputName]) -> Batch:
    """Return `batch` without some inputs: zeros that are not valid, as of samples that lack these inputs."""
    return _with(batch, names, lambda find: torch.zeros_like(find(batch)))


def blank_context_of(batch: Batch, chosen: Tensor) -> Batch:
    """Return `batch` without the context of the `chosen` people, B bool."""
    blanked = blank(batch, CONTEXT)
    return _with(batch, CONTEXT, lambda find: _where(chosen, find(blanked), find(batch)))


def without_subject(batch: Batch) -> Batch:
    """Return `batch` with every input gone that shows the subject alone, and its box black in the others.

    These come with the batch (`CellDataset(without_subject=True)`). Boxes of regions and people stay.
    """
    frames: dict[str, Tensor] = batch.get("without_subject", {})
    return blank(batch, SUBJECT) | frames


def swap_context(batch: Batch, donors: Batch) -> Batch:
    """Return `batch` with the context of the same rows of `donors`: every input that shows it, and its validity."""
    return _with(batch, CONTEXT, lambda find: find(donors))


def exchange_context(batch: Batch, donors: Tensor) -> Batch:
    """Return `batch` with the context of its row donors[i] in row i. `donors`: B int64."""
    return _with(batch, CONTEXT, lambda find: find(batch).index_select(0, donors))


Find = Callable[[Batch], Tensor]
"""Finds one tensor in a batch."""


def _with(batch: Batch, names: Iterable[InputName], make: Callable[[Find], Tensor]) -> Batch:
    """Return `batch` with other tensors for some inputs.

    That is images or points, frames without the subject, kept features, and what says who has them. A frozen encoder of
    a backbone keeps its features by the name of its input.
    """
    names = [name for name in names if name in batch["valid"]]
    changed: Batch = dict(batch)
    for key in ("valid", FEATURES, "without_subject"):
        parts: dict[str, Any] = batch.get(key, {})
        if inner := {name: make(lambda b, k=key, n=name: b[k][n]) for name in names if name in parts}:  # type: ignore[misc]
            changed[key] = parts | inner
    for name in names:
        if name in batch:
            changed[name] = make(lambda b, n=name: b[n])  # type: ignore[misc]
    return changed


def _where(chosen: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, *[1] * (ours.dim() - 1)), ours, theirs)
