"""What is counted between two log lines, and the one exchange between ranks that each log interval has."""

import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor


@dataclass(frozen=True)
class Agreed:
    """What all ranks know after an exchange, the same on each."""

    losses: dict[str, float]
    """Means over the steps since the last log line, and over ranks."""
    stop: bool
    """Some rank was asked to stop."""
    save: bool
    """The first rank's clock asks for a checkpoint."""
    spoilt: int
    """Steps since the first one with a number that is not finite, that one included; 0: there was none."""


class Window:
    """Sums since the last log line. They stay on the device, so that no step waits for them."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.names: list[str] = []
        self.sums = torch.zeros(0, device=accelerator.device)
        self.count = 0
        self.clocked, self.waited, self.busy = 0, 0.0, 0.0
        self.began = time.monotonic()

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, with the time spent waiting for each one counted."""
        iterator = iter(batches)
        while True:
            began = time.monotonic()
            batch = next(iterator, None)
            self.began = time.monotonic()
            self.waited += self.began - began
            if batch is None:
                return
            yield batch

    def add(self, names: list[str], losses: Tensor) -> None:
        """Count one step's loss terms."""
        if not self.names:
            self.names, self.sums = names, torch.zeros_like(losses)
        self.sums += losses
        self.count += 1
        self.clocked += 1
        self.busy += time.monotonic() - self.began

    def resume(self) -> None:
        """Validation and checkpoints are over; they are not part of the loop's speed."""
        self.began = time.monotonic()

    def agree(self, spoilt: Tensor, stop: bool, save: bool) -> Agreed:
        """Exchange losses and wishes with the other ranks. All of them call it after the same steps."""
        wishes = torch.tensor([float(stop), float(save)], device=self.sums.device)
        mine = torch.cat([self.sums / max(1, self.count), spoilt, wishes])
        ranks: Tensor = self.accelerator.gather(mine) if self.accelerator.num_processes > 1 else mine
        ranks = ranks.view(self.accelerator.num_processes, -1).cpu()
        *means, _, _, _ = ranks.mean(0).tolist()
        most, stops, saves = ranks[:, -3:].amax(0).tolist()
        return Agreed(dict(zip(self.names, means, strict=True)), bool(stops), bool(saves), int(most))

    def record(self, agreed: Agreed, batch_size: int) -> dict[str, Any]:
        """The line for the steps so far, and a new start: mean losses, images/s over all ranks, share of waiting."""
        seconds = self.busy + self.waited
        record = {
            "loss": sum(agreed.losses.values()),
            "losses": agreed.losses,
            "images_per_s": round(batch_size * self.clocked / seconds, 1),
            "data_wait": round(self.waited / seconds, 3),
            "memory_gb": round(_memory(self.accelerator.device), 3),
        }
        self.sums.zero_()
        self.count = self.clocked = 0
        self.waited = self.busy = 0.0
        return record

    def state(self) -> dict[str, Any]:
        """For a checkpoint. Clocks stay behind: a line that spans a break tells the speed after it."""
        return {"names": self.names, "sums": self.sums.cpu(), "count": self.count}

    def load(self, ranks: list[dict[str, Any]], rank: int) -> None:
        """Take up the sums of this rank, or the mean of all where there were more or fewer ranks."""
        own = ranks[rank] if len(ranks) == self.accelerator.num_processes else None
        sums = own["sums"] if own else torch.stack([part["sums"] for part in ranks]).mean(0)
        self.names, self.count = ranks[0]["names"], ranks[0]["count"]
        self.sums = sums.to(self.accelerator.device)


def _memory(device: torch.device) -> float:
    """The most that this process has held so far, in GB: on the GPU, or in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
