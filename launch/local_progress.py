"""What is shown while cells train on this machine."""

import time
from pathlib import Path

from rich.live import Live
from rich.table import Table

from clef.cells import records
from clef.console import err
from launch import plan_table
from launch.plan import PlannedCell


class LocalProgress:
    """Shows the cells that train on this machine: a live table on a terminal, else a line for each change."""

    LINE_INTERVAL_S = 10.0
    """Seconds between two lines about a running cell, where there is no terminal."""

    def __init__(self, cells: list[PlannedCell]) -> None:
        self.names = {cell.folder: cell.config.name for cell in cells if cell.folder}
        self._live = Live(console=err, refresh_per_second=2) if err.is_terminal else None
        self._printed: dict[Path, tuple[str, float]] = {}

    def __enter__(self) -> "LocalProgress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, states: dict[Path, str]) -> None:
        """Show what has changed. `states`: those of all cells, by folder."""
        if self._live:
            self._live.update(self._table(states))
            return
        for number, (folder, state) in enumerate(states.items(), 1):
            before, when = self._printed.get(folder, ("waiting", 0.0))
            if state == before and (state != "running" or time.monotonic() - when < self.LINE_INTERVAL_S):
                continue
            self._printed[folder] = (state, time.monotonic())
            text = f"[{number}/{len(states)}] {self.names[folder]}: {state} {_progress_text(folder)}"
            err.print(text.rstrip(), markup=False)

    def _table(self, states: dict[Path, str]) -> Table:
        table = Table(box=None)
        for column in ("cell", "state", "progress"):
            table.add_column(column, no_wrap=True)
        for folder, state in states.items():
            table.add_row(self.names[folder], plan_table.styled_state(state), _progress_text(folder))
        return table


def _progress_text(folder: Path) -> str:
    record = records.read_state(folder)
    if record.state in ("failed", "died"):
        return record.reason or ""
    if record.state != "running" or record.epoch is None:
        return ""
    metric = f", val {record.metric:.1f}" if record.metric is not None else ""
    return f"epoch {record.epoch:.1f}/{record.epochs}{metric}, {record.images_per_s or 0:.0f} images/s"
