"""The optimizer of a cell, and its learning rate.

The learning rate is a pure function of how far the training is, so neither a resume nor the number of ranks can shift
it. (A scheduler object that is given to `accelerator.prepare` makes a step for every rank.)
"""

import math
from typing import Any

import torch
from torch.optim import SGD, Optimizer

from clef import registry
from clef.config import OptimizerConfig, ScheduleConfig
from clef.config.cell import OPTIMIZERS
from clef.errors import ConfigError
from clef.methods import Method


def build_optimizer(method: Method, config: OptimizerConfig) -> Optimizer:
    """Return the optimizer of a method's trained parameters: a fused one of torch's, or one of your own.

    Parameter groups are the method's (`Method.parameter_groups`); each has its `weight_decay` and its `lr_multiplier`.
    Raises ConfigError for an optimizer of your own that can't be used.
    """
    groups = method.parameter_groups(config.weight_decay)
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
        raise ConfigError(f"optimizer {config.name!r} has no weight decay; say optimizer.weight_decay=0")
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
    """Give every parameter group its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]
