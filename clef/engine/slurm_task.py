"""What a submitted job runs. Importing this file imports no torch: the launcher pickles these functions.

How a submitted job leaves that was asked to stop: it is queued again, or it says why not. Imports no torch.

What a job asks Slurm about itself, and that it be queued again. Imports no torch.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import submitit
from submitit.helpers import DelayedSubmission
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

from clef import signals
from clef.cells import attempts, code_snapshot, records
from clef.cells.attempts import Attempt
from clef.config import RequeueConfig, RuntimeConfig, resolve
from clef.errors import CellError, Preempted, SetupError

SECONDS = 20
"""How long Slurm's commands may take: the job was told to leave, and has `runtime.grace` for all of it."""
NEAR = timedelta(minutes=3)
"""A signal so short before the time limit announces that. submitit asks for it 90 s before; Slurm may be 60 s early."""


def facts(job: str) -> dict[str, str]:
    """What `scontrol show job` says of a job or array task; nothing where it doesn't answer."""
    try:
        shown = subprocess.run(
            ["scontrol", "show", "job", "--oneliner", job], capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(word.split("=", 1) for word in shown.stdout.split() if "=" in word)


def why(job: Mapping[str, str], restart: int, warned: bool, now: datetime) -> str:
    """Why a job was told to leave: preempted, timeout, cancelled, requeued (Slurm has done it) or signalled (by hand).

    `job`: what `facts` said. `restart`: how often it had been queued again when this attempt began. `warned`: it got
    the signal that the launcher asks Slurm for, which comes before a preemption and the time limit.
    """
    if not job:
        return "preempted" if warned else "signalled"
    if int(job.get("Restarts", restart)) > restart:
        return "requeued"
    if job.get("JobState") == "TIMEOUT" or job.get("Reason") == "TimeLimit":
        return "timeout"
    if job.get("JobState") != "RUNNING":  # COMPLETING: scancel's word for a job that is on its way out
        return "cancelled"
    if job.get("PreemptTime", "None") != "None":
        return "preempted"
    if _ends(job) - now < NEAR:
        return "timeout"
    return "preempted" if warned else "signalled"


def _ends(job: Mapping[str, str]) -> datetime:
    """When its time is over, by the clock of the cluster; for ever where it has no limit."""
    try:
        return datetime.fromisoformat(job["EndTime"])
    except (KeyError, ValueError):
        return datetime.max


def requeue(job: str) -> None:
    """Put a job back into the queue. Slurm ends its processes then. SetupError with Slurm's word when it won't."""
    try:
        subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(str(getattr(error, "stderr", None) or error).strip()) from None


Place = dict[str, Any] | None
"""`step` and `steps` of a run, for its state file; None where another process writes that."""


class Requeue:
    """Called once all ranks have saved, on the first one; also where the exit is forced. Only the first call counts.

    Slurm says why the job must leave: submitit would guess it by the clock, and take every job of ten minutes or less
    for one that ran out of time.
    """

    def __init__(self, folder: Path, attempt: Attempt, allowed: RequeueConfig) -> None:
        self.folder, self.attempt, self.allowed = folder, attempt, allowed
        self.exit_code = Preempted.exit_code
        self._begun = threading.Lock()

    def __call__(self, why: str, place: Place) -> None:
        """Write what becomes of the job, and have that done: `scontrol requeue` ends this process."""
        if not self._begun.acquire(blocking=False):
            return
        environment = submitit.JobEnvironment()
        kind = self._local() if environment.cluster == "local" else self._slurm()
        attempts.end(self.folder, self.attempt, "preempted" if kind == "requeued" else kind)
        if kind == "cancelled":
            self._say("cancelled", f"{why}; its job was cancelled", place)
        elif kind == "signalled":
            self._say("preempted", why, place)
        elif kind == "requeued":
            self._say("preempted", f"{why}; queued again by Slurm", place)
        else:
            self._again(environment, kind, why, place)

    def _local(self) -> str:
        warned = _warning() in signals.reasons() and "SIGTERM" not in signals.reasons()
        return "preempted" if warned else "signalled"

    def _slurm(self) -> str:
        warned = _warning() in signals.reasons()
        kind = why(facts(self.attempt.job), self.attempt.restart, warned, datetime.now())
        # A task whose slurmstepd was killed. Its srun would wait for ever, and its job seem to run.
        return "lost" if kind == "signalled" and signals.ORPHANED in signals.reasons() else kind

    def _again(self, environment: submitit.JobEnvironment, kind: str, why: str, place: Place) -> None:
        ends = attempts.broken_off(self.folder, self.attempt)
        ends[kind] += 1
        if over := attempts.beyond(ends, self.allowed):
            self._say("failed", f"{why}; not queued again: {over}", place)
            return
        self._say("preempted", f"{why}; queued again ({kind})", place)
        if environment.cluster == "local":  # its controller starts the tasks again when one leaves with this code
            self.exit_code = LOCAL_REQUEUE_RETURN_CODE
            return
        try:
            requeue(self.attempt.job)
        except SetupError as error:
            self._say("preempted", f"{why}; not queued again: {error}", place)

    def _say(self, state: str, reason: str, place: Place) -> None:
        if place is not None:
            records.write_state(self.folder, state, reason=reason, **place)


def _warning() -> str:
    """The signal that submitit has Slurm send, by name."""
    return f"SIG{submitit.JobEnvironment.USR_SIG}"


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
        import clef.engine.run  # noqa: F401 - what is missing is told here
    except Exception as error:
        records.write_state(folder, "failed", reason=str(error))
        raise
    return runtime


def _train(folder: Path, runtime: RuntimeConfig, requeue: Requeue | None) -> str:
    """Run the cell, and say how that ended. Raises Preempted once the job's return to the queue is settled."""
    from clef.engine.run import run_cell

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
