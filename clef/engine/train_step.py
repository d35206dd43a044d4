"""One update of the weights: forward and backward over the micro-batches, the guard, clipping, the optimiser.

Nothing here waits for the device.

Losses and gradients that are not finite: no update is made from the first of them on, and no step waits to know.

The fused optimisers skip a step on the device where `found_inf` is set. The flag is read where ranks exchange words
anyway (on one CPU rank, each step): so weights, and all that is saved, are those from before the bad step.

The learning rate as a pure function of how far training is, so that resuming and ranks can't shift it.

(A scheduler object that is given to `accelerator.prepare` steps once for every rank.)
"""

import json
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer

from clef import io
from clef.config import CellConfig, OptimizerConfig, ScheduleConfig
from clef.data.dataset import CellDataset
from clef.data.loader import loader
from clef.data.order import Order
from clef.data.shards import SplitShards
from clef.engine.faults import Faults
from clef.errors import SetupError
from clef.methods import Method, Prediction

NAMED = 6
"""Samples that the message lists; the file has all."""
Flag = Tensor
"""A single float32 on the device: 0, or 1 from the first number that is not finite on."""


class NonFiniteGuard:
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


def lr_factor(schedule: ScheduleConfig, epoch: float, epochs: int) -> float:
    """What the base rate is multiplied by, `epoch` epochs (fractional) into a training of `epochs`."""
    warm = min(1.0, epoch / schedule.warmup) if schedule.warmup else 1.0
    if schedule.name == "step":
        return float(warm * schedule.gamma ** (math.floor(epoch) // schedule.every))
    if schedule.name == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / epochs)))
    return warm


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every parameter group its share of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_multiplier"]


Batch = dict[str, Any]


class TrainStep:
    """Makes updates of `method`, which it brings to the device and wraps for the ranks."""

    def __init__(self, config: CellConfig, method: Method, accelerator: Accelerator, faults: Faults) -> None:
        self.config, self.accelerator, self.faults = config.optimizer, accelerator, faults
        if config.sync_batch_norm:
            method = _synchronised(method, accelerator)
        self.method = method.to(accelerator.device)
        if accelerator.device.type == "cuda":  # on a CPU, torch 2.14 corrupts its heap in small channels_last networks
            self.method = self.method.to(memory_format=torch.channels_last)
        self.parameters = [parameter for parameter in self.method.parameters() if parameter.requires_grad]
        self.optimizer = fused_optimizer(self.method, config.optimizer)
        self.wrapped = accelerator.prepare(self.method)
        self.guard = NonFiniteGuard(accelerator.device)
        if accelerator.scaler is None:  # fp16: the scaler sets the optimiser's flag itself
            self.guard.arm(self.optimizer)
        self.norm: Tensor | None = None
        """The gradient's 2-norm before clipping, of the last step that measured it."""

    def __call__(self, batch: Batch, step: int, rate: float, measured: bool) -> tuple[list[str], Tensor]:
        """Update from a rank's share of global batch `step`, on the device; the names and values of the loss terms."""
        set_rate(self.optimizer, rate)
        names, losses = self._gradients(batch, step)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        scaler = self.accelerator.scaler
        if scaler is None:
            self.guard.watch(losses, gradients)
        elif self.config.clip_norm or measured:
            scaler.unscale_(self.optimizer)
        if self.config.clip_norm:
            self.norm = clip_grad_norm_(self.parameters, self.config.clip_norm)
        elif measured:
            self.norm = get_total_norm(gradients)
        self._step(scaler)
        return names, losses

    def _step(self, scaler: Any) -> None:
        # Accelerate's wrapper would look for a package on disk in every step.
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        self.optimizer.zero_grad()

    def _gradients(self, batch: Batch, step: int) -> tuple[list[str], Tensor]:
        """Accumulate the gradients of all micro-batches. Only the last backward pass exchanges them between ranks."""
        names: list[str] = []
        summed: Tensor | None = None
        for part, last in micro_batches(batch, self.config.accumulate):
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                prediction: Prediction = self.wrapped(part)
                names = list(prediction.losses)
                terms = self.faults.spoil(list(prediction.losses.values()), step)
                if self.config.accumulate > 1:
                    terms = [term / self.config.accumulate for term in terms]
                losses = torch.stack([term.detach() for term in terms])
                self._backward(sum(terms[1:], terms[0]), losses)
            summed = losses if summed is None else summed + losses
        assert summed is not None
        return names, summed

    def _backward(self, total: Tensor, losses: Tensor) -> None:
        if self.accelerator.scaler is not None:
            # Gradients that overflow fp16 are the scaler's business: it skips the step and scales less. A loss is
            # float32 and must be finite; from the first that isn't on, every gradient is made infinite, and skipped.
            self.guard.watch(losses, [])
            total = total / (1 - self.guard.found)
            total = self.accelerator.scaler.scale(total)
        total.backward()  # accelerate's own would divide by 1 first


def micro_batches(batch: Batch, parts: int) -> Iterator[tuple[Batch, bool]]:
    """Equal parts of a batch, in order, each with whether it is the last."""
    size = len(batch["index"]) // parts
    for number in range(parts):
        yield _rows(batch, number * size, size) if parts > 1 else batch, number == parts - 1


def _rows(batch: Batch, first: int, count: int) -> Batch:
    return {
        key: _rows(value, first, count) if isinstance(value, dict) else value[first : first + count]
        for key, value in batch.items()
    }


def fused_optimizer(method: Method, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser in its fused form: one kernel for all weights, which can skip a step without the host knowing."""
    groups = method.parameter_groups(config.weight_decay)
    if config.name != "sgd":
        return (torch.optim.Adam if config.name == "adam" else torch.optim.AdamW)(groups, lr=config.lr, fused=True)
    optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    if config.momentum:
        # The kernel leaves its buffers uninitialised where it skips the very first step, as fp16 often does.
        for parameter in (parameter for group in groups for parameter in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _synchronised(method: Method, accelerator: Accelerator) -> Method:
    if accelerator.num_processes == 1:
        return method
    if accelerator.device.type != "cuda":
        raise SetupError("sync_batch_norm: torch has it for GPUs alone; leave it off on CPU ranks, or train on one")
    converted: Any = nn.SyncBatchNorm.convert_sync_batchnorm(method)
    return converted
