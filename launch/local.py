"""Trains a grid on this machine: several cells at a time (`--local`), or one in this process (`--debug`).

`train_grid` claims cells in the ledger and gathers the tables; `train_cells` runs the processes. Ctrl-C, SIGTERM,
SIGHUP and `--cancel` ask cells to save themselves before they end.
"""

import argparse
import math
import os
import shutil
import signal
import subprocess
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
from clef.cells.plan_file import write_plan
from clef.console import err, out
from clef.engine import variables
from clef.engine.slurm_task import TrainCell
from clef.errors import CellError, ClefError, ConfigError, Preempted
from clef.process import cores, running_seconds
from launch import code_snapshot, ledger, plan_table
from launch.local_progress import LocalProgress
from launch.plan import Plan, PlannedCell, cell_folder, prepare_cell

STOP_TIMEOUT_S = 120
"""How long cells that were asked to stop may take, besides their runtime.grace: they may still be importing torch."""
POLL_INTERVAL_S = 0.5
LOG_FOLDER = "local"
"""Below the grid's folder, what the processes write: `local/<cell>/<process>_<rank>_log.out` and `.err`."""


# ---- a grid ----


def train_grid(make_plan: Callable[[], Plan], args: argparse.Namespace) -> int:
    """Train what the plan has to do, and write the tables. Returns the exit code.

    CellError when cells failed; Preempted when some were stopped from outside and nothing worse happened.
    """
    grid = Path(args.out) / args.grid.stem
    with ExitStack() as stack:
        with ledger.lock(grid, lambda: err.print("another launcher is working on this grid; waiting for it")):
            plan = make_plan()
            plan_table.print_plan(plan, is_local=True)
            path = write_plan(Path(args.out), plan.name, [cell.as_run() for cell in plan.cells], args.grid)
            if not any(cell.state == "done" for cell in plan.cells) and not plan.todo:
                plan.raise_if_untrainable()  # there is nothing to train, and nothing to show
            trainable = plan.startable(plan.todo)
            for cell in trainable:  # with --retry-failed, what was cancelled before doesn't count any more
                (cell_folder(cell) / records.CANCELLED).unlink(missing_ok=True)
            ended = stack.enter_context(ledger.claim_cells(grid, [cell_folder(cell).name for cell in trainable]))
        states = _train_with_display(trainable, grid, args.local, ended) if trainable else {}
    if not trainable:
        plan_table.print_nothing_to_train(plan)
    from clef.results.gather import gather_grid  # only now: planning and status don't wait for what it imports

    gather_grid(path, args.results)
    if later := len(plan.todo) - len(trainable):
        out.print(f"not begun: {plan_table.waiting_text(later)}", soft_wrap=True)
    _raise_failures(states, plan)
    plan.raise_if_untrainable()
    return 0


def debug_cell(plan: Plan, args: argparse.Namespace) -> int:
    """Train one cell in this process: the first one to do, or the first whose name matches `--cells`."""
    cells = [cell for cell in plan.todo if fnmatchcase(cell.config.name, args.cells or "*")]
    if not cells:
        plan.raise_if_untrainable()
        raise ConfigError(f"--debug: nothing to train{f' that matches {args.cells}' if args.cells else ''}")
    alone = [cell for cell in cells if plan.startable([cell])]
    if not alone:
        raise ConfigError(f"--debug: {cells[0].config.name}: it starts from {_parent_name(cells[0])}; train that first")
    write_plan(Path(args.out), plan.name, [cell.as_run() for cell in plan.cells], args.grid)
    cell = alone[0]
    out.print(f"in this process: {cell.config.name} ({cell.folder})", markup=False, soft_wrap=True)
    folder = Path(prepare_cell(cell, 0))
    from clef.engine.run import run_cell  # torch

    variables.forget_ranks()
    try:
        run_cell(folder)
    except Preempted:
        raise
    except ClefError:
        traceback.print_exc(file=sys.stderr)
        raise
    return 0


def _parent_name(cell: PlannedCell) -> str:
    assert cell.parent is not None
    return cell.parent.name


def machine_slots(cells: list[PlannedCell]) -> int:
    """Return how many cells this machine trains at once: by its GPUs if they ask for GPUs, else one for each core."""
    most = max(cell.config.resources.gpus for cell in cells)
    limited = _gpus_left_visible()
    if most and limited:
        return max(1, len(limited) // most)
    if most and limited is None and shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace").stdout
        gpus = sum(line.startswith("GPU ") for line in listed.splitlines())  # what else it says is no GPU
        return max(1, gpus // most)
    return cores()


def _gpus_left_visible() -> list[str] | None:
    """Return the GPUs to which the user limits this launcher, by CUDA's names; None where it may use all."""
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if stated is None else [name.strip() for name in stated.split(",") if name.strip()]


def count_states(states: Mapping[Path, str], *which: str) -> int:
    """Return how many cells ended in one of these states."""
    return sum(state in which for state in states.values())


def _train_with_display(
    cells: list[PlannedCell], grid: Path, slots: int | None, ended: Callable[[str], None]
) -> dict[Path, str]:
    with LocalProgress(cells) as display, _stop_as_interrupt():
        return train_cells(cells, grid, slots or machine_slots(cells), display.update, ended)


@contextmanager
def _stop_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, and a terminal that closes (SIGHUP), stop the cells as Ctrl-C does; nohup keeps SIGHUP ignored."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if signal.SIGHUP in before:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it may come again, which must not kill the cells
        signals.leave_closed_terminal()
        raise KeyboardInterrupt

    stops = [number for number in signals.handled() if number in (signal.SIGTERM, signal.SIGHUP)]
    before = {number: signal.signal(number, interrupt) for number in stops}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_failures(states: Mapping[Path, str], plan: Plan) -> None:
    total = len(plan.cells)
    if failed := count_states(states, "failed"):
        raise CellError(f"{failed} of {total} cells failed; see the tables for why. --retry-failed tries them again")
    if died := count_states(states, "died"):
        raise CellError(f"{died} of {total} cells died; see the tables for why. Run it again to continue them")
    if stopped := count_states(states, "preempted", "stopped", "cancelled"):
        raise Preempted(f"{stopped} of {total} cells were stopped before they were done")


# ---- the cells' processes ----


@dataclass
class _RunningCell:
    """A cell in training."""

    cell: PlannedCell
    job: submitit.Job[str]
    slot: int
    """Which of the machine's slots, and so which GPUs, it has."""
    asked: set[int]
    """The ids of processes that have been asked to stop."""


def train_cells(
    cells: list[PlannedCell],
    grid: Path,
    slots: int,
    show: Callable[[dict[Path, str]], None],
    ended: Callable[[str], None] = lambda cell: None,
) -> dict[Path, str]:
    """Train the cells in processes of this machine, at most `slots` at a time. Returns how each ended, by its folder.

    A cell that fails doesn't stop the others; one that starts from it is not begun. `show` is called twice a second
    with the state of every cell, `ended` with the name of each folder once that is settled. Ctrl-C asks the cells to
    save themselves and waits for that; then KeyboardInterrupt is raised again.
    """
    waiting, running = list(cells), list[_RunningCell]()
    states = {cell_folder(cell): "waiting" for cell in cells}
    free_slots, threads = set(range(slots)), max(1, cores() // slots)
    python = code_snapshot.python_command(code_snapshot.take_snapshot(grid, [cell.config for cell in cells]))

    def settle(cell: PlannedCell, state: str) -> None:
        states[cell_folder(cell)] = state
        ended(cell_folder(cell).name)

    try:
        while waiting or running:
            while free_slots and (cell := _next_cell(waiting, [each.cell for each in running])):
                waiting.remove(cell)
                if _is_given_up(cell):
                    settle(cell, records.state_of(cell_folder(cell)))
                    continue
                slot = free_slots.pop()
                running.append(
                    _RunningCell(cell, _start_cell(cell, grid / LOG_FOLDER, slot, threads, python), slot, set())
                )
                states[cell_folder(cell)] = "running"
            for each in [each for each in running if each.job.done()]:
                running.remove(each)
                free_slots.add(each.slot)
                settle(each.cell, final_state(each.job, cell_folder(each.cell)))
            _ask_to_stop([each for each in running if _is_cancelled(each.cell)])
            show(states)
            time.sleep(POLL_INTERVAL_S)
    except KeyboardInterrupt:
        with _kill_on_exit(running):
            _stop_and_wait(running)
        raise
    return states


def _next_cell(waiting: list[PlannedCell], running: list[PlannedCell]) -> PlannedCell | None:
    """Return the first cell whose parent, if it has one, neither waits nor runs."""
    busy = {cell_folder(cell) for cell in waiting + running}
    return next((cell for cell in waiting if cell.parent not in busy), None)


def _is_given_up(cell: PlannedCell) -> bool:
    """Return whether a cell will not be trained: it was cancelled, or its parent has no result."""
    return _is_cancelled(cell) or (cell.parent is not None and not (cell.parent / records.RESULT).exists())


def _is_cancelled(cell: PlannedCell) -> bool:
    return (cell_folder(cell) / records.CANCELLED).exists()


def _start_cell(cell: PlannedCell, logs: Path, slot: int, threads: int, python: str) -> submitit.Job[str]:
    executor = submitit.LocalExecutor(folder=logs / cell_folder(cell).name, python=python)
    gpus, limited = cell.config.resources.gpus, _gpus_left_visible()
    first = slot * gpus
    executor.update_parameters(
        timeout_min=math.ceil(cell.config.resources.hours * 60),
        tasks_per_node=max(1, gpus),
        gpus_per_node=gpus,
        visible_gpus=tuple(range(first, first + gpus)),
    )
    if limited is not None:  # names, which submitit doesn't take as an argument
        executor.parameters["visible_gpus"] = limited[first : first + gpus]
    folder = prepare_cell(cell, threads)
    with _signals_blocked_in_children():
        return executor.submit(TrainCell(), folder)


@contextmanager
def _signals_blocked_in_children() -> Iterator[None]:
    """Let processes that start here receive signals only once they listen for them, also those sent before.

    Ctrl-C in a terminal goes to all processes: submitit's own would die of it with a traceback, and take the cells
    along before they have saved themselves.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.WATCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def final_state(job: submitit.Job[str], folder: Path) -> str:
    """Return the state in which a cell ended. One that was killed wrote none: its last line of stderr is noted."""
    state = records.state_of(folder)
    if state not in ("died", "new"):
        return state
    record = records.read_state(folder)
    lines = [line.strip() for line in (job.stderr() or "").splitlines() if line.strip()]
    reason = "its process ended without a result" + (f"; its last line: {lines[-1]}" if lines else "")
    records.write_state(folder, "died", reason=reason, step=record.step, steps=record.steps)
    return "died"


# ---- stopping them ----


def _ask_to_stop(running: list[_RunningCell]) -> None:
    """Ask the processes of these cells to save themselves and end, each only once, or it would not save."""
    for each in running:
        for process in _rank_processes(each.job):
            if process.pid not in each.asked:
                each.asked.add(process.pid)
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGTERM)


def _stop_and_wait(running: list[_RunningCell]) -> None:
    """Ask all cells to stop, and wait until they have or their time is over."""
    if running:
        console.err.print(
            f"stopping {console.format_cells(len(running))}, which save themselves first; Ctrl-C again kills them"
        )
    grace = max((each.cell.config.runtime.grace for each in running), default=0)
    end = running_seconds() + STOP_TIMEOUT_S + grace
    while running_seconds() < end and (active := [each for each in running if not each.job.done()]):
        _ask_to_stop(active)  # again: the ranks of a cell that is just starting appear later
        time.sleep(0.2)


@contextmanager
def _kill_on_exit(running: list[_RunningCell]) -> Iterator[None]:
    """Kill every process of these cells when the block ends, however it ends."""
    try:
        yield
    finally:
        for each in running:
            ranks = _rank_processes(each.job)  # before their parent dies, by which they are found
            for process in [*_controller_process(each.job), *ranks]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def _controller_process(job: submitit.Job[str]) -> list[psutil.Process]:
    """Return submitit's process, which looks after those of the ranks; an empty list when it has ended."""
    if job.done():
        return []
    try:
        return [psutil.Process(int(job.job_id))]
    except psutil.NoSuchProcess:
        return []


def _rank_processes(job: submitit.Job[str]) -> list[psutil.Process]:
    try:
        return [child for controller in _controller_process(job) for child in controller.children()]
    except psutil.NoSuchProcess:
        return []
