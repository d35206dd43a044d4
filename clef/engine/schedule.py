"""The learning rate as a pure function of how far training is, so that resuming and ranks can't shift it.

(A scheduler object that is given to `accelerator.prepare` steps once for every rank.)
"""

import math

from torch.optim import Optimizer

from clef.config import ScheduleConfig


def factor(schedule: ScheduleConfig, epoch: float, epochs: int) -> float:
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
