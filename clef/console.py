"""What commands print with: bars and colors on a terminal, plain lines in a file. Imports no torch."""

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TextIO

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
"""Reports progress: `progress(name, done, total)`, `name` being what is counted."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise what `print` raises: rich's own way out is an exit with 1."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads the output any more")


def _width(stream: TextIO | None) -> int | None:
    """Return the width to print with; None: that of the terminal. `stream` is None where it was closed (`>&-`)."""
    return None if stream and stream.isatty() else WIDTH


out = _Console(highlight=False, width=_width(sys.stdout))
err = _Console(stderr=True, highlight=False, width=_width(sys.stderr))


class ProgressBars:
    """Progress over named counts: a bar for each on a terminal, else a line every few seconds and at the end.

    Rate and time left are those of the last half minute. What had been done before a name was first shown, by a run
    that was stopped, doesn't count. `unit`: what is counted, such as people.
    """

    SECONDS_BETWEEN_LINES = 5.0

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
        self._last_line_at = clock()

    def __enter__(self) -> Progress:
        if err.is_terminal:
            self._bars.start()
        return self.update

    def __exit__(self, *_: object) -> None:
        if err.is_terminal:
            self._bars.stop()

    def update(self, name: str, done: int, total: int) -> None:
        """Show that `done` of `total` units of `name` are ready."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, completed=done)
        self._bars.update(self._tasks[name], completed=done)
        if not err.is_terminal and (done >= total or self._clock() - self._last_line_at > self.SECONDS_BETWEEN_LINES):
            self._last_line_at = self._clock()
            err.print(f"{name}: {done}/{total} {self.unit}{self._pace(name)}")

    def _pace(self, name: str) -> str:
        task = next(task for task in self._bars.tasks if task.id == self._tasks[name])
        if task.finished or not task.speed or task.time_remaining is None:
            return ""
        return f", {_rate(task)}, {format_duration(task.time_remaining)} left"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_rate(task))


def _rate(task: Task) -> str:
    speed = task.finished_speed or task.speed
    return f"{speed:,.0f}/s" if speed and speed >= 10 else f"{speed:,.1f}/s" if speed else ""


def confirm(question: str, otherwise: str, option: str = "--yes") -> bool:
    """Ask a question whose default is no; return the answer, and print `otherwise` for a no.

    Raises ConfigError where nobody can answer; `option` is the one that answers yes.
    """
    if not sys.stdin.isatty():
        raise ConfigError(f"there is no terminal to ask on: {question} Add {option}; {otherwise}")
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


def add_force_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that `check_outputs` is told of."""
    parser.add_argument("--force", action="store_true", help="write over a file that is there already, without asking")


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path], force: bool) -> None:
    """Refuse to write over what isn't the command's own. To be called before any work.

    `outputs`: the files to write, by the option that names each. One of the `inputs`, or a file in a folder among
    them, is never written over; any other file that is there only with `force`, or after a yes on the terminal.
    Raises ConfigError.
    """
    inputs, stated = list(inputs), {option: path for option, path in outputs.items() if path is not None}
    if len({path.resolve() for path in stated.values()}) < len(stated):
        raise ConfigError(f"{' and '.join(stated)}: each needs a file of its own")
    for option, path in stated.items():
        if not path.exists():
            continue
        if source := next((source for source in inputs if _belongs_to(path, source)), None):
            part = "" if path.samefile(source) else f" in {source}"
            raise ConfigError(f"{option} {path}: that is a file{part} that this command reads; name another")
        if not path.is_file():
            raise ConfigError(f"{option} {path}: is there already, and is no file; name another")
        if not force and not confirm(f"{path} is there already. Write over it?", f"{path} stays as it is", "--force"):
            raise ConfigError(f"{option} {path}: name another file")


def _belongs_to(path: Path, source: Path) -> bool:
    """Return whether an existing file is the same as `source`, or lies in that folder."""
    return source.exists() and (path.samefile(source) or source.resolve() in path.resolve().parents)


def format_cells(count: int) -> str:
    """Return `1 cell`, `10,000 cells`."""
    return f"{count:,} {'cell' if count == 1 else 'cells'}"


def format_duration(seconds: float) -> str:
    """Return seconds in the unit that a reader wants: `90 s`, `12 min`, `2 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def is_first_rank() -> bool:
    """Return whether this process is rank 0, or the only one: it alone writes, prints and holds the cell's lock."""
    return os.environ.get("RANK", "0") == "0"
