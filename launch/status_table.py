"""The state of a grid as text: counts, a row a cell, and why cells don't run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clef import console
from clef.console import duration
from launch.sharding import ShardingJob
from launch.show import STYLES
from launch.status import CellStatus, Overview

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
