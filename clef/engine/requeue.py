"""How a submitted job leaves that was asked to stop: it is queued again, or it says why not. Imports no torch."""

import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import submitit
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

from clef import signals
from clef.cells import attempts, records
from clef.cells.attempts import Attempt
from clef.config import RequeueConfig
from clef.engine import slurm
from clef.errors import Preempted, SetupError

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
        kind = slurm.why(slurm.facts(self.attempt.job), self.attempt.restart, warned, datetime.now())
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
            slurm.requeue(self.attempt.job)
        except SetupError as error:
            self._say("preempted", f"{why}; not queued again: {error}", place)

    def _say(self, state: str, reason: str, place: Place) -> None:
        if place is not None:
            records.write_state(self.folder, state, reason=reason, **place)


def _warning() -> str:
    """The signal that submitit has Slurm send, by name."""
    return f"SIG{submitit.JobEnvironment.USR_SIG}"
