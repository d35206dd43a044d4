"""What is counted between two log lines, and the one exchange between ranks that each log interval has.

What a training run shows: one live line on a terminal, plain lines elsewhere, nothing on ranks other than 0.

Where a cell's log records go: a JSON line each, and TensorBoard if the cell asks for it.
"""

import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.live import Live
from rich.text import Text
from torch import Tensor

from clef.cells import records
from clef.console import err
from clef.errors import SetupError


@dataclass(frozen=True)
class SyncResult:
    """What all ranks know after an exchange, the same on each."""

    losses: dict[str, float]
    """Means over the steps since the last log line, and over ranks."""
    stop: bool
    """Some rank was asked to stop."""
    save: bool
    """The first rank's clock asks for a checkpoint."""
    spoilt: int
    """Steps since the first one with a number that is not finite, that one included; 0: there was none."""


class StepMeter:
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

    def agree(self, spoilt: Tensor, stop: bool, save: bool) -> SyncResult:
        """Exchange losses and wishes with the other ranks. All of them call it after the same steps."""
        wishes = torch.tensor([float(stop), float(save)], device=self.sums.device)
        mine = torch.cat([self.sums / max(1, self.count), spoilt, wishes])
        ranks: Tensor = self.accelerator.gather(mine) if self.accelerator.num_processes > 1 else mine
        ranks = ranks.view(self.accelerator.num_processes, -1).cpu()
        *means, _, _, _ = ranks.mean(0).tolist()
        most, stops, saves = ranks[:, -3:].amax(0).tolist()
        return SyncResult(dict(zip(self.names, means, strict=True)), bool(stops), bool(saves), int(most))

    def record(self, agreed: SyncResult, batch_size: int) -> dict[str, Any]:
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


class Display:
    """Shows epoch, step, loss, metric, images/s and the time left of one cell."""

    def __init__(self, name: str, steps: int, epochs: int, shown: bool) -> None:
        self.name, self.steps, self.epochs, self.shown = name, steps, epochs, shown
        self._live = Live(console=err, refresh_per_second=4, transient=False) if shown and err.is_terminal else None
        self._began = time.monotonic()
        self.start = 0

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begin(self, step: int) -> None:
        """The loop starts after `step` steps."""
        self.start, self._began = step, time.monotonic()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.shown:
            err.print(f"{self.name}: {text}", markup=False)

    def left(self, step: int) -> float:
        """Seconds from this step to the last one, at the pace so far, validations and checkpoints counted in."""
        return (time.monotonic() - self._began) / (step - self.start) * (self.steps - step)

    def step(self, record: dict[str, Any], metric: float | None) -> None:
        """A log record of the step loop."""
        if not self.shown:
            return
        step = record["step"]
        line = (
            f"epoch {record['epoch']:.1f}/{self.epochs}  step {step}/{self.steps}  loss {record['loss']:.3f}  "
            f"{'' if metric is None else f'val {metric:.1f}  '}{record['images_per_s']:.0f} images/s  "
            f"{_clock(self.left(step))} left"
        )
        if self._live:
            self._live.update(Text(f"{self.name}: {line}"))
        else:
            self.say(line)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


FOLDER = "tensorboard"


class Log:
    """Made by every rank, written to by the main one.

    `step`: how far the run is already. What an earlier process has told TensorBoard of later steps counts no more.
    SetupError when TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, tensorboard: bool, step: int) -> None:
        self.folder, self.step = folder, step
        self._make = _writer() if tensorboard else None
        self._events: Any = None

    def append(self, record: dict[str, Any]) -> None:
        """Write a record with its `step`."""
        records.append_log(self.folder, record)
        if self._make is None:
            return
        if self._events is None:
            self._events = self._make(str(self.folder / FOLDER), purge_step=self.step + 1)
        for name, value in scalars(record).items():
            self._events.add_scalar(name, value, record["step"])
        self._events.flush()

    def close(self) -> None:
        """The run is over."""
        if self._events is not None:
            self._events.close()


def scalars(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a record by name, `losses/kl` for one within another; not where it stands."""
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            found |= scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and key not in ("step", "epoch"):
            found[prefix + key] = value
    return found


def _writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SetupError(
            f"runtime.tensorboard=true: {error}; install it with: pip install 'clef-caer[tensorboard]', or leave it off"
        ) from None
    return SummaryWriter
