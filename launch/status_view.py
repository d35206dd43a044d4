"""The state of a grid as text: counts, a row a cell, and why cells don't run.

What the folders of cells say besides their state: progress, signs of life, and why a cell doesn't run.

Shows where a grid is: once, as JSON, or again and again until nothing waits or runs any more.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from clef import console
from clef.cells import attempts, records
from clef.console import duration, out
from clef.errors import ConfigError
from launch.job_output import last_line, outputs
from launch.options import STUCK
from launch.plan_table import STYLES
from launch.slurm_commands import Job
from launch.status import OF_INTEREST, CellStatus, Overview, ShardingJob, called_otherwise, ending
from launch.status import overview as look

WIDE = 120
"""Columns from which on a table has all there is to say."""
LONGEST = 240
"""Characters of a reason that are shown; all of it is in the cell's state.json."""


@dataclass(frozen=True)
class Picture:
    """A grid at a moment, and the cells to be listed with all that is known of them."""

    overview: Overview
    cells: list[CellStatus]
    stuck: float
    """Minutes without a word after which a running cell is called stuck."""
    unlisted: int = 0
    """Cells that are counted and not listed."""


def render(picture: Picture, width: int, reasons: int | None = None) -> RenderableType:
    """All of it, for so many columns; `reasons`: of those why cells don't run, how many are shown, a line each."""
    parts: list[RenderableType] = [summary(picture)]
    if picture.cells:
        parts.append(_table(picture.cells, width))
    if picture.unlisted:
        parts.append(Text(f"not listed: {console.cells(picture.unlisted)}; --all lists them", style="dim"))
    parts += [Text(f"- {line(job)}") for job in picture.overview.sharding]
    for reason in _reasons(picture.cells)[:reasons]:
        reason.no_wrap, reason.overflow = reasons is not None, "ellipsis" if reasons is not None else "fold"
        parts.append(reason)
    return Group(*parts)


def summary(picture: Picture) -> Text:
    """The grid, its cells by state, and how old Slurm's word is."""
    overview = picture.overview
    text = Text(f"grid {overview.grid}: {console.cells(len(overview.cells))}: ")
    stuck = sum(cell.stuck for cell in picture.cells)
    for number, (state, cells) in enumerate(overview.counts.items()):
        text.append(", " if number else "")
        text.append(f"{cells:,} {state}", style=STYLES.get(state, ""))
        if state == "running" and stuck:
            text.append(f" ({stuck:,} stuck: no word for {picture.stuck:g} minutes)", style="bold red")
    known = overview.known
    if known.problem:
        age = f"what it said {duration(known.tried - known.answered)} before" if known.answered else "disk alone"
        text.append(f"\nSlurm doesn't answer ({known.problem}); shown by {age}", style="yellow")
    return text


def line(job: ShardingJob) -> str:
    """What a job does that blocked cells wait for, and how it goes."""
    if job.seconds is not None:
        how = f"runs on {job.node}, for {duration(job.seconds)} so far"
    elif job.active:
        how = f"waits ({job.reason})" if job.reason else "waits"
    else:
        how = f"has ended: {job.reason}"
    return f"job {job.job}, which {job.does}, {how}"


def _table(cells: Sequence[CellStatus], width: int) -> Table:
    fitting = [column for column in COLUMNS if width >= WIDE or column.narrow]
    columns = [column for column in fitting if any(column.text(cell) for cell in cells)]
    rows = [[column.text(cell) for column in columns] for cell in cells]
    needed = sum(
        max(len(column.title), *map(len, texts)) for column, texts in zip(columns, zip(*rows, strict=True), strict=True)
    )
    gap = 2 if needed + 2 * len(columns) <= width else 1
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column.title, justify=column.justify, overflow="fold", no_wrap=column.title != "cell")
    for row in rows:
        table.add_row(*row)
    return table


@dataclass(frozen=True)
class Column:
    title: str
    of: Callable[[CellStatus], str | Text | None]
    narrow: bool = True
    """Whether 80 columns have room for it."""
    justify: Literal["left", "right"] = "right"

    def text(self, cell: CellStatus) -> str | Text:
        """What it says of a cell."""
        return self.of(cell) or ""


def _state(cell: CellStatus) -> Text:
    return Text("stuck", style="bold red") if cell.stuck else Text(cell.state, style=STYLES.get(cell.state, ""))


def _of(part: float | None, whole: int | None, form: str) -> str:
    if part is None:
        return ""
    return f"{part:{form}}" + (f"/{whole}" if whole is not None else "")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _age(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


COLUMNS = (
    Column("cell", lambda cell: cell.name, justify="left"),
    Column("state", _state, justify="left"),
    Column("attempt", lambda cell: _number(cell.attempt, "d"), narrow=False),
    Column("job", lambda cell: cell.job, narrow=False),
    Column("node", lambda cell: cell.node, narrow=False, justify="left"),
    Column("epoch", lambda cell: _of(cell.epoch, cell.epochs, ".1f")),
    Column("step", lambda cell: _of(cell.step, cell.steps, "d"), narrow=False),
    Column("best val", lambda cell: _number(cell.metric, ".2f")),
    Column("images/s", lambda cell: _number(cell.images_per_s, ",.0f"), narrow=False),
    Column("left", lambda cell: _age(cell.left_s)),
    Column("last word", lambda cell: _age(cell.quiet_s)),
)


def _reasons(cells: Sequence[CellStatus]) -> list[Text]:
    """Why cells don't run, the same reason of several once."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        if cell.error:
            found.setdefault((cell.state, cell.error), []).append(cell.name)
    return [_reason(state, reason, names) for (state, reason), names in found.items()]


def _reason(state: str, reason: str, names: list[str]) -> Text:
    who = names[0] if len(names) == 1 else f"{len(names)} cells ({names[0]}, ...)"
    text = Text(f"- {who}: ")
    if not reason.startswith(state):
        text.append(f"{state}: ", style=STYLES.get(state, ""))
    return text.append(reason if len(reason) <= LONGEST else f"{reason[:LONGEST]} ...")


def detailed(overview: Overview, cells: Iterable[CellStatus], stuck: float = STUCK) -> list[CellStatus]:
    """These cells with all that their folders say. `stuck`: minutes without a word."""
    now = time.time()
    return [_detailed(overview, cell, stuck, now) for cell in cells]


def _detailed(overview: Overview, cell: CellStatus, stuck: float, now: float) -> CellStatus:
    if cell.folder is None or cell.state == "new":
        return cell
    folder, job = overview.path / cell.folder, overview.jobs.get(cell.folder)
    told = records.said(folder)
    facts: dict[str, Any] = {
        key: getattr(told, key) for key in ("epoch", "epochs", "step", "steps", "metric", "images_per_s")
    }
    cell = replace(
        cell, attempt=len(attempts.read(folder)) or None, node=(job.node if job else None) or told.host, **facts
    )
    if cell.state not in ("running", "starting"):
        return replace(cell, images_per_s=None, error=_error(overview, cell, told.reason, job))
    quiet = _quiet(folder, job, now, overview.known.answered)
    return replace(
        cell,
        quiet_s=quiet,
        stuck=quiet is not None and quiet > 60 * stuck,
        left_s=None if told.left_s is None else max(0.0, told.left_s - (now - told.updated)),
    )


def _quiet(folder: Path, job: Job | None, now: float, answered: float) -> float | None:
    """Seconds since the cell's last word, or since its job began, if that was later."""
    ages = [now - path.stat().st_mtime for name in (records.LOG, records.STATE) if (path := folder / name).exists()]
    if job and job.running:
        ages.append(job.seconds + now - answered)
    return max(0.0, min(ages)) if ages else None


def _error(overview: Overview, cell: CellStatus, reason: str | None, job: Job | None) -> str | None:
    if cell.state in ("done", "queued", "stopped"):
        return None
    if cell.state == "cancelled" and (by := records.read_json(overview.path / str(cell.folder) / records.CANCELLED)):
        return f"by {by.get('by')}"
    if reason and cell.state in ("failed", "preempted", "died", "cancelled"):
        return reason
    words = [] if job is None or job.active else [ending(job)]
    if cell.state == "died" and (said := last_line(outputs(overview.path, str(cell.folder), cell.job))):
        words.append(said)
    return "; ".join(words) or None


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
