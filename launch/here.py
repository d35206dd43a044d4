"""The launcher where it trains by itself: a plan's cells on this machine (`--local`), or one of them (`--debug`)."""

import argparse
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType

from clef.console import err, out
from clef.errors import CellError, ClefError, ConfigError, Preempted
from clef.results.gather import gather_grid
from clef.results.rows import write_plan
from launch import claims, ledger, local, show
from launch.plan import Plan, PlannedCell
from launch.prepare import folder_of, prepare


def run(look: Callable[[], Plan], args: argparse.Namespace) -> int:
    """Train what `look` finds to do, and write the tables.

    CellError when cells failed; Preempted when some were stopped from outside and nothing worse happened.
    """
    grid = Path(args.out) / args.grid.stem
    with ExitStack() as stack:
        with ledger.held(grid, lambda: err.print("another launcher is at work on this grid; waiting for it")):
            plan = look()
            show.plan(plan, here=True)
            path = write_plan(Path(args.out), plan.name, [cell.as_run() for cell in plan.cells])
            if not any(cell.state == "done" for cell in plan.cells) and not plan.todo:
                plan.check()  # there is nothing to train, and nothing to show
            elsewhere = {cell.folder for cell in plan.cells if cell.state in ("queued", "running")}
            now = [cell for cell in plan.todo if cell.parent not in elsewhere]
            ended = stack.enter_context(claims.claimed(grid, [folder_of(cell).name for cell in now]))
        states = _train(now, path, args, ended) if now else {}
    if not now:
        show.nothing(plan)
    gather_grid(path, args.results)
    if later := len(plan.todo) - len(now):
        out.print(f"not begun: {later}, which start from cells that are trained elsewhere; run it again after those")
    _complain(states, plan)
    plan.check()
    return 0


def _train(
    todo: list[PlannedCell], path: Path, args: argparse.Namespace, ended: Callable[[str], None]
) -> dict[Path, str]:
    at_once = args.local or show.machine_slots(todo)
    with show.Local(todo) as display, _terminated_like_interrupted():
        return local.train(todo, path.parent, at_once, display.update, ended)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM stops the cells as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _complain(states: dict[Path, str], plan: Plan) -> None:
    total = len(plan.cells)
    if failed := local.counted(states, "failed"):
        raise CellError(f"{failed} of {total} cells failed; the tables say why. --retry-failed tries them again")
    if died := local.counted(states, "died"):
        raise CellError(f"{died} of {total} cells died; the tables say how. Run it again to go on with them")
    if stopped := local.counted(states, "preempted", "stopped", "cancelled"):
        raise Preempted(f"{stopped} of {total} cells were stopped before they were done")


def debug(plan: Plan, args: argparse.Namespace) -> int:
    """Train one cell in this process: the first one to do, or the first whose name matches `--cells`."""
    fitting = [cell for cell in plan.todo if fnmatchcase(cell.config.name, args.cells or "*")]
    if not fitting:
        plan.check()
        raise ConfigError(f"--debug: nothing to train{f' that is called {args.cells}' if args.cells else ''}")
    write_plan(Path(args.out), plan.name, [cell.as_run() for cell in plan.cells])
    cell = fitting[0]
    out.print(f"in this process: {cell.config.name} ({cell.folder})", markup=False, soft_wrap=True)
    folder = Path(prepare(cell, 0))
    from clef.engine.job import run_cell  # torch

    try:
        run_cell(folder)
    except Preempted:
        raise
    except ClefError:
        traceback.print_exc(file=sys.stderr)
        raise
    return 0
