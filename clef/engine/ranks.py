"""What ranks do together, so that none waits for one that has failed."""

from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from clef.errors import ClefError


def together(accelerator: Accelerator, work: Callable[[], Any]) -> list[Any]:
    """Do `work` on this rank and wait for the others: the results of all, or the first rank's error on every rank."""
    error: Exception | None = None
    result = None
    try:
        result = work()
    except (OSError, ClefError) as raised:
        error = raised
    outcomes = gather_object([(result, error)]) if accelerator.num_processes > 1 else [(result, error)]
    for _, failed in outcomes:
        if failed is not None:
            raise failed
    return [done for done, _ in outcomes]


def synchronise_buffers(method: nn.Module) -> None:
    """Give every rank rank 0's batch-norm statistics, as DDP does before the next step."""
    if dist.is_initialized():
        for buffer in method.buffers():
            dist.broadcast(buffer, 0)
