"""What a job asks Slurm about itself, and that it be queued again. Imports no torch."""

import subprocess
from collections.abc import Mapping
from datetime import datetime, timedelta

from clef.errors import SetupError

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
