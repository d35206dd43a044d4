"""One training step: forward and backward pass, the guard against NaN and Inf, clipping, the optimizer.

With a fused optimizer nothing here waits for the device: the step is only queued there.
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
from torch.optim import SGD, Optimizer

from clef import io, registry
from clef.config import CellConfig, OptimizerConfig, ScheduleConfig
from clef.config.cell import OPTIMIZERS
from clef.data.batch_memory import Batch
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader
from clef.data.order import Order
from clef.data.shards import SplitShards
from clef.errors import ConfigError, SetupError
from clef.methods import Method, Prediction


class TrainStep:
    """Updates a method's weights from one global batch a call. Brings the method to the device and wraps it for ranks.

    `method` is the bare module, `wrapped` the one that exchanges gradients between ranks (DDP).
    """

    def __init__(self, config: CellConfig, method: Method, accelerator: Accelerator) -> None:
        self.optimizer_config, self.accelerator = config.optimizer, accelerator
        if config.sync_batch_norm:
            method = _with_synchronized_batch_norm(method, accelerator)
        self.method = method.to(accelerator.device)
        if accelerator.device.type == "cuda":  # on a CPU, torch 2.14 corrupts its heap in small channels_last networks
            self.method = self.method.to(memory_format=torch.channels_last)
        self.parameters = [parameter for parameter in self.method.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(self.method, config.optimizer)
        self.wrapped = accelerator.prepare_model(self.method, evaluation_mode=not self.parameters)
        self.guard = NonFiniteGuard(accelerator.device)
        if accelerator.scaler is None:  # with fp16, the gradient scaler decides which steps are skipped
            self.guard.attach(self.optimizer)
        self.grad_norm: Tensor | None = None
        """The gradient's 2-norm before clipping, of the last step that measured it."""

    def __call__(self, batch: Batch, lr: float, measure_norm: bool) -> tuple[list[str], Tensor]:
        """Make one step with a rank's share of a global batch, which is on the device already.

        Returns the names and the values of the loss terms, float32, on the device. `measure_norm`: keep the gradient's
        norm in `grad_norm` even if it is not needed for clipping.
        """
        set_learning_rate(self.optimizer, lr)
        names, losses = self._compute_gradients(batch)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        scaler = self.accelerator.scaler
        if scaler is None:
            self.guard.check([*gradients, losses])
        elif self.optimizer_config.max_grad_norm or measure_norm:
            scaler.unscale_(self.optimizer)
        self.guard.record_step(losses)
        if self.optimizer_config.max_grad_norm:
            self.grad_norm = clip_grad_norm_(self.parameters, self.optimizer_config.max_grad_norm)
        elif measure_norm:
            self.grad_norm = get_total_norm(gradients)
        self._update_weights()
        return names, losses

    def _update_weights(self) -> None:
        # The bare optimizer: accelerate's wrapper would look for a package on disk in every step.
        if scaler := self.accelerator.scaler:
            scaler.step(self.optimizer)
            scaler.update()
        elif self.guard.allows_step():
            self.optimizer.step()
        self.optimizer.zero_grad()

    def _compute_gradients(self, batch: Batch) -> tuple[list[str], Tensor]:
        """Add up the gradients of all micro-batches. Only the last backward pass exchanges them between ranks."""
        parts = self.optimizer_config.gradient_accumulation_steps
        names: list[str] = []
        summed: Tensor | None = None
        for part, is_last in micro_batches(batch, parts):
            with nullcontext() if is_last else self.accelerator.no_sync(self.wrapped):
                prediction: Prediction = self.wrapped(part)
                names = list(prediction.losses)
                terms = list(prediction.losses.values())
                if parts > 1:
                    terms = [term / parts for term in terms]
                losses = torch.stack([term.detach() for term in terms])
                self._backward(sum(terms[1:], terms[0]), losses)
            summed = losses if summed is None else summed + losses
        assert summed is not None
        return names, summed

    def _backward(self, total: Tensor, losses: Tensor) -> None:
        if self.accelerator.scaler is not None:
            # Gradients that overflow fp16 are the scaler's business: it skips the step and scales less. A loss is
            # float32 and must be finite. After the first that isn't, every gradient becomes Inf, so that the scaler
            # skips this step and all later ones.
            self.guard.check([losses])
            total = total / (1 - self.guard.nonfinite)
            total = self.accelerator.scaler.scale(total)
        total.backward()  # accelerate's own would divide by 1 first


def micro_batches(batch: Batch, parts: int) -> Iterator[tuple[Batch, bool]]:
    """Yield equal parts of a batch, in order, each with whether it is the last."""
    size = len(batch["index"]) // parts
    for number in range(parts):
        yield _rows(batch, number * size, size) if parts > 1 else batch, number == parts - 1


def _rows(batch: Batch, first: int, count: int) -> Batch:
    return {
        key: _rows(value, first, count) if isinstance(value, dict) else value[first : first + count]
        for key, value in batch.items()
    }


def _with_synchronized_batch_norm(method: Method, accelerator: Accelerator) -> Method:
    if accelerator.num_processes == 1:
        return method
    if accelerator.device.type != "cuda":
        raise SetupError("sync_batch_norm: torch has it only for GPUs; leave it off on CPU ranks, or train on one")
    converted: Any = nn.SyncBatchNorm.convert_sync_batchnorm(method)
    return converted


# ---- The optimizer and its learning rate ----
#
# The rate is a pure function of how far the training is, so neither a resume nor the number of ranks can shift it.
# (A scheduler object that is given to `accelerator.prepare` makes a step for every rank.)


def build_optimizer(method: Method, config: OptimizerConfig) -> Optimizer:
    """Return the optimizer of a method's trained parameters: a fused one of torch's, or one of your own.

    Parameter groups are the method's (`Method.parameter_groups`); each has its `weight_decay` and its `lr_multiplier`.
    Raises ConfigError for an optimizer of your own that can't be used.
    """
    groups = method.parameter_groups(config.weight_decay)
    groups = groups or [{"params": [], "weight_decay": config.weight_decay, "lr_multiplier": 1.0}]  # nothing is trained
    if ":" in config.name:
        optimizer = _build_own_optimizer(groups, config)
    else:
        options = {"momentum": config.momentum} if config.name == "sgd" else {}
        # Fused: one kernel updates all weights, and it can skip a step without the host knowing.
        optimizer = registry.find("optimizer", config.name, OPTIMIZERS)(groups, lr=config.lr, fused=True, **options)
    if isinstance(optimizer, SGD):
        _create_momentum_buffers(optimizer)
    return optimizer


def _build_own_optimizer(groups: list[dict[str, Any]], config: OptimizerConfig) -> Optimizer:
    """Return a `module:Class` of the user, called with the groups, `lr` and `optimizer.options`."""
    cls = registry.find("optimizer", config.name, {})
    try:
        optimizer = cls(groups, lr=config.lr, **config.options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer {config.name!r}: {error}; see optimizer.options") from None
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(f"optimizer {config.name!r}: not a torch.optim.Optimizer")
    if config.weight_decay and "weight_decay" not in optimizer.defaults:
        raise ConfigError(f"optimizer {config.name!r} has no weight decay; set optimizer.weight_decay=0")
    return optimizer


def _create_momentum_buffers(optimizer: SGD) -> None:
    """Fill the momentum of a fused SGD with zeros, which makes the first step the same as without buffers.

    Its kernel leaves the buffers uninitialized where it skips the very first step, as fp16 often does.
    """
    for group in optimizer.param_groups:
        if group["fused"] and group["momentum"] and not group["dampening"]:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def lr_factor(schedule: ScheduleConfig, epoch: float, epochs: int) -> float:
    """Return what the base rate is multiplied by, `epoch` epochs (fractional) into a training of `epochs`."""
    warmup = min(1.0, epoch / schedule.warmup) if schedule.warmup else 1.0
    if schedule.name == "step":
        return float(warmup * schedule.gamma ** (math.floor(epoch) // schedule.step_size))
    if schedule.name == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / epochs)))
    return warmup


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give every parameter group `lr` times its `lr_multiplier`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]


# ---- Numbers that are not finite ----


class NonFiniteGuard:
    """Blocks all updates after the first NaN or Inf in a loss or gradient, that step's own update included.

    The flag stays on the device. Fused optimizers of torch read it there and skip the step themselves, so no step
    waits for it; before any other optimizer's step the host reads it. The host learns of it at the next log line,
    validation or checkpoint (on a single CPU rank: after each step). So the weights, and all that is saved, are those
    from before the bad step.
    """

    def __init__(self, device: torch.device) -> None:
        self.nonfinite = torch.zeros((), device=device)
        """0, or 1 from the first number that is not finite on. float32, as the kernels want it."""
        self.steps_since_bad = torch.zeros(1, device=device)
        """Steps since the first bad one, that one included."""
        self.recent_losses: list[Tensor] = []
        """The loss terms of each step since `reset`."""
        self._host_must_look = False
        self._one = torch.ones((), device=device)

    def attach(self, optimizer: Optimizer) -> None:
        """Have every step of this optimizer skipped from the first bad one on."""
        self._host_must_look = not skips_on_device(optimizer)
        if not self._host_must_look:
            optimizer.found_inf = self.nonfinite  # type: ignore[attr-defined]
            optimizer.grad_scale = None  # type: ignore[attr-defined]

    def check(self, tensors: list[Tensor]) -> None:
        """Raise the flag if a number in these is not finite. One kernel reads them; its factor is 1."""
        torch._amp_foreach_non_finite_check_and_unscale_(tensors, self.nonfinite, self._one)

    def record_step(self, losses: Tensor) -> None:
        """Count a step and keep its loss terms, once all its micro-batches have been checked."""
        self.steps_since_bad += self.nonfinite
        self.recent_losses.append(losses)

    def allows_step(self) -> bool:
        """Return whether to call the optimizer's `step`. Waits for the device unless the optimizer skips by itself."""
        return not self._host_must_look or not self.nonfinite

    def reset(self) -> None:
        """Forget the loss terms of the steps so far: they were finite on all ranks."""
        self.recent_losses.clear()

    def loss_terms(self, accelerator: Accelerator, steps_ago: int) -> list[float]:
        """Return the loss terms of the step `steps_ago` (1: the last), means over ranks. All ranks call it."""
        losses = self.recent_losses[-steps_ago]
        ranks: Tensor = accelerator.gather(losses) if accelerator.num_processes > 1 else losses
        means: list[float] = ranks.view(accelerator.num_processes, -1).mean(0).tolist()
        return means


def skips_on_device(optimizer: Optimizer) -> bool:
    """Return whether `step` makes no update while `optimizer.found_inf` is 1: torch's own fused optimizers do so.

    A subclass with a `step` of its own doesn't count, whatever its groups say.
    """
    is_torchs = type(optimizer).step.__module__.startswith("torch.optim.")
    return is_torchs and all(group.get("fused") for group in optimizer.param_groups)


MAX_SAMPLES_NAMED = 6
"""Samples that the message lists; the file has all."""


@dataclass(frozen=True)
class BadStep:
    """A step whose loss or gradient is not finite: its loss terms and its learning rate."""

    step: int
    losses: dict[str, float]
    lr: float


def bad_step_message(bad: BadStep, config: CellConfig, folder: Path, split: SplitShards, order: Order) -> str:
    """Return what to say of a bad step, and write its whole global batch to `folder`."""
    items = order.batch(bad.step - 1)
    ids = [_source_id(split, index) for _, index in items]
    path = folder / f"bad-batch-{bad.step:09d}.npz"
    with io.atomic(path) as file:
        np.savez_compressed(file, **_batch_arrays(bad, config, split, items), id=np.array(ids))
    what = "gradient" if np.isfinite(list(bad.losses.values())).all() else "loss"
    terms = ", ".join(f"{name} {value:.6g}" for name, value in bad.losses.items())
    rest = f" and {len(ids) - MAX_SAMPLES_NAMED} more" if len(ids) > MAX_SAMPLES_NAMED else ""
    return (
        f"non-finite: the {what} of step {bad.step} is not finite ({terms}; learning rate {bad.lr:g}); no update was "
        f"made from it. Its samples: {', '.join(ids[:MAX_SAMPLES_NAMED])}{rest}; the batch is in {path.name}"
    )


def _batch_arrays(bad: BadStep, config: CellConfig, split: SplitShards, items: list[tuple[int, int]]) -> dict[str, Any]:
    """Return the batch as it was read: inputs (images uint8, as augmented, with jitter's factors), targets, indices."""
    dataset = CellDataset(split, config.inputs.present, config.seed, augment=True)
    [batch] = BatchLoader(dataset, [items], workers=0)
    parts = {name: value if isinstance(value, dict) else {"": value} for name, value in batch.items()}
    arrays: dict[str, Any] = {
        f"{name}.{key}".rstrip("."): value.numpy() for name, inner in parts.items() for key, value in inner.items()
    }
    arrays |= {f"loss.{name}": np.float32(value) for name, value in bad.losses.items()}
    return arrays | {
        "epoch": np.array([epoch for epoch, _ in items]),
        "key": np.array([split.key(index) for _, index in items]),
    }


def _source_id(split: SplitShards, index: int) -> str:
    """Return what the dataset itself calls a sample."""
    facts = json.loads(split.read(index, "meta.json") or b"{}")
    return str(facts.get("id", split.key(index)))
