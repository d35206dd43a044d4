"""Trains a plan's cells in processes of this machine.

The launcher where it trains by itself: a plan's cells on this machine (`--local`), or one of them (`--debug`).
"""

import argparse
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType

import psutil
import submitit

from clef import console, signals
from clef.cells import records
from clef.console import err, out
from clef.engine.slurm_task import TrainCell
from clef.errors import CellError, ClefError, ConfigError, Preempted
from clef.results.frame import write_plan
from clef.results.gather import gather_grid
from launch import code_snapshot, ledger, plan_table
from launch.plan import Plan, PlannedCell, cell_folder, prepare_cell

SECONDS = 120
"""How long cells that were asked to stop may take: to import torch, to save, and their own runtime.grace."""
LOGS = "local"
"""What their processes say: `local/<cell>/<process>_<rank>_log.out` and `.err`."""


@dataclass
class _Running:
    """A cell in training: its job, and which of the machine's places (and so GPUs) it has."""

    cell: PlannedCell
    job: submitit.Job[str]
    slot: int
    asked: set[int]
    """The processes that have been asked to stop."""


def train(
    cells: list[PlannedCell],
    grid: Path,
    at_once: int,
    show: Callable[[dict[Path, str]], None],
    ended: Callable[[str], None] = lambda cell: None,
) -> dict[Path, str]:
    """Train the cells in processes of this machine, at most `at_once` at a time. Returns how each ended.

    A cell that fails doesn't stop the others; one that starts from it is not begun. `show` is called twice a second
    with the state of every cell, `ended` with the name of each folder once that is settled. Ctrl-C stops the cells,
    which save themselves, before it goes on its way.
    """
    waiting, running = list(cells), list[_Running]()
    states = {cell_folder(cell): "waiting" for cell in cells}
    slots, threads = set(range(at_once)), max(1, (os.cpu_count() or 1) // at_once)
    python = code_snapshot.python(code_snapshot.take(grid, [cell.config for cell in cells]))

    def settle(cell: PlannedCell, state: str) -> None:
        states[cell_folder(cell)] = state
        ended(cell_folder(cell).name)

    try:
        while waiting or running:
            while slots and (cell := _next(waiting, [each.cell for each in running])):
                waiting.remove(cell)
                if given_up(cell):
                    settle(cell, records.state_of(cell_folder(cell)))
                    continue
                slot = slots.pop()
                running.append(_Running(cell, _start(cell, grid / LOGS, slot, threads, python), slot, set()))
                states[cell_folder(cell)] = "running"
            for each in [each for each in running if each.job.done()]:
                running.remove(each)
                slots.add(each.slot)
                settle(each.cell, end(each.job, cell_folder(each.cell)))
            _stop([each for each in running if _cancelled(each.cell)])
            show(states)
            time.sleep(0.5)
    except KeyboardInterrupt:
        with _killed_at_last(running):
            _stop_all(running)
        raise
    return states


def given_up(cell: PlannedCell) -> bool:
    """Whether a cell whose turn it is will not be trained: it was cancelled, or its parent came to nothing."""
    return _cancelled(cell) or (cell.parent is not None and not (cell.parent / records.RESULT).exists())


def _cancelled(cell: PlannedCell) -> bool:
    return (cell_folder(cell) / records.CANCELLED).exists()


def _next(waiting: list[PlannedCell], running: list[PlannedCell]) -> PlannedCell | None:
    """The first cell whose parent, if it has one, is neither waiting nor running."""
    busy = {cell_folder(cell) for cell in waiting + running}
    return next((cell for cell in waiting if cell.parent not in busy), None)


def _start(cell: PlannedCell, logs: Path, slot: int, threads: int, python: str) -> submitit.Job[str]:
    executor = submitit.LocalExecutor(folder=logs / cell_folder(cell).name, python=python)
    gpus = cell.config.resources.gpus
    first = slot * gpus
    executor.update_parameters(
        timeout_min=math.ceil(cell.config.resources.hours * 60),
        tasks_per_node=max(1, gpus),
        gpus_per_node=gpus,
        visible_gpus=tuple(range(first, first + gpus)),
    )
    folder = prepare_cell(cell, threads)
    with _born_deaf():
        return executor.submit(TrainCell(), folder)


@contextmanager
def _born_deaf() -> Iterator[None]:
    """Processes that start here hear no signal until they listen for it, and then hear those that came before.

    Ctrl-C in a terminal goes to all processes: submitit's own would die of it with a traceback, and take the cells
    along before they have saved themselves.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.WATCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(job: submitit.Job[str], folder: Path) -> str:
    """The state in which a cell ended. One whose process was killed has no words of its own: its last ones are kept."""
    state = records.state_of(folder)
    if state not in ("died", "new"):
        return state
    told = records.said(folder)
    said = [line.strip() for line in (job.stderr() or "").splitlines() if line.strip()]
    reason = "its process ended without a result" + (f"; the last it said: {said[-1]}" if said else "")
    records.write_state(folder, "died", reason=reason, step=told.step, steps=told.steps)
    return "died"


def _stop(running: list[_Running]) -> None:
    """Ask the processes of these cells to save themselves and leave; each is asked once, or it would not save."""
    for each in running:
        for task in _tasks(each.job):
            if task.pid not in each.asked:
                each.asked.add(task.pid)
                with suppress(psutil.NoSuchProcess):
                    task.send_signal(signal.SIGTERM)


def _stop_all(running: list[_Running]) -> None:
    if running:
        console.err.print(
            f"stopping {console.cells(len(running))}, which save themselves first; Ctrl-C again kills them"
        )
    finish = time.monotonic() + SECONDS + max((each.cell.config.runtime.grace for each in running), default=0)
    while time.monotonic() < finish and (left := [each for each in running if not each.job.done()]):
        _stop(left)  # one that only starts has its tasks later
        time.sleep(0.2)


@contextmanager
def _killed_at_last(running: list[_Running]) -> Iterator[None]:
    """However the block ends, nothing of these cells runs any more."""
    try:
        yield
    finally:
        for each in running:
            tasks = _tasks(each.job)
            for process in [*_controller(each.job), *tasks]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def _controller(job: submitit.Job[str]) -> list[psutil.Process]:
    """submitit's process, which looks after those of the ranks, while there is one."""
    if job.done():
        return []
    try:
        return [psutil.Process(int(job.job_id))]
    except psutil.NoSuchProcess:
        return []


def _tasks(job: submitit.Job[str]) -> list[psutil.Process]:
    """The processes of the ranks."""
    try:
        return [child for controller in _controller(job) for child in controller.children()]
    except psutil.NoSuchProcess:
        return []


def counted(states: Mapping[Path, str], *which: str) -> int:
    """How many cells ended in one of these states."""
    return sum(state in which for state in states.values())


def run(look: Callable[[], Plan], args: argparse.Namespace) -> int:
    """Train what `look` finds to do, and write the tables.

    CellError when cells failed; Preempted when some were stopped from outside and nothing worse happened.
    """
    grid = Path(args.out) / args.grid.stem
    with ExitStack() as stack:
        with ledger.held(grid, lambda: err.print("another launcher is at work on this grid; waiting for it")):
            plan = look()
            plan_table.plan(plan, here=True)
            path = write_plan(Path(args.out), plan.name, [cell.as_run() for cell in plan.cells])
            if not any(cell.state == "done" for cell in plan.cells) and not plan.todo:
                plan.check()  # there is nothing to train, and nothing to show
            elsewhere = {cell.folder for cell in plan.cells if cell.state in ("queued", "running")}
            now = [cell for cell in plan.todo if cell.parent not in elsewhere]
            ended = stack.enter_context(ledger.claimed(grid, [cell_folder(cell).name for cell in now]))
        states = _train(now, path, args, ended) if now else {}
    if not now:
        plan_table.nothing(plan)
    gather_grid(path, args.results)
    if later := len(plan.todo) - len(now):
        out.print(f"not begun: {later}, which start from cells that are trained elsewhere; run it again after those")
    _complain(states, plan)
    plan.check()
    return 0


def _train(
    todo: list[PlannedCell], path: Path, args: argparse.Namespace, ended: Callable[[str], None]
) -> dict[Path, str]:
    at_once = args.local or plan_table.machine_slots(todo)
    with plan_table.Local(todo) as display, _terminated_like_interrupted():
        return train(todo, path.parent, at_once, display.update, ended)


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
    if failed := counted(states, "failed"):
        raise CellError(f"{failed} of {total} cells failed; the tables say why. --retry-failed tries them again")
    if died := counted(states, "died"):
        raise CellError(f"{died} of {total} cells died; the tables say how. Run it again to go on with them")
    if stopped := counted(states, "preempted", "stopped", "cancelled"):
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
    folder = Path(prepare_cell(cell, 0))
    from clef.engine.run import run_cell  # torch

    try:
        run_cell(folder)
    except Preempted:
        raise
    except ClefError:
        traceback.print_exc(file=sys.stderr)
        raise
    return 0
