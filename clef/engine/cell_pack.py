"""Many cells in one process, one after the other, each as if it were alone: `TrainCells` with more than one folder.

Several processes may share a list: each takes the next cell that nobody has. A cell's own files say all that they need
to know of each other: its result, its state, who cancelled it, its lock. So a process that is killed loses the cell
that it was training and nothing else, and a job that is queued again goes on with the first unfinished cell.
"""

import sys
import traceback
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path

import submitit

from clef import io, signals
from clef.cells import attempts, records
from clef.config import resolve
from clef.engine import slurm_task
from clef.errors import ClefError, Preempted, SetupError
from clef.process import running_seconds

MARGIN = 1.2
"""A cell is taken to need so many times what the longest one so far has."""


def train_pack(cells: list[Path], launched: float) -> None:
    """Train those of the cells that this process can. A cell that fails stops no other one; its state says why.

    `launched`: when the launcher made the task, in seconds since 1970: what has failed since is not tried again. Ends
    the process when it is asked to stop, or when its time is nearly over.
    """
    environment = submitit.JobEnvironment()
    is_local = environment.cluster == "local"
    pending, time_left = list(cells), _TimeLeft(environment)
    with signals.flag_kept():
        _train_in_turn(pending, launched, time_left, is_local)
        if not is_local and environment.num_tasks == 1:
            for cell in pending:  # those of a process that may have outlived its node's slurmd, as for a single cell
                _train(cell, launched, patience=None)


def _train_in_turn(pending: list[Path], launched: float, time_left: "_TimeLeft", is_local: bool) -> None:
    """Train what can be trained, and leave in `pending` what other processes have."""
    while pending and (cell := _next_cell(pending, launched)):
        _stop_if_asked(cell)
        if not time_left.suffices(cell):
            _end_in_time(cell, is_local)
            pending.clear()
            return
        began = running_seconds()
        if _train(cell, launched, patience=0.0):
            pending.remove(cell)
            time_left.count(running_seconds() - began)


def _next_cell(pending: list[Path], launched: float) -> Path | None:
    """Return the first cell that can be trained now; take out of `pending` those for which there is nothing to do."""
    for cell in list(pending):
        if _is_settled(cell, launched):
            pending.remove(cell)
            _tidy(cell)
        elif not any(io.is_locked(cell / name) for name in (records.CONFIG, records.LOCK)) and _parent_is_done(cell):
            return cell
    return None


def _is_settled(cell: Path, launched: float) -> bool:
    """Return whether a cell is done, cancelled, or has failed since the task was launched."""
    if (cell / records.RESULT).exists() or (cell / records.CANCELLED).exists():
        return True
    state = records.read_state(cell)
    has_died = state.state == "running" and not io.is_locked(cell / records.LOCK) and _is_local()
    return state.updated >= launched and (state.state == "failed" or has_died)


def _tidy(cell: Path) -> None:
    """Remove what is left of a small cell whose process was killed between its result and its last breath."""
    result, lock = cell / records.RESULT, cell / records.LOCK
    is_left = result.exists() and lock.exists() and not io.is_locked(lock)
    if is_left and not resolve.from_yaml(cell / records.CONFIG).runtime.checkpoints:
        records.remove_temporary(cell)


def _is_local() -> bool:
    return submitit.JobEnvironment().cluster == "local"


def _parent_is_done(cell: Path) -> bool:
    try:
        parent = resolve.from_yaml(cell / records.CONFIG).method.parent
    except ClefError:
        return True  # training it says what is wrong with its config
    return parent is None or (Path(parent) / records.RESULT).exists()


def _train(cell: Path, launched: float, patience: float | None) -> bool:
    """Train a cell, whatever comes of it; return False when another process has it."""
    from clef.engine.run import CellLocked  # torch

    # The config's file is the claim of a process that shares the list. The cell's own lock comes later: by then, one
    # that lost the race would have recorded an attempt.
    claim = io.lock(cell / records.CONFIG, busy=lambda: CellLocked(f"{cell.name}: claimed by another process"))
    try:
        with nullcontext() if patience is None else claim:
            if not _is_settled(cell, launched):  # by another process, since it was chosen
                slurm_task.train_cell(cell, is_rank=False, patience=patience)
    except CellLocked:
        return False
    except ClefError as error:
        print(f"{cell.name}: {error}", file=sys.stderr, flush=True)
    except Exception:
        print(f"{cell.name}: failed", file=sys.stderr)
        traceback.print_exc()
    return True


# ---- Ending before all cells are done ----


def _stop_if_asked(cell: Path) -> None:
    """End the process, if it was asked to between two cells; the job is queued again as from within one."""
    if not signals.stop_requested():
        return
    why = f"stopped by {', '.join(signals.stop_reasons())} before {cell.name} was begun"
    print(why, file=sys.stderr, flush=True)
    attempt = attempts.current(cell, submitit.JobEnvironment().job_id)
    requeue = slurm_task.Requeue(cell, attempt, resolve.from_yaml(cell / records.CONFIG).runtime.requeue)
    requeue(why, None)
    sys.exit(requeue.exit_code)


def _end_in_time(cell: Path, is_local: bool) -> None:
    """Queue the job again, as the time limit would cut the next cell off; a local launcher starts another process."""
    print(f"{cell.name} is not begun: too little is left of the job's time", file=sys.stderr, flush=True)
    if is_local:
        return
    with suppress(SetupError):  # then the job ends, and the next run of the launcher takes its cells up
        slurm_task.requeue_job(submitit.JobEnvironment().job_id)
        sys.exit(Preempted.exit_code)


class _TimeLeft:
    """Whether the job's time is enough for one more cell."""

    def __init__(self, environment: submitit.JobEnvironment) -> None:
        local = environment.cluster == "local"
        self.end = datetime.max if local else slurm_task.end_time(slurm_task.job_facts(environment.job_id))
        self.longest: float | None = None

    def count(self, seconds: float) -> None:
        """Count a cell that took so long."""
        self.longest = max(self.longest or 0.0, seconds)

    def suffices(self, cell: Path) -> bool:
        """Return whether the next cell would end before the job does. The first one is begun whatever the time is."""
        if self.longest is None or self.end == datetime.max:
            return True
        grace = resolve.from_yaml(cell / records.CONFIG).runtime.grace
        return datetime.now() + timedelta(seconds=MARGIN * self.longest + grace) < self.end
