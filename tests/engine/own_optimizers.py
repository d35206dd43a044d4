"""Optimizers as a user might bring them: no fused kernel, and nothing that knows of a flag to skip a step."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import SGD, Optimizer


class SignMomentum(Optimizer):
    """Steps of one size, in the direction of the sign of a running mean of the gradients."""

    def __init__(self, params: Iterable[Any], lr: float, beta: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in (parameter for parameter in group["params"] if parameter.grad is not None):
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 - group["beta"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(mean.sign(), alpha=group["lr"])


class DecayingSgd(SGD):
    """Torch's fused SGD, and a step of its own behind it, which a flag for the kernel alone would not stop."""

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update as SGD does, then shrink all weights."""
        super().step()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.mul_(0.999)
