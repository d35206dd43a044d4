"""Shows where a grid is: once, as JSON, or again and again until nothing waits or runs any more."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from rich.live import Live
from rich.text import Text

from clef.console import duration, out
from clef.errors import ConfigError
from launch.details import detailed
from launch.status import OF_INTEREST, CellStatus, called_otherwise, look
from launch.status_table import Picture, line, render, summary

FEW = 30
"""Cells that are all listed, whatever their state."""
MOST = 200
"""Cells that are listed of a grid's, unless all are asked for."""
EVERY = 2.0
"""Seconds between two looks at the disk."""
LINES_EVERY = 60.0
"""Seconds between two lines of counts where there is no terminal."""


@dataclass(frozen=True)
class View:
    """What is shown: cells whose names match, all of them or those of interest, and when one is stuck (minutes)."""

    pattern: str | None
    everything: bool
    stuck: float


def take(plan: Path, view: View) -> Picture:
    """Look at the grid now. ConfigError when no cell is called as the view wants it."""
    overview = look(plan)
    if view.pattern:
        fitting = [cell for cell in overview.cells if fnmatchcase(cell.name, view.pattern)]
        if not fitting:
            raise ConfigError(f"--cells {view.pattern}: {called_otherwise(overview)}")
        overview = replace(overview, cells=fitting)
    few = view.everything or len(overview.cells) <= FEW
    listed = detailed(overview, [c for c in overview.cells if few or c.state in OF_INTEREST], view.stuck)
    if not few:  # the most urgent first
        listed = sorted(listed, key=lambda cell: (not cell.stuck, OF_INTEREST.index(cell.state)))[:MOST]
    return Picture(overview, listed, view.stuck, len(overview.cells) - len(listed))


def once(plan: Path, view: View) -> int:
    """Print it."""
    out.print(render(take(plan, view), out.width))
    return 0


def as_json(plan: Path, view: View) -> int:
    """Print it for machines: counts, when Slurm answered, the jobs that make shards, and all cells."""
    picture = take(plan, replace(view, everything=True))
    overview = picture.overview
    content = {
        "grid": overview.grid,
        "counts": overview.counts,
        "slurm": {"answered": overview.known.answered or None, "problem": overview.known.problem},
        "sharding": [asdict(job) for job in overview.sharding],
        "cells": [asdict(cell) for cell in picture.cells],
    }
    print(json.dumps(content, indent=1, ensure_ascii=False))
    return 0


def watch(plan: Path, view: View) -> int:
    """Show it until no cell waits or runs any more, or Ctrl-C: what is watched goes on."""
    try:
        _live(plan, view) if out.is_terminal else _lines(plan, view)
    except KeyboardInterrupt:
        out.print("no longer watched; the cells go on")
    return 0


def _pictures(plan: Path, view: View) -> Iterator[Picture]:
    """A look now and then, the last one when nothing waits or runs."""
    while True:
        began = time.monotonic()
        picture = take(plan, view)
        yield picture
        if picture.overview.over:
            return
        time.sleep(max(EVERY, 5 * (time.monotonic() - began)))  # a huge grid must not keep the disk busy


def _live(plan: Path, view: View) -> None:
    with Live(console=out, auto_refresh=False) as live:
        for picture in _pictures(plan, view):
            live.update(render(_fitting(picture, out.height), out.width, reasons=3), refresh=True)


def _fitting(picture: Picture, height: int) -> Picture:
    """As many of its cells as a terminal has room for, beside the counts and three reasons."""
    shown = picture.cells[: max(1, height - 8 - len(picture.overview.sharding))]
    return replace(picture, cells=shown, unlisted=picture.unlisted + len(picture.cells) - len(shown))


def _lines(plan: Path, view: View) -> None:
    said: dict[str, str] = {}
    counted = float("-inf")
    for picture in _pictures(plan, view):
        for cell, state in _changes(picture, said):
            out.print(f"{_clock()} {cell.name}: {state}{_progress(cell)}", markup=False, soft_wrap=True)
        for job in picture.overview.sharding:
            if said.get(job.job) != job.state:
                out.print(f"{_clock()} {line(job)}", markup=False, soft_wrap=True)
                said[job.job] = job.state
        if picture.overview.over or time.monotonic() > counted + LINES_EVERY:
            counted = time.monotonic()
            out.print(Text(f"{_clock()} ").append_text(summary(picture)), soft_wrap=True)


def _changes(picture: Picture, said: dict[str, str]) -> list[tuple[CellStatus, str]]:
    """The cells whose state is another than what was `said`; at first, those that are of interest."""
    first = not said
    known = {cell.name: cell for cell in picture.cells}
    found = []
    for plain in picture.overview.cells:
        cell = known.get(plain.name, plain)
        state = "stuck" if cell.stuck else cell.state
        if said.get(cell.name) != state and (not first or state in ("stuck", *OF_INTEREST)):
            found.append((cell, state))
        said[cell.name] = state
    return found


def _progress(cell: CellStatus) -> str:
    if cell.error:
        return f" ({cell.error})"
    if cell.state != "running" or cell.epoch is None:
        return ""
    left = f", {duration(cell.left_s)} left" if cell.left_s is not None else ""
    return f" on {cell.node}, epoch {cell.epoch:.1f}/{cell.epochs}{left}"


def _clock() -> str:
    return time.strftime("%H:%M:%S")
