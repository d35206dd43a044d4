"""What commands print with: rich where a person looks, plain lines where a file does."""

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

WIDTH = 140
"""Columns where no terminal says how many there are: a table in a log file must not be cut."""
out = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDTH)


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


class Steps:
    """Progress over named counts: a bar for each on a terminal, else a line every few seconds and at the end."""

    EVERY = 5.0

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self._bars = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            _Rate(),
            TimeRemainingColumn(),
            console=err,
        )
        self._tasks: dict[str, object] = {}
        self._last = time.monotonic()

    def __enter__(self) -> Callable[[str, int, int], None]:
        if err.is_terminal:
            self._bars.start()
        return self.show

    def __exit__(self, *_: object) -> None:
        if err.is_terminal:
            self._bars.stop()

    def show(self, name: str, done: int, total: int) -> None:
        """`done` of `total` units of `name` are ready."""
        if err.is_terminal:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total)
            self._bars.update(self._tasks[name], completed=done)  # type: ignore[arg-type]
        elif done >= total or time.monotonic() - self._last > self.EVERY:
            self._last = time.monotonic()
            err.print(f"{name}: {done}/{total} {self.unit}")
