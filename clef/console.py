"""What commands print with: rich where a person looks, plain lines where a file does."""

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from clef.errors import ConfigError

WIDTH = 140
"""Columns where no terminal says how many there are: a table in a log file must not be cut."""
Progress = Callable[[str, int, int], None]
"""Called with the name of what is counted, how much of it is done, and how much there is."""
out = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDTH)


class Steps:
    """Progress over named counts: a bar for each on a terminal, else a line every few seconds and at the end.

    Rate and time left follow from the last half minute of what was done since a name was first shown: what had been
    done before, by a run that was stopped, doesn't count.
    """

    EVERY = 5.0

    def __init__(self, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.unit, self._clock = unit, clock
        self._bars = Bars(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            _Rate(),
            TimeRemainingColumn(),
            console=err,
            get_time=clock,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last = clock()

    def __enter__(self) -> Progress:
        if err.is_terminal:
            self._bars.start()
        return self.show

    def __exit__(self, *_: object) -> None:
        if err.is_terminal:
            self._bars.stop()

    def show(self, name: str, done: int, total: int) -> None:
        """`done` of `total` units of `name` are ready."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, completed=done)
        self._bars.update(self._tasks[name], completed=done)
        if not err.is_terminal and (done >= total or self._clock() - self._last > self.EVERY):
            self._last = self._clock()
            err.print(f"{name}: {done}/{total} {self.unit}{self._pace(name)}")

    def _pace(self, name: str) -> str:
        task = next(task for task in self._bars.tasks if task.id == self._tasks[name])
        if task.finished or not task.speed or task.time_remaining is None:
            return ""
        return f", {_rate(task)}, {duration(task.time_remaining)} left"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_rate(task))


def _rate(task: Task) -> str:
    speed = task.finished_speed or task.speed
    return f"{speed:,.0f}/s" if speed and speed >= 10 else f"{speed:,.1f}/s" if speed else ""


def agreed(question: str, otherwise: str) -> bool:
    """Ask, with no for the default, and then say what comes of that. ConfigError where nobody can answer."""
    if not sys.stdin.isatty():
        raise ConfigError(f"nobody is there to answer: {question} Say --yes; {otherwise}")
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
        out.print()  # what follows is on a line of its own
    except KeyboardInterrupt:
        out.print()
        raise
    if answer.strip().lower() in ("y", "yes"):
        return True
    out.print(otherwise)
    return False


def cells(count: int) -> str:
    """`1 cell`, `10,000 cells`."""
    return f"{count:,} {'cell' if count == 1 else 'cells'}"


def duration(seconds: float) -> str:
    """Seconds in the unit that a reader wants."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
