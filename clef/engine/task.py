"""What a submitted job runs. Importing this file imports no torch: the launcher pickles these functions."""

import os
import sys
from pathlib import Path

import submitit
from submitit.helpers import DelayedSubmission

from clef import signals
from clef.cells import attempts, code_snapshot, records
from clef.cells.attempts import Attempt
from clef.config import RuntimeConfig, resolve
from clef.engine.requeue import Requeue
from clef.errors import CellError, Preempted, SetupError

SUBMISSIONS = "submissions"
"""Below a grid's folder: what the launcher notes of each submission, by the name of its jobs."""


class TrainCell:
    """Trains the cell in a folder: one call a task, a task a rank."""

    def __call__(self, folder: str) -> str:
        """Train it, and return where its result lies."""
        place, environment = Path(folder), submitit.JobEnvironment()
        _leave_if_dropped(place.parent)
        signals.heed()  # in place of submitit, which would leave unsaved, and count
        attempt = attempts.begin(place, environment.job_id) if environment.global_rank == 0 else None
        how = "failed"
        try:
            runtime = _made_ready(place, attempt)
            requeue = Requeue(place, attempt, runtime.requeue) if attempt else None
            how = _train(place, runtime, requeue)
        except Preempted as error:  # no failure, so there is no result to hand to submitit either
            print(error, file=sys.stderr, flush=True)
            how = ""  # said already
            sys.exit(requeue.exit_code if requeue else error.exit_code)
        finally:
            if attempt and how:
                attempts.end(place, attempt, how)
        return folder

    def checkpoint(self, folder: str) -> DelayedSubmission:
        """What submitit queues again at a signal that comes in the moment before `heed`: the same cell."""
        return DelayedSubmission(self, folder)


def gather(plan: str, results: str) -> None:
    """The job behind a grid: tables of what there is."""
    _leave_if_dropped(Path(plan).parent)
    code_snapshot.confirm()
    from clef.results.gather import gather_grid

    gather_grid(plan, results)


def _leave_if_dropped(grid: Path) -> None:
    """A launcher that came later took sbatch's silence for a refusal; others may have the cells by now."""
    name = os.environ.get("SLURM_JOB_NAME")
    if name and records.read_json(grid / SUBMISSIONS / f"{name}.json").get("dropped"):
        print(f"{name}: the launcher has given this submission up; nothing is done here", file=sys.stderr, flush=True)
        sys.exit(Preempted.exit_code)


def _made_ready(folder: Path, attempt: Attempt | None) -> RuntimeConfig:
    """All that comes before torch and the cell's lock. What goes wrong is in the cell's state file."""
    try:
        code_snapshot.confirm()
        runtime = resolve.from_yaml(folder / records.CONFIG).runtime
        if attempt and (over := attempts.beyond(attempts.broken_off(folder, attempt), runtime.requeue)):
            raise CellError(f"not started again: {over}")
        _join_ranks()
        import clef.engine.job  # noqa: F401 - what is missing is told here
    except Exception as error:
        records.write_state(folder, "failed", reason=str(error))
        raise
    return runtime


def _train(folder: Path, runtime: RuntimeConfig, requeue: Requeue | None) -> str:
    """Run the cell, and say how that ended. Raises Preempted once the job's return to the queue is settled."""
    from clef.engine.job import run_cell

    try:
        return "done" if run_cell(folder, leave=requeue, patience=60 * runtime.lock_minutes) else "stopped"
    except Preempted as error:
        if requeue:  # told to leave while it waited for the lock: the state file is another process's
            requeue(str(error), None)
        raise


def _join_ranks() -> None:
    """Tell torch who the other tasks are: submitit knows, and no second launcher is needed."""
    environment = submitit.JobEnvironment()
    _check_gpus()
    if environment.num_tasks > 1:
        from submitit.helpers import TorchDistributedEnvironment

        # Two jobs on one node must not meet at one port, nor at one that the kernel hands out (from 32768 on).
        os.environ["MASTER_PORT"] = str(20_000 + int(environment.raw_job_id) % 12_000)
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)


def _check_gpus() -> None:
    asked = os.environ.get("CLEF_GPUS_PER_NODE")
    if not asked:
        return
    import torch

    if torch.cuda.device_count() < int(asked):
        raise SetupError(f"GPUs asked for: {asked}; GPUs that torch sees on this node: {torch.cuda.device_count()}")
