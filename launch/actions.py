"""What is done with a grid under way: look at it, read a cell's logs, cancel cells. Nothing here waits for cells."""

import argparse
import getpass
import socket
from collections import Counter
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path

from clef import console
from clef.cells import records
from clef.console import agreed, err, out
from clef.errors import INTERRUPTED, ConfigError, SetupError
from clef.results.rows import plan_path
from launch import ledger, logs, scheduler, watch
from launch.status import ALIVE, CellStatus, Overview, called_otherwise, look


def look_at(args: argparse.Namespace) -> int | None:
    """Do what the options say of a grid under way; None when they say nothing of that. Returns the exit code."""
    plan = plan_path(Path(args.out), args.grid.stem)
    view = watch.View(args.cells, args.all, args.stuck)
    if args.status:
        return watch.as_json(plan, view) if args.json else watch.once(plan, view)
    if args.watch:
        return watch.watch(plan, view)
    if args.logs:
        return logs.show(plan, args.logs, args.follow)
    if args.cancel:
        return cancel(plan, args.cancel, args.yes)
    return None


def cancel(plan: Path, pattern: str, sure: bool) -> int:
    """Cancel the cells of this name that wait or run. Final: only --retry-failed takes them up again.

    ConfigError when no such cell waits or runs, or nobody is there to be asked; SetupError when scancel fails, and
    then nothing is cancelled.
    """
    grid = plan.parent
    overview, cells = _alive(plan, pattern)
    if not cells:
        raise ConfigError(f"--cancel {pattern}: {_others(overview, pattern)}")
    if not sure and not agreed(_question(cells), "nothing cancelled"):
        return INTERRUPTED
    with ledger.held(grid, lambda: err.print("a launcher is submitting this grid; waiting for it")):
        asked = {cell.name for cell in cells}
        cells = [cell for cell in _alive(plan, pattern)[1] if cell.name in asked]
        _cancel(grid, cells)
    out.print(f"cancelled: {console.cells(len(cells))}; --retry-failed takes them up again")
    return 0


def _alive(plan: Path, pattern: str) -> tuple[Overview, list[CellStatus]]:
    overview = look(plan)
    named = [cell for cell in overview.cells if fnmatchcase(cell.name, pattern)]
    return overview, [cell for cell in named if cell.state in ALIVE and cell.folder]


def _others(overview: Overview, pattern: str) -> str:
    """What there is instead."""
    states = Counter(cell.state for cell in overview.cells if fnmatchcase(cell.name, pattern))
    if states:
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        return f"no cell of this name waits or runs; of this name there are: {counts}"
    return called_otherwise(overview)


def _question(cells: list[CellStatus]) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in Counter(cell.state for cell in cells).items())
    names = ", ".join(cell.name for cell in cells[:5]) + (", ..." if len(cells) > 5 else "")
    return f"Cancel {counts}: {names}?"


def _cancel(grid: Path, cells: list[CellStatus]) -> None:
    """Note it, which local launchers heed, then have Slurm end the jobs."""
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    notes = [grid / str(cell.folder) / records.CANCELLED for cell in cells]
    for note in notes:
        records.write_json(note, {"by": who, "at": at})
    try:
        scheduler.cancel({cell.job for cell in cells if cell.job})
    except SetupError as error:
        for note in notes:
            note.unlink(missing_ok=True)
        raise SetupError(f"{error}; nothing is noted as cancelled") from None
