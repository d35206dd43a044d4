"""One update of the weights: forward and backward over the micro-batches, the guard, clipping, the optimiser.

Nothing here waits for the device.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from clef.config import CellConfig, OptimizerConfig
from clef.engine import schedule
from clef.engine.faults import Faults
from clef.engine.numbers import Guard
from clef.errors import SetupError
from clef.methods import Method, Prediction

Batch = dict[str, Any]


class Updates:
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
        self.guard = Guard(accelerator.device)
        if accelerator.scaler is None:  # fp16: the scaler sets the optimiser's flag itself
            self.guard.arm(self.optimizer)
        self.norm: Tensor | None = None
        """The gradient's 2-norm before clipping, of the last step that measured it."""

    def __call__(self, batch: Batch, step: int, rate: float, measured: bool) -> tuple[list[str], Tensor]:
        """Update from a rank's share of global batch `step`, on the device; the names and values of the loss terms."""
        schedule.set_rate(self.optimizer, rate)
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
