"""The plan as a table, and local training as a live one (plain lines where no one looks)."""

import itertools
import os
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

from rich import box
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from clef.cells import records
from clef.config import ResourcesConfig
from clef.console import err, out
from launch import proposal as arrays
from launch.plan import SHARDING, MissingSet, Plan, PlannedCell
from launch.profiles import Site
from launch.proposal import Batch, Proposal, shapes

STYLES = {
    "done": "green",
    "running": "cyan",
    "queued": "cyan",
    "preempted": "yellow",
    "failed": "red",
    "died": "red",
    "cancelled": "magenta",
}


def plan(made: Plan, proposal: Proposal | None = None, site: Site | None = None, here: bool = False) -> None:
    """The cells by dataset, backbone and method, what they ask for, and what stands in the way.

    With a proposal, also what Slurm would get. `here`: the cells are trained on this machine.
    """
    table = Table(title=f"grid {made.name}: {len(made.cells)} cells", title_justify="left", box=box.SIMPLE_HEAD)
    table.padding, table.pad_edge = (0, 1, 0, 0), False  # so that the usual names fit into 80 columns
    for column in ("dataset", "backbone", "method", "seeds", "epochs", "batch", "needs", "state"):
        table.add_column(column, justify="right" if column in ("epochs", "batch") else "left", overflow="fold")
    needs = {shape: chr(ord("A") + i) for i, shape in enumerate(shapes(made.cells))}
    for key, group in itertools.groupby(made.cells, key=_row):
        same = list(group)
        c = same[0].config
        seeds = _spans([cell.config.seed for cell in same])
        table.add_row(*key, seeds, str(c.epochs), str(c.batch_size), needs[c.resources], _counted(same))
    out.print(table)
    out.print(f"in all: {_counted(made.cells)}")
    batch = proposal.batch if proposal else arrays.batch(made.todo)
    for shape, letter in needs.items():
        count = sum(cell.config.resources == shape for cell in made.todo)
        _line(f"{letter}: {_asks(shape)} a cell; {count} to train{'' if here else _as_arrays(batch, shape)}")
    if proposal and site:
        _jobs(proposal, site)
    if left := sum(cell.left for cell in made.cells):
        _line(f"failed, cancelled or behind such a cell: {left}, left as they are; --retry-failed tries them again")
    if made.unregistered:
        out.print(f"not in this version yet, so left out: {', '.join(made.unregistered)}")
    for reason in dict.fromkeys(str(cell.error) for cell in made.cells if cell.error):
        _line(f"[yellow]in the way:[/] {escape(reason)}", markup=True)
    if proposal and any(cell.state == "no shards" for cell in made.cells):
        _line("with --source DATASET=FOLDER, a job makes the shards that are missing and the cells come behind it")


def nothing(made: Plan) -> None:
    """Say that there is nothing to train, and why."""
    counts = Counter(cell.state for cell in made.cells)
    busy = counts["queued"] + counts["running"]
    waiting = f", {counts[SHARDING]} wait for their shards" if counts[SHARDING] else ""
    out.print(f"nothing to train: {counts['done']} cells are done, {busy} are queued or running{waiting}")


def _line(text: str, markup: bool = False) -> None:
    """A line that is wrapped between words where a person looks, and whole in a file."""
    out.print(text, markup=markup, soft_wrap=not out.is_terminal)


def _asks(shape: ResourcesConfig) -> str:
    cpus = shape.cpus * max(1, shape.gpus)  # they are asked for by task
    asks = f"{shape.gpus} GPU, {cpus} CPU, {shape.memory_gb} GB, {shape.hours:g} h"
    return f"{shape.nodes} nodes of {asks}" if shape.nodes > 1 else asks


def _as_arrays(batch: Batch, shape: ResourcesConfig) -> str:
    """As what Slurm would get the cells of a shape."""
    parts = [array for array in batch.arrays if array.shape == shape]
    behind = sum(cell.config.resources == shape for cell in batch.behind)
    first = [len(array.cells) for array in parts]
    text = ""
    if len(first) == 1:
        text = ", as one job array"
    elif first:
        text = f", as {len(first)} job arrays of up to {max(first)}"
    if any(array.at_once for array in parts):
        text += f", {' + '.join(str(array.at_once) for array in parts)} at a time"
    if behind:
        text += f"{' but for' if first else ','} {behind}, each behind the cell that it starts from"
    return text


def _jobs(proposal: Proposal, site: Site) -> None:
    """The jobs beside the arrays: sets of shards to be made, and the tables."""
    for made in (*proposal.sets, *proposal.at_work):
        _line(_sharding(made, proposal, site))
    if proposal.batch.cells:
        _line("behind all cells: a gather job, which writes the tables however they end")


def _sharding(made: MissingSet, proposal: Proposal, site: Site) -> str:
    key, queued = str(made.folder), proposal.queued
    count = sum(cell.config.shards.resolve() == made.folder for cell in proposal.plan.cells)
    job = queued.shards.get(key)
    by = f"job {queued.launches[key]}" if job and key in queued.launches else "another"
    if job:
        what = f"job {job} makes them"
    else:
        asks = _asks(site.profile.sharding.shape)
        failed = f"; the last such job failed, see {queued.tried[key]}" if key in queued.tried else ""
        what = f"a job makes them from {made.source} ({asks}{failed})"
    return f"{made.name}: no shards yet; {what}, and {by} behind it submits its {count} cells"


def _counted(cells: list[PlannedCell]) -> str:
    states = Counter(cell.state for cell in cells)
    return ", ".join(f"{count} {_styled(state)}" for state, count in states.items())


def _spans(numbers: list[int]) -> str:
    """`0 1 2 7`; runs of four and more as `0-9 12`."""
    runs = [list(run) for _, run in itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    spans = [[number for _, number in run] for run in runs]
    return " ".join(f"{s[0]}-{s[-1]}" if len(s) > 3 else " ".join(map(str, s)) for s in spans)


def _row(cell: PlannedCell) -> tuple[str, str, str]:
    c = cell.config
    return c.dataset_name, c.backbone.name, c.method_label


def _styled(state: str) -> str:
    return f"[{STYLES.get(state, 'default')}]{state}[/]"


def machine_slots(cells: list[PlannedCell]) -> int:
    """How many cells this machine trains at once: one a GPU if they ask for GPU, else one a core."""
    if any(cell.config.resources.gpus for cell in cells) and shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.splitlines()
        return max(1, len(listed) // max(cell.config.resources.gpus for cell in cells))
    return os.cpu_count() or 1


class Local:
    """Shows the cells that train on this machine."""

    EVERY = 10.0
    """Seconds between two lines about a running cell, where there is no terminal."""

    def __init__(self, cells: list[PlannedCell]) -> None:
        self.cells = {cell.folder: cell.config.name for cell in cells if cell.folder}
        self._live = Live(console=err, refresh_per_second=2) if err.is_terminal else None
        self._said: dict[Path, tuple[str, float]] = {}

    def __enter__(self) -> "Local":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, states: dict[Path, str]) -> None:
        """Show what has changed."""
        if self._live:
            self._live.update(self._table(states))
            return
        for number, (folder, state) in enumerate(states.items(), 1):
            before, when = self._said.get(folder, ("waiting", 0.0))
            if state == before and (state != "running" or time.monotonic() - when < self.EVERY):
                continue
            self._said[folder] = (state, time.monotonic())
            err.print(
                f"[{number}/{len(states)}] {self.cells[folder]}: {state} {_progress(folder)}".rstrip(), markup=False
            )

    def _table(self, states: dict[Path, str]) -> Table:
        table = Table(box=None)
        for column in ("cell", "state", "progress"):
            table.add_column(column, no_wrap=True)
        for folder, state in states.items():
            table.add_row(self.cells[folder], _styled(state), _progress(folder))
        return table


def _progress(folder: Path) -> str:
    told = records.said(folder)
    if told.state in ("failed", "died"):
        return told.reason or ""
    if told.state != "running" or told.epoch is None:
        return ""
    metric = f", val {told.metric:.1f}" if told.metric is not None else ""
    return f"epoch {told.epoch:.1f}/{told.epochs}{metric}, {told.images_per_s or 0:.0f} images/s"
