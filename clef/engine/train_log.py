"""What a training run reports: the numbers between two log lines, the terminal's line, log.jsonl and TensorBoard."""

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
    steps_since_bad: int
    """Steps since the first one with a number that is not finite, that one included; 0: there was none."""


class StepMeter:
    """Sums since the last log line. They stay on the device, so that no step waits for them."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.names: list[str] = []
        """Of the loss terms; empty before the first step."""
        self.sums = torch.zeros(0, device=accelerator.device)
        """Of each loss term, over `steps` steps."""
        self.steps = 0
        self.timed_steps, self.seconds_waiting, self.seconds_busy = 0, 0.0, 0.0
        """Of this process alone: a checkpoint holds the sums, and no times."""
        self._step_began = time.monotonic()

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches, and count the time spent waiting for each one."""
        iterator = iter(batches)
        while True:
            began = time.monotonic()
            batch = next(iterator, None)
            self._step_began = time.monotonic()
            self.seconds_waiting += self._step_began - began
            if batch is None:
                return
            yield batch

    def add(self, names: list[str], losses: Tensor) -> None:
        """Count one step's loss terms."""
        if not self.names:
            self.names, self.sums = names, torch.zeros_like(losses)
        self.sums += losses
        self.steps += 1
        self.timed_steps += 1
        self.seconds_busy += time.monotonic() - self._step_began

    def resume(self) -> None:
        """Continue after a validation or checkpoint, which is no part of the loop's speed."""
        self._step_began = time.monotonic()

    def exchange(self, steps_since_bad: Tensor, stop: bool, save: bool) -> SyncResult:
        """Exchange losses, and stop and save requests, with the other ranks. All of them call it after the same steps.

        `steps_since_bad` (float32, 1, on the device): steps since the first bad one, see `NonFiniteGuard`.
        """
        requests = torch.tensor([float(stop), float(save)], device=self.sums.device)
        mine = torch.cat([self.sums / max(1, self.steps), steps_since_bad, requests])
        ranks: Tensor = self.accelerator.gather(mine) if self.accelerator.num_processes > 1 else mine
        ranks = ranks.view(self.accelerator.num_processes, -1).cpu()  # here the host waits for the device
        *means, _, _, _ = ranks.mean(0).tolist()
        most_bad, any_stop, any_save = ranks[:, -3:].amax(0).tolist()
        losses = dict(zip(self.names, means, strict=True))
        return SyncResult(losses, bool(any_stop), bool(any_save), int(most_bad))

    def record(self, result: SyncResult, batch_size: int) -> dict[str, Any]:
        """Return the log line's numbers of the steps so far, and start again from zero.

        They are mean losses, images/s over all ranks, the share of time spent waiting for batches, and memory in GB.
        """
        seconds = self.seconds_busy + self.seconds_waiting
        record = {
            "loss": sum(result.losses.values()),
            "losses": result.losses,
            "images_per_s": round(batch_size * self.timed_steps / seconds, 1),
            "data_wait": round(self.seconds_waiting / seconds, 3),
            "memory_gb": round(_peak_memory_gb(self.accelerator.device), 3),
        }
        self.sums.zero_()
        self.steps = self.timed_steps = 0
        self.seconds_waiting = self.seconds_busy = 0.0
        return record

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds, without times: a line that spans an interruption shows the speed after it."""
        return {"names": self.names, "sums": self.sums.cpu(), "steps": self.steps}

    def load_state_dicts(self, ranks: list[dict[str, Any]], rank: int) -> None:
        """Restore the sums of this rank, or the mean of all where there were more or fewer ranks."""
        same_ranks = len(ranks) == self.accelerator.num_processes
        sums = ranks[rank]["sums"] if same_ranks else torch.stack([state["sums"] for state in ranks]).mean(0)
        self.names, self.steps = ranks[0]["names"], ranks[0]["steps"]
        self.sums = sums.to(self.accelerator.device)


def _peak_memory_gb(device: torch.device) -> float:
    """Return the most that this process has held so far: on the GPU, or in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


class Display:
    """Shows one cell's progress: one live line on a terminal, plain lines elsewhere, nothing on ranks other than 0."""

    def __init__(self, name: str, steps: int, epochs: int, shown: bool) -> None:
        self.name, self.steps, self.epochs, self.shown = name, steps, epochs, shown
        self._live = Live(console=err, refresh_per_second=4, transient=False) if shown and err.is_terminal else None
        self._first_step, self._began = 0, time.monotonic()

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begin(self, step: int) -> None:
        """Start the clock: the loop continues after `step` steps."""
        self._first_step, self._began = step, time.monotonic()

    def print(self, text: str) -> None:
        """Print a line that stays."""
        if self.shown:
            err.print(f"{self.name}: {text}", markup=False)

    def seconds_left(self, step: int) -> float:
        """Return the time from this step to the last one, at the pace so far, validations and checkpoints included."""
        return (time.monotonic() - self._began) / (step - self._first_step) * (self.steps - step)

    def show_step(self, record: dict[str, Any], best_val_score: float | None) -> None:
        """Show a log record of the step loop, and the best validation so far."""
        if not self.shown:
            return
        step = record["step"]
        line = (
            f"epoch {record['epoch']:.1f}/{self.epochs}  step {step}/{self.steps}  loss {record['loss']:.3f}  "
            f"{'' if best_val_score is None else f'val {best_val_score:.1f}  '}{record['images_per_s']:.0f} images/s  "
            f"{_clock(self.seconds_left(step))} left"
        )
        if self._live:
            self._live.update(Text(f"{self.name}: {line}"))
        else:
            self.print(line)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


TENSORBOARD_FOLDER = "tensorboard"
"""Below the cell's folder."""


class TrainLog:
    """A cell's log records: a JSON line each in log.jsonl, and TensorBoard if the cell asks for it.

    Every rank makes one, and the main one writes to it. `step`: how far the run is already; what an earlier process has
    sent to TensorBoard about later steps is no longer shown. Raises SetupError when TensorBoard is wanted but missing.
    """

    def __init__(self, folder: Path, tensorboard: bool, step: int) -> None:
        self.folder, self.step = folder, step
        self._writer_class = _summary_writer() if tensorboard else None
        self._writer: Any = None

    def append(self, record: dict[str, Any]) -> None:
        """Write a record with its `step`."""
        records.append_log(self.folder, record)
        if self._writer_class is None:
            return
        if self._writer is None:
            self._writer = self._writer_class(str(self.folder / TENSORBOARD_FOLDER), purge_step=self.step + 1)
        for name, value in scalars(record).items():
            self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()


def scalars(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return a record's numbers by name, `losses/kl` for a nested one, without its position (step and epoch)."""
    values: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            values |= scalars(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and key not in ("step", "epoch"):
            values[prefix + key] = value
    return values


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SetupError(
            f"runtime.tensorboard=true: {error}; install it with: pip install 'clef-caer[tensorboard]', or leave it off"
        ) from None
    return SummaryWriter
