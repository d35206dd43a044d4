"""Losses and gradients that are not finite: no update is made from the first of them on, and no step waits to know.

The fused optimisers skip a step on the device where `found_inf` is set. The flag is read where ranks exchange words
anyway (on one CPU rank, each step): so weights, and all that is saved, are those from before the bad step.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from clef import io
from clef.config import CellConfig
from clef.data.dataset import CellDataset
from clef.data.loader import loader
from clef.data.order import Order
from clef.data.shards import SplitShards

NAMED = 6
"""Samples that the message lists; the file has all."""
Flag = Tensor
"""A single float32 on the device: 0, or 1 from the first number that is not finite on."""


class Guard:
    """Watches the losses and gradients of each step."""

    def __init__(self, device: torch.device) -> None:
        self.found: Flag = torch.zeros((), device=device)
        self.since = torch.zeros(1, device=device)
        """Steps since the first bad one, that one included."""
        self.recent: list[Tensor] = []
        """The loss terms of each step since `forget`."""
        self._one = torch.ones((), device=device)

    def arm(self, optimizer: Optimizer) -> None:
        """Have the fused optimiser skip every step from the first bad one on."""
        optimizer.found_inf = self.found  # type: ignore[attr-defined]
        optimizer.grad_scale = None  # type: ignore[attr-defined]

    def watch(self, losses: Tensor, gradients: list[Tensor]) -> None:
        """Look at a step's loss terms and gradients. One kernel reads them all; nothing is changed by its factor 1."""
        torch._amp_foreach_non_finite_check_and_unscale_([*gradients, losses], self.found, self._one)
        self.since += self.found
        self.recent.append(losses)

    def forget(self) -> None:
        """All was well so far."""
        self.recent.clear()

    def terms(self, accelerator: Accelerator, since: int) -> list[float]:
        """The loss terms of the step that is `since` steps back (1: the last), means over ranks. All call it."""
        losses = self.recent[-since]
        ranks: Tensor = accelerator.gather(losses) if accelerator.num_processes > 1 else losses
        means: list[float] = ranks.view(accelerator.num_processes, -1).mean(0).tolist()
        return means


@dataclass(frozen=True)
class BadStep:
    """A step whose loss or gradient is not finite: its loss terms and its learning rate."""

    step: int
    losses: dict[str, float]
    rate: float


def report(bad: BadStep, config: CellConfig, folder: Path, split: SplitShards, order: Order) -> str:
    """What to say of a bad step. Its global batch is left in `folder`."""
    items = order.batch(bad.step - 1)
    ids = [_source(split, place) for _, place in items]
    path = folder / f"bad-batch-{bad.step:09d}.npz"
    with io.atomic(path) as file:
        np.savez_compressed(file, **_arrays(bad, config, split, items), id=np.array(ids))
    what = "gradient" if np.isfinite(list(bad.losses.values())).all() else "loss"
    terms = ", ".join(f"{name} {value:.6g}" for name, value in bad.losses.items())
    rest = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return (
        f"non-finite: the {what} of step {bad.step} is not finite ({terms}; learning rate {bad.rate:g}); no update was "
        f"made from it. Its samples: {', '.join(ids[:NAMED])}{rest}; the batch is in {path.name}"
    )


def _arrays(bad: BadStep, config: CellConfig, split: SplitShards, items: list[tuple[int, int]]) -> dict[str, Any]:
    """The batch as it was read: inputs (images uint8, as augmented then, jitter's factors beside), targets, places."""
    dataset = CellDataset(split, config.inputs.present, config.seed, augment=True)
    [batch] = loader(dataset, [items], workers=0)
    parts = {name: value if isinstance(value, dict) else {"": value} for name, value in batch.items()}
    arrays: dict[str, Any] = {
        f"{name}.{key}".rstrip("."): value.numpy() for name, inner in parts.items() for key, value in inner.items()
    }
    arrays |= {f"loss.{name}": np.float32(value) for name, value in bad.losses.items()}
    return arrays | {
        "epoch": np.array([epoch for epoch, _ in items]),
        "key": np.array([split.key(place) for _, place in items]),
    }


def _source(split: SplitShards, place: int) -> str:
    """What the dataset itself calls a sample."""
    facts = json.loads(split.read(place, "meta.json") or b"{}")
    return str(facts.get("id", split.key(place)))
