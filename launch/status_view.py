"""Shows the status of a grid (`--status`, `--watch`): counts, a row for each cell, and why cells don't run.

`make_listing` decides which cells are listed and adds the details that their folders hold (`add_details`); `render`
makes text of that. `print_status` and `print_json` show it once, `watch_status` until nothing waits or runs any more.
"""

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

from clef import console, io
from clef.cells import attempts, records
from clef.console import format_duration, out
from clef.errors import ConfigError
from launch.job_output import last_error, output_files
from launch.options import STUCK_MINUTES
from launch.plan_table import STATE_STYLES
from launch.slurm_answer import describe_ending
from launch.slurm_commands import Job
from launch.status import ACTIVE_STATES, CellStatus, GridStatus, ShardingJob, no_such_cell, read_status

LISTED_STATES = ("running", "starting", "died", "failed")
"""States of cells that are listed where there are too many cells to list all."""
ALWAYS_LISTED = 30
"""A grid of so many cells is listed whole, whatever their states."""
MAX_LISTED = 200
"""Cells that are listed of a larger grid, unless all are asked for."""
LOOK_INTERVAL_S = 2.0
"""Seconds between two looks at the disk."""
COUNTS_INTERVAL_S = 60.0
"""Seconds between two lines of counts where there is no terminal."""
WIDE_COLUMNS = 120
"""Width from which on a table has every column."""
MAX_REASON_LENGTH = 240
"""Characters of a reason that are shown; all of it is in the cell's state.json."""


@dataclass(frozen=True)
class ViewOptions:
    """What the command line asks to see."""

    pattern: str | None
    """Only cells whose names match."""
    list_all: bool
    stuck_minutes: float
    """Minutes without a log line or a change of state after which a running cell is called stuck."""


@dataclass(frozen=True)
class Listing:
    """The status of a grid, and the cells to be listed, with details."""

    status: GridStatus
    cells: list[CellStatus]
    stuck_minutes: float
    unlisted: int = 0
    """Cells that are counted and not listed."""


def print_status(plan: Path, view: ViewOptions) -> int:
    """Print the status once. Returns the exit code."""
    out.print(render(make_listing(plan, view), out.width))
    return 0


def print_json(plan: Path, view: ViewOptions) -> int:
    """Print the status as JSON: counts, when Slurm answered, the jobs that make shards, and all cells."""
    listing = make_listing(plan, replace(view, list_all=True))
    status = listing.status
    content = {
        "grid": status.grid,
        "counts": status.counts,
        "slurm": {"answered": status.slurm.answered or None, "problem": status.slurm.problem},
        "sharding": [asdict(job) for job in status.sharding],
        "cells": [asdict(cell) for cell in listing.cells],
    }
    print(io.to_json(content))
    return 0


def watch_status(plan: Path, view: ViewOptions) -> int:
    """Show the status until no cell waits or runs any more, or until Ctrl-C, which does nothing to the cells."""
    try:
        _watch_live(plan, view) if out.is_terminal else _watch_lines(plan, view)
    except KeyboardInterrupt:
        out.print("no longer watched; the cells keep running")
    return 0


def make_listing(plan: Path, view: ViewOptions) -> Listing:
    """Look at the grid now, and choose the cells to list. ConfigError when no cell's name fits the pattern."""
    status = read_status(plan)
    if view.pattern:
        matching = [cell for cell in status.cells if fnmatchcase(cell.name, view.pattern)]
        if not matching:
            raise ConfigError(f"--cells {view.pattern}: {no_such_cell(status)}")
        status = replace(status, cells=matching)
    list_all = view.list_all or len(status.cells) <= ALWAYS_LISTED
    chosen = [cell for cell in status.cells if list_all or cell.state in LISTED_STATES]
    listed = add_details(status, chosen, view.stuck_minutes)
    if not list_all:  # the most urgent first
        listed = sorted(listed, key=lambda cell: (not cell.stuck, LISTED_STATES.index(cell.state)))[:MAX_LISTED]
    return Listing(status, listed, view.stuck_minutes, len(status.cells) - len(listed))


# ---- details from the cells' folders ----


def add_details(
    status: GridStatus, cells: Iterable[CellStatus], stuck_minutes: float = STUCK_MINUTES
) -> list[CellStatus]:
    """Return these cells with their progress, their last sign of life, and why they don't run."""
    now = time.time()
    return [_add_details(status, cell, stuck_minutes, now) for cell in cells]


def _add_details(status: GridStatus, cell: CellStatus, stuck_minutes: float, now: float) -> CellStatus:
    if cell.folder is None or cell.state == "new":
        return cell
    folder, job = status.path / cell.folder, status.jobs.get(cell.folder)
    record = records.read_state(folder)
    progress: dict[str, Any] = {
        key: getattr(record, key) for key in ("epoch", "epochs", "step", "steps", "metric", "images_per_s")
    }
    node = (job.node if job else None) or record.host
    cell = replace(cell, attempt=len(attempts.read(folder)) or None, node=node, **progress)
    if cell.state not in ("running", "starting"):
        error = cell.error if cell.state in ACTIVE_STATES else _find_error(status, cell, record.reason, job)
        return replace(cell, images_per_s=None, error=error)
    quiet = _seconds_quiet(folder, job, now, status.slurm.answered)
    return replace(
        cell,
        quiet_s=quiet,
        stuck=quiet is not None and quiet > 60 * stuck_minutes and not (job and job.suspended),
        left_s=None if record.left_s is None else max(0.0, record.left_s - (now - record.updated)),
    )


def _seconds_quiet(folder: Path, job: Job | None, now: float, answered: float) -> float | None:
    """Return the seconds since the cell last wrote something, or since its job began, if that was later."""
    ages = [now - path.stat().st_mtime for name in (records.LOG, records.STATE) if (path := folder / name).exists()]
    if job and job.running:
        ages.append(job.seconds + now - answered)
    return max(0.0, min(ages)) if ages else None


def _find_error(status: GridStatus, cell: CellStatus, reason: str | None, job: Job | None) -> str | None:
    """Return why a cell doesn't run: who cancelled it, or its own `reason`, or how its job ended."""
    if cell.state in ("done", "stopped"):
        return None
    folder = status.path / str(cell.folder)
    if cell.state == "cancelled" and (note := records.read_json(folder / records.CANCELLED)):
        return f"by {note.get('by')}"
    if reason and cell.state in ("failed", "preempted", "died", "cancelled"):
        return reason
    words = [] if job is None or job.active else [describe_ending(job)]
    if cell.state == "died" and (error := last_error(output_files(status.path, str(cell.folder), cell.job))):
        words.append(error)
    return "; ".join(words) or None


# ---- as text ----


def render(listing: Listing, width: int, max_reasons: int | None = None) -> RenderableType:
    """Make text of a listing, for a terminal of so many columns.

    `max_reasons`: how many of the reasons why cells don't run are shown, each cut to one line; None: all, in full.
    """
    parts: list[RenderableType] = [render_summary(listing)]
    if listing.cells:
        parts.append(_table(listing.cells, width))
    if listing.unlisted:
        parts.append(Text(f"not listed: {console.format_cells(listing.unlisted)}; --all lists them", style="dim"))
    parts += [Text(f"- {describe_sharding_job(job)}") for job in listing.status.sharding]
    listed = {cell.name for cell in listing.cells}
    waiting = [cell for cell in listing.status.cells if cell.name not in listed and cell.state in ACTIVE_STATES]
    for reason in _reasons([*listing.cells, *waiting])[:max_reasons]:
        reason.no_wrap, reason.overflow = max_reasons is not None, "ellipsis" if max_reasons is not None else "fold"
        parts.append(reason)
    return Group(*parts)


def render_summary(listing: Listing) -> Text:
    """Return the grid, the number of its cells in each state, and how old Slurm's answer is where it is old."""
    status = listing.status
    text = Text(f"grid {status.grid}: {console.format_cells(len(status.cells))}: ")
    stuck = sum(cell.stuck for cell in listing.cells)
    for i, (state, count) in enumerate(status.counts.items()):
        text.append(", " if i else "")
        text.append(f"{count:,} {state}", style=STATE_STYLES.get(state, ""))
        if state == "running" and stuck:
            text.append(f" ({stuck:,} stuck: no log line for {listing.stuck_minutes:g} minutes)", style="bold red")
    slurm = status.slurm
    if slurm.problem:
        age = f"what it said {format_duration(slurm.tried - slurm.answered)} before" if slurm.answered else "disk alone"
        text.append(f"\nSlurm doesn't answer ({slurm.problem}); shown by {age}", style="yellow")
    return text


def describe_sharding_job(job: ShardingJob) -> str:
    """Return what a job does that blocked cells wait for, and how it goes."""
    if job.seconds is not None:
        how = f"runs on {job.node}, for {format_duration(job.seconds)} so far"
    elif job.active:
        how = f"waits ({job.reason})" if job.reason else "waits"
    else:
        how = f"has ended: {job.reason}"
    return f"job {job.job}, which {job.does}, {how}"


@dataclass(frozen=True)
class Column:
    """A column of the table of cells."""

    title: str
    text: Callable[[CellStatus], str | Text]
    in_narrow: bool = True
    """Whether a terminal of 80 columns has room for it."""
    justify: Literal["left", "right"] = "right"


def _state_text(cell: CellStatus) -> Text:
    return Text("stuck", style="bold red") if cell.stuck else Text(cell.state, style=STATE_STYLES.get(cell.state, ""))


def _fraction(part: float | None, whole: int | None, form: str) -> str:
    if part is None:
        return ""
    return f"{part:{form}}" + (f"/{whole}" if whole is not None else "")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(seconds)


COLUMNS = (
    Column("cell", lambda cell: cell.name, justify="left"),
    Column("state", _state_text, justify="left"),
    Column("attempt", lambda cell: _number(cell.attempt, "d"), in_narrow=False),
    Column("job", lambda cell: cell.job or "", in_narrow=False),
    Column("node", lambda cell: cell.node or "", in_narrow=False, justify="left"),
    Column("epoch", lambda cell: _fraction(cell.epoch, cell.epochs, ".1f")),
    Column("step", lambda cell: _fraction(cell.step, cell.steps, "d"), in_narrow=False),
    Column("best val", lambda cell: _number(cell.metric, ".2f")),
    Column("images/s", lambda cell: _number(cell.images_per_s, ",.0f"), in_narrow=False),
    Column("left", lambda cell: _duration(cell.left_s)),
    Column("last log", lambda cell: _duration(cell.quiet_s)),
)


def _table(cells: Sequence[CellStatus], width: int) -> Table:
    """Return the table of cells, without columns that are empty or don't fit."""
    fitting = [column for column in COLUMNS if width >= WIDE_COLUMNS or column.in_narrow]
    columns = [column for column in fitting if any(column.text(cell) for cell in cells)]
    rows = [[column.text(cell) for column in columns] for cell in cells]
    widths = [
        max(len(column.title), *map(len, texts)) for column, texts in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    gap = 2 if sum(widths) + 2 * len(columns) <= width else 1
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column.title, justify=column.justify, overflow="fold", no_wrap=column.title != "cell")
    for row in rows:
        table.add_row(*row)
    return table


def _reasons(cells: Sequence[CellStatus]) -> list[Text]:
    """Return why cells don't run; a reason that several cells have comes once."""
    names: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        if cell.error:
            names.setdefault((cell.state, cell.error), []).append(cell.name)
    return [_reason(state, reason, group) for (state, reason), group in names.items()]


def _reason(state: str, reason: str, names: list[str]) -> Text:
    who = names[0] if len(names) == 1 else f"{len(names)} cells ({names[0]}, ...)"
    text = Text(f"- {who}: ")
    if not reason.startswith(state):
        text.append(f"{state}: ", style=STATE_STYLES.get(state, ""))
    return text.append(reason if len(reason) <= MAX_REASON_LENGTH else f"{reason[:MAX_REASON_LENGTH]} ...")


# ---- watching ----


def _listings(plan: Path, view: ViewOptions) -> Iterator[Listing]:
    """Yield a listing every few seconds, the last one when nothing waits or runs any more."""
    while True:
        began = time.monotonic()
        listing = make_listing(plan, view)
        yield listing
        if listing.status.is_over:
            return
        time.sleep(max(LOOK_INTERVAL_S, 5 * (time.monotonic() - began)))  # a huge grid must not keep the disk busy


def _watch_live(plan: Path, view: ViewOptions) -> None:
    """Redraw the listing on a terminal."""
    with Live(console=out, auto_refresh=False) as live:
        for listing in _listings(plan, view):
            live.update(render(_fit_height(listing, out.height), out.width, max_reasons=3), refresh=True)


def _fit_height(listing: Listing, height: int) -> Listing:
    """Return as many of its cells as a terminal has room for, besides the counts and three reasons."""
    shown = listing.cells[: max(1, height - 8 - len(listing.status.sharding))]
    return replace(listing, cells=shown, unlisted=listing.unlisted + len(listing.cells) - len(shown))


def _watch_lines(plan: Path, view: ViewOptions) -> None:
    """Print a line for each change, and the counts now and then."""
    shown: dict[str, str] = {}  # the state last printed, by cell or sharding job
    counts_printed = float("-inf")
    for listing in _listings(plan, view):
        for cell, state in _changes(listing, shown):
            out.print(f"{_clock()} {cell.name}: {state}{_progress_text(cell)}", markup=False, soft_wrap=True)
        for job in listing.status.sharding:
            if shown.get(job.job) != job.state:
                out.print(f"{_clock()} {describe_sharding_job(job)}", markup=False, soft_wrap=True)
                shown[job.job] = job.state
        if listing.status.is_over or time.monotonic() > counts_printed + COUNTS_INTERVAL_S:
            counts_printed = time.monotonic()
            out.print(Text(f"{_clock()} ").append_text(render_summary(listing)), soft_wrap=True)


def _changes(listing: Listing, shown: dict[str, str]) -> list[tuple[CellStatus, str]]:
    """Return the cells whose state differs from the one `shown`, and update that.

    The first time, when nothing was shown, only the cells in states of interest are returned.
    """
    is_first = not shown
    detailed = {cell.name: cell for cell in listing.cells}
    changes = []
    for plain in listing.status.cells:
        cell = detailed.get(plain.name, plain)
        state = "stuck" if cell.stuck else cell.state
        if shown.get(cell.name) != state and (not is_first or state in ("stuck", *LISTED_STATES)):
            changes.append((cell, state))
        shown[cell.name] = state
    return changes


def _progress_text(cell: CellStatus) -> str:
    if cell.error:
        return f" ({cell.error})"
    if cell.state != "running" or cell.epoch is None:
        return ""
    left = f", {format_duration(cell.left_s)} left" if cell.left_s is not None else ""
    return f" on {cell.node}, epoch {cell.epoch:.1f}/{cell.epochs}{left}"


def _clock() -> str:
    return time.strftime("%H:%M:%S")
