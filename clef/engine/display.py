"""What a training run shows: one live line on a terminal, plain lines elsewhere, nothing on ranks other than 0."""

import time
from typing import Any

from rich.live import Live
from rich.text import Text

from clef.console import err


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
