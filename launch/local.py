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
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType

import psutil
import submitit

from clef import console, io, signals
from clef.cells import records
from clef.cells.plan_file import write_plan
from clef.console import err, out
from clef.engine import variables
from clef.engine.slurm_task import TrainCells
from clef.errors import CellError, ClefError, ConfigError, Preempted
from clef.process import cores, running_seconds
from launch import code_snapshot, ledger, plan_table
from launch.local_progress import LocalProgress
from launch.plan import Plan, PlannedCell, cell_folder, prepare_cell

STOP_TIMEOUT_S = 120
"""How long cells that were asked to stop may take, besides their runtime.grace: they may still be importing torch."""
POLL_INTERVAL_S = 0.5
FRUITLESS = 2
"""So many processes in a row may end before they have begun a cell; then the cells that they were for have died."""
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
    shared = min(cell.config.resources.cells_per_gpu for cell in cells)
    limited = _gpus_left_visible()
    if most and limited:
        return max(1, len(limited) // most) * shared
    if most and limited is None and shutil.which("nvidia-smi"):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace").stdout
        gpus = sum(line.startswith("GPU ") for line in listed.splitlines())  # what else it says is no GPU
        return max(1, gpus // most) * shared
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
class _Pack:
    """Cells that workers share: one cell with all its ranks, or several of the same resources."""

    cells: list[PlannedCell]
    unsettled: dict[Path, PlannedCell]
    """Those that have not ended yet, by folder."""
    workers: int = 0
    """How many work on it now."""
    is_prepared: bool = False
    fruitless: int = 0
    """How many workers in a row ended and had not begun any cell."""

    @property
    def wants_worker(self) -> bool:
        """Return whether there is work for one more."""
        return len(self.unsettled) > self.workers


@dataclass
class _Worker:
    """A process that trains the cells of a pack, or the processes of all ranks of its only cell."""

    pack: _Pack
    job: submitit.Job[list[str]]
    slot: int
    """Which of the machine's slots, and so which GPUs, it has."""
    unsettled_before: int
    """How many cells of its pack had not ended when it started."""
    asked: set[int] = field(default_factory=set)
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
    waiting, packs, workers = list(cells), list[_Pack](), list[_Worker]()
    states = {cell_folder(cell): "waiting" for cell in cells}
    free_slots, threads, began = set(range(slots)), max(1, cores() // slots), time.time()
    python = code_snapshot.python_command(code_snapshot.take_snapshot(grid, [cell.config for cell in cells]))

    def settle(cell: PlannedCell, state: str) -> None:
        states[cell_folder(cell)] = state
        ended(cell_folder(cell).name)

    try:
        while waiting or workers:
            while free_slots and (pack := _next_pack(waiting, packs, slots, settle)):
                slot = free_slots.pop()
                workers.append(_start_worker(pack, grid / LOG_FOLDER, slot, threads, python))
            for worker in [worker for worker in workers if worker.job.done()]:
                workers.remove(worker)
                free_slots.add(worker.slot)
                _settle_pack(worker, settle, began)
            for pack in packs:
                _note_states(pack, states, settle, began)
            packs = [pack for pack in packs if pack.unsettled]
            _ask_to_stop([worker for worker in workers if _trains_cancelled(worker)])
            show(states)
            time.sleep(POLL_INTERVAL_S)
    except KeyboardInterrupt:
        with _kill_on_exit(workers):
            _stop_and_wait(workers)
        raise
    return states


def _next_pack(
    waiting: list[PlannedCell], packs: list[_Pack], slots: int, settle: Callable[[PlannedCell, str], None]
) -> _Pack | None:
    """Return the pack that the next worker is for: one in progress that has work left, or a new one of cells that wait.

    Cells that can't be trained are settled.
    """
    if pack := next((pack for pack in packs if pack.wants_worker), None):
        return pack
    busy = {cell_folder(cell) for cell in waiting} | {folder for pack in packs for folder in pack.unsettled}
    chosen: list[PlannedCell] = []
    for cell in list(waiting):
        if cell.parent in busy:
            continue
        if _is_given_up(cell):
            waiting.remove(cell)
            settle(cell, records.state_of(cell_folder(cell)))
        elif not chosen or cell.config.resources == chosen[0].config.resources:
            waiting.remove(cell)
            chosen.append(cell)
            per_task = cell.config.resources.cells_per_task
            if len(chosen) == (1 if per_task == 1 else per_task * slots):
                break
    if not chosen:
        return None
    packs.append(_Pack(chosen, {cell_folder(cell): cell for cell in chosen}))
    return packs[-1]


def _settle_pack(worker: _Worker, settle: Callable[[PlannedCell, str], None], began: float) -> None:
    """Settle what a worker that has ended leaves. Cells that it has not begun are left to another worker."""
    pack = worker.pack
    pack.workers -= 1
    _note_states(pack, {}, settle, began)
    found = {
        folder: records.state_of(folder) for folder in pack.unsettled if not io.is_locked(folder / records.LOCK)
    }  # what is locked, another worker trains
    untouched = {folder for folder, state in found.items() if state == "new" and len(pack.cells) > 1}
    has_progressed = len(pack.unsettled) < worker.unsettled_before or len(untouched) < len(found)
    pack.fruitless = 0 if has_progressed else pack.fruitless + 1
    for folder in found:
        if folder not in untouched or (pack.fruitless > FRUITLESS and not pack.workers):
            settle(pack.unsettled.pop(folder), final_state(worker.job, folder))


def _note_states(
    pack: _Pack, states: dict[Path, str], settle: Callable[[PlannedCell, str], None], began: float
) -> None:
    """Settle the cells of a shared pack that have ended, and note which of the others run."""
    if len(pack.cells) == 1:
        states.update(dict.fromkeys(pack.unsettled, "running"))
        return
    for folder, cell in list(pack.unsettled.items()):
        state = records.state_of(folder)
        if state in ("done", "cancelled") or (state == "failed" and records.read_state(folder).updated >= began):
            del pack.unsettled[folder]
            settle(cell, state)
        elif state == "running":
            states[folder] = "running"


def _is_given_up(cell: PlannedCell) -> bool:
    """Return whether a cell will not be trained: it was cancelled, or its parent has no result."""
    return _is_cancelled(cell) or (cell.parent is not None and not (cell.parent / records.RESULT).exists())


def _is_cancelled(cell: PlannedCell) -> bool:
    return (cell_folder(cell) / records.CANCELLED).exists()


def _trains_cancelled(worker: _Worker) -> bool:
    """Return whether a worker trains a cell that was cancelled."""
    cancelled = [folder for folder, cell in worker.pack.unsettled.items() if _is_cancelled(cell)]
    if len(worker.pack.cells) == 1 or not cancelled:
        return bool(cancelled)
    processes = {process.pid for process in _rank_processes(worker.job)}
    running = [folder for folder in cancelled if io.is_locked(folder / records.LOCK)]
    return any(records.read_json(folder / records.STATE).get("pid") in processes for folder in running)


def _start_worker(pack: _Pack, logs: Path, slot: int, threads: int, python: str) -> _Worker:
    cell = pack.cells[0]
    executor = submitit.LocalExecutor(folder=logs / cell_folder(cell).name, python=python)
    resources, limited = cell.config.resources, _gpus_left_visible()
    gpus = resources.gpus
    first = slot // resources.cells_per_gpu * gpus
    executor.update_parameters(
        timeout_min=math.ceil(resources.hours * 60),
        tasks_per_node=max(1, gpus),
        gpus_per_node=gpus,
        visible_gpus=tuple(range(first, first + gpus)),
    )
    if limited is not None:  # names, which submitit doesn't take as an argument
        executor.parameters["visible_gpus"] = limited[first : first + gpus]
    if not pack.is_prepared:
        pack.is_prepared = True
        for unsettled in pack.cells:
            prepare_cell(unsettled, threads)
    folders = [str(folder.resolve()) for folder in pack.unsettled]
    begin_at = len(folders) * pack.workers // (pack.workers + 1)  # not all with the same one
    pack.workers += 1
    with _signals_blocked_in_children():
        job = executor.submit(TrainCells(begin_at), *folders)
    return _Worker(pack, job, slot, len(pack.unsettled))


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


def final_state(job: submitit.Job[list[str]], folder: Path) -> str:
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


def _ask_to_stop(running: list[_Worker]) -> None:
    """Ask the processes of these cells to save themselves and end, each only once, or it would not save."""
    for each in running:
        for process in _rank_processes(each.job):
            if process.pid not in each.asked:
                each.asked.add(process.pid)
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGTERM)


def _stop_and_wait(running: list[_Worker]) -> None:
    """Ask all cells to stop, and wait until they have or their time is over."""
    if running:
        console.err.print(
            f"stopping {console.format_cells(len(running))}, which save themselves first; Ctrl-C again kills them"
        )
    grace = max((each.pack.cells[0].config.runtime.grace for each in running), default=0)
    end = running_seconds() + STOP_TIMEOUT_S + grace
    while running_seconds() < end and (active := [each for each in running if not each.job.done()]):
        _ask_to_stop(active)  # again: the ranks of a cell that is just starting appear later
        time.sleep(0.2)


@contextmanager
def _kill_on_exit(running: list[_Worker]) -> Iterator[None]:
    """Kill every process of these cells when the block ends, however it ends."""
    try:
        yield
    finally:
        for each in running:
            ranks = _rank_processes(each.job)  # before their parent dies, by which they are found
            for process in [*_controller_process(each.job), *ranks]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def _controller_process(job: submitit.Job[list[str]]) -> list[psutil.Process]:
    """Return submitit's process, which looks after those of the ranks; an empty list when it has ended."""
    if job.done():
        return []
    try:
        return [psutil.Process(int(job.job_id))]
    except psutil.NoSuchProcess:
        return []


def _rank_processes(job: submitit.Job[list[str]]) -> list[psutil.Process]:
    try:
        return [child for controller in _controller_process(job) for child in controller.children()]
    except psutil.NoSuchProcess:
        return []
