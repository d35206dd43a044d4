"""What a submitted job runs, and how it ends when it is asked to: it is queued again, or says why not.

Importing this file imports no torch: the launcher pickles `TrainCells`, which is what to read first.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import submitit
from submitit.helpers import DelayedSubmission
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

from clef import signals
from clef.cells import attempts, code_snapshot, records
from clef.cells.attempts import Attempt
from clef.cells.feature_tables import FeatureTable, needed_tables
from clef.config import RequeueConfig, RuntimeConfig, resolve
from clef.engine import variables
from clef.errors import CellError, Preempted, SetupError, prepare_streams

SUBMISSIONS_FOLDER = "submissions"
"""Below a grid's folder: what the launcher notes of each submission, by the name of its jobs."""

# ---- The jobs ----


class TrainCells:
    """Trains the cells in folders, one after the other in this process (`clef.engine.cell_pack`); or one cell.

    There is one call a task. A single cell may have several tasks, of which each is a rank.
    """

    def __init__(self, first: int = 0, is_shared: bool = False) -> None:
        """Note when this is launched, and with which cell to begin: workers that share a list begin at others.

        `is_shared`: tasks of one job share the list, though it may hold a single cell.
        """
        self.launched, self.first, self.is_shared = time.time(), first, is_shared

    def __call__(self, *folders: str) -> list[str]:
        """Train the cells; return their folders, where the results lie."""
        prepare_streams()
        cells = [Path(folder) for folder in folders]
        exit_if_dropped(cells[0].parent)
        signals.install_handlers()  # in place of submitit's, which would exit unsaved, and count
        if len(cells) == 1 and not self.is_shared:
            train_cell(cells[0])
        else:
            from clef.engine.cell_pack import train_pack

            train_pack([*cells[self.first :], *cells[: self.first]], self.launched)
        return list(folders)

    def checkpoint(self, *folders: str) -> DelayedSubmission:
        """Return what submitit queues again at a signal that comes before `install_handlers`: the same cells."""
        return DelayedSubmission(self, *folders)


def train_cell(cell: Path, is_rank: bool = True, patience: float | None = None) -> None:
    """Train one cell, and record the attempt. Ends the process when it was asked to stop: no result is handed on.

    `is_rank`: the job's tasks are the ranks of this cell, and not each a process with cells of its own. `patience`:
    seconds to wait for another process that trains it; None: as its config says.
    """
    environment = submitit.JobEnvironment()
    is_first = environment.global_rank == 0 or not is_rank
    attempt = attempts.begin(cell, environment.job_id) if is_first else None
    how = "failed"
    try:
        runtime = _prepare(cell, attempt, is_rank)
        requeue = Requeue(cell, attempt, runtime.requeue) if attempt else None
        how = _train(cell, runtime, requeue, 60 * runtime.lock_minutes if patience is None else patience)
    except Preempted as error:  # no failure, so there is no result to hand to submitit either
        print(error, file=sys.stderr, flush=True)
        how = ""  # recorded by `Requeue` already
        sys.exit(requeue.exit_code if requeue else error.exit_code)
    finally:
        if attempt and how:
            attempts.end(cell, attempt, how)


def compute_features(*folders: str) -> list[str]:
    """Compute the tables of features that the cells in these folders use and lack; return the tables' paths.

    What this job can't do, the cells do themselves: each table is computed by the first that needs it.
    """
    prepare_streams()
    exit_if_dropped(Path(folders[0]).parent)
    code_snapshot.confirm()
    configs = [resolve.from_yaml(Path(folder) / records.CONFIG) for folder in folders]
    missing = [(table, config) for table, config, _ in needed_tables(configs).values() if table.state != "here"]
    import torch

    from clef.engine.feature_cache import compute_tables

    def print_progress(table: FeatureTable) -> Callable[[int, int], None]:
        return lambda done, total: print(f"{table.path.name}: {done}/{total}", flush=True) if done == total else None

    variables.forget_ranks()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    compute_tables(missing, torch.device(device), print_progress)
    return [str(table.path) for table, _ in missing]


def exit_if_dropped(grid: Path) -> None:
    """End a job whose launcher has given its submission up.

    A launcher that came later took sbatch's silence for a refusal; others may have the cells by now.
    """
    name = os.environ.get("SLURM_JOB_NAME")
    if name and records.read_json(grid / SUBMISSIONS_FOLDER / f"{name}.json").get("dropped"):
        print(f"{name}: the launcher has given up this submission; this task does nothing", file=sys.stderr, flush=True)
        sys.exit(Preempted.exit_code)


def _prepare(cell: Path, attempt: Attempt | None, is_rank: bool) -> RuntimeConfig:
    """Do all that comes before torch and the cell's lock. What goes wrong is in the cell's state file."""
    try:
        code_snapshot.confirm()
        runtime = resolve.from_yaml(cell / records.CONFIG).runtime
        if attempt and (over := attempts.exceeded_limit(attempts.count_earlier_ends(cell, attempt), runtime.requeue)):
            raise CellError(f"not started again: {over}")
        _join_ranks(is_rank)
        import clef.engine.run  # noqa: F401 - a missing package is an error here, with its name
    except Exception as error:
        records.write_state(cell, "failed", reason=str(error))
        raise
    return runtime


def _join_ranks(is_rank: bool = True) -> None:
    """Tell torch who the other tasks are, if they are ranks: submitit knows, and no second launcher is needed."""
    variables.forget_ranks()
    environment = submitit.JobEnvironment()
    _check_gpus()
    if environment.num_tasks > 1 and is_rank:
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


def _train(cell: Path, runtime: RuntimeConfig, requeue: "Requeue | None", patience: float) -> str:
    """Run the cell; return how that ended. Raises Preempted once the job's return to the queue is settled."""
    from clef.engine.run import run_cell

    try:
        result = run_cell(cell, on_preempted=requeue, lock_patience=patience)
        return "done" if result else "stopped"
    except Preempted as error:
        if requeue:  # asked to stop while it waited for the lock: the state file is another process's
            requeue(str(error), None)
        raise


# ---- Ending before the training is complete ----

Position = dict[str, Any] | None
"""`step` and `steps` of a run, for its state file; None where another process writes that."""


class Requeue:
    """Decides whether a job that was asked to stop is queued again, and has Slurm do it.

    Called on the first rank once all ranks have saved, and where the exit is forced. Only the first call counts. Slurm
    says why the job must stop: submitit would guess it by the clock, and take every job of ten minutes or less for one
    that ran out of time.
    """

    def __init__(self, cell: Path, attempt: Attempt, allowed: RequeueConfig) -> None:
        self.cell, self.attempt, self.allowed = cell, attempt, allowed
        self.exit_code = Preempted.exit_code
        self._called = threading.Lock()

    def __call__(self, why: str, position: Position) -> None:
        """Write what becomes of the job, and have that done: `scontrol requeue` ends this process."""
        if not self._called.acquire(blocking=False):
            return
        environment = submitit.JobEnvironment()
        kind = self._kind_locally() if environment.cluster == "local" else self._kind_on_slurm()
        attempts.end(self.cell, self.attempt, "preempted" if kind == "requeued" else kind)
        if kind == "cancelled":
            self._write_state("cancelled", f"{why}; its job was cancelled", position)
        elif kind == "signalled":
            self._write_state("preempted", why, position)
        elif kind == "requeued":
            self._write_state("preempted", f"{why}; queued again by Slurm", position)
        else:
            self._queue_again(environment, kind, why, position)

    def _kind_locally(self) -> str:
        reasons = signals.stop_reasons()
        return "preempted" if _warning_signal() in reasons and "SIGTERM" not in reasons else "signalled"

    def _kind_on_slurm(self) -> str:
        reasons = signals.stop_reasons()
        job = job_facts(self.attempt.job)
        kind = classify_stop(job, self.attempt.restart, warned=_warning_signal() in reasons, now=datetime.now())
        # A task whose slurmstepd was killed. Its srun would wait forever, and its job seem to run.
        return "lost" if kind == "signalled" and signals.ORPHANED in reasons else kind

    def _queue_again(self, environment: submitit.JobEnvironment, kind: str, why: str, position: Position) -> None:
        ends = attempts.count_earlier_ends(self.cell, self.attempt)
        ends[kind] += 1
        if over := attempts.exceeded_limit(ends, self.allowed):
            self._write_state("failed", f"{why}; not queued again: {over}", position)
            return
        self._write_state("preempted", f"{why}; queued again ({kind})", position)
        if environment.cluster == "local":  # its controller starts the tasks again when one exits with this code
            self.exit_code = LOCAL_REQUEUE_RETURN_CODE
            return
        try:
            requeue_job(self.attempt.job)
        except SetupError as error:
            self._write_state("preempted", f"{why}; not queued again: {error}", position)

    def _write_state(self, state: str, reason: str, position: Position) -> None:
        if position is not None:
            records.write_state(self.cell, state, reason=reason, **position)


def _warning_signal() -> str:
    """Return the name of the signal that submitit has Slurm send before a preemption and the time limit."""
    return f"SIG{submitit.JobEnvironment.USR_SIG}"


# ---- What Slurm says ----

COMMAND_TIMEOUT = 20
"""Seconds that Slurm's commands may take: the job was asked to stop, and has `runtime.grace` for all of it."""
TIME_LIMIT_MARGIN = timedelta(minutes=3)
"""A signal so short before the time limit announces that. submitit asks for it 90 s before; Slurm may be 60 s early."""
OUTPUT_VARIABLES = {"SLURM_TIME_FORMAT": "standard", "SLURM_BITSTR_LEN": "0"}
"""How Slurm's commands print times, and that they print a list of tasks whole, however long it is."""
STATES_AFTER_SCANCEL = ("CANCELLED", "COMPLETING")
"""States of a cancelled job, which completes until its processes have ended."""


def run_slurm(command: list[str], seconds: float, environment: Mapping[str, str] | None = None) -> str:
    """Run a command of Slurm and return its stdout, in which a site may print lines of its own, in any encoding.

    The user's own formats are overruled. Raises OSError or subprocess.SubprocessError: it can't be run, fails, or takes
    more than `seconds`.
    """
    variables = {**(os.environ if environment is None else environment), **OUTPUT_VARIABLES}
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds, check=True, env=variables
    )
    return done.stdout


def job_facts(job: str) -> dict[str, str]:
    """Return what `scontrol show job` says of a job or array task; nothing where it doesn't answer."""
    try:
        shown = run_slurm(["scontrol", "show", "job", "--oneliner", job], COMMAND_TIMEOUT)
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = [line for line in shown.splitlines() if line.startswith("JobId=")]  # a site may print more
    return dict(word.split("=", 1) for word in " ".join(lines).split() if "=" in word)


def classify_stop(job: Mapping[str, str], restart: int, warned: bool, now: datetime) -> str:
    """Return why a job was asked to stop.

    One of preempted, timeout, lost, cancelled, requeued (Slurm has done it), signalled (by hand, or Slurm doesn't say
    why). `job`: what `job_facts` said. `restart`: how often it had been queued again when this attempt began. `warned`:
    it got the signal that the launcher asks Slurm for, which comes before a preemption and the time limit.
    """
    if not job:
        return "preempted" if warned else "signalled"
    if int(job.get("Restarts", restart)) > restart:
        return "requeued"
    state, reason = job.get("JobState"), job.get("Reason")
    if state == "TIMEOUT" or reason == "TimeLimit":
        return "timeout"
    if state == "NODE_FAIL" or reason == "NodeDown":
        return "lost"
    if _is_preempted(job):
        return "preempted"
    if state in STATES_AFTER_SCANCEL:
        return "cancelled"
    if _time(job, "EndTime") - now < TIME_LIMIT_MARGIN:
        return "timeout"
    return "preempted" if warned else "signalled"


def _is_preempted(job: Mapping[str, str]) -> bool:
    """Return whether a job is to make room for another one, or was ended for that.

    A job whose grace has begun has a PreemptTime. The end of the grace, or a preemption without any, ends it at that
    very time, and its state is that of a cancelled job; scancel during the grace ends it at another time.
    """
    if job.get("JobState") not in STATES_AFTER_SCANCEL:
        return job.get("JobState") == "PREEMPTED" or _time(job, "PreemptTime") < datetime.max
    preempted = _time(job, "PreemptTime")
    return preempted < datetime.max and _time(job, "EndTime") - preempted < timedelta(seconds=2)


def end_time(job: Mapping[str, str]) -> datetime:
    """Return when the time limit of a job ends it, by the clock of the cluster; a far future where nothing says so."""
    return _time(job, "EndTime")


def _time(job: Mapping[str, str], name: str) -> datetime:
    """Return a time of a job, by the clock of the cluster; a far future for `None`, `Unknown` and a missing one."""
    try:
        return datetime.fromisoformat(job[name])
    except (KeyError, ValueError):
        return datetime.max


def requeue_job(job: str) -> None:
    """Put a job back into the queue. Slurm then ends its processes. Raises SetupError with Slurm's message."""
    try:
        run_slurm(["scontrol", "requeue", job], COMMAND_TIMEOUT)
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(str(getattr(error, "stderr", None) or error).strip()) from None
