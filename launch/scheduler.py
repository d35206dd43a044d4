"""What Slurm knows of jobs: one query however many there are, with and without accounting."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from clef.errors import SetupError

ACTIVE = (
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "STOPPED", "PREEMPTED",
)  # fmt: skip
"""States of jobs that run, or may run again by themselves."""
DROPPED = "DependencyNeverSatisfied"
"""Why Slurm cancels a job by itself: what it waited for has failed."""
ON_NODES = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED")
FORMAT = "%F|%K|%T|%r|%N|%M|%j"
ACCOUNTED = "JobID,State,NodeList,ElapsedRaw,JobName"
FILTERS = ("SQUEUE_", "SACCT_", "SCANCEL_")
"""What names of variables begin with that change what these commands show or do."""
MOST = 5_000
"""Ids that a command takes at once: Linux has a limit of 128 KiB for one argument."""


@dataclass(frozen=True)
class Job:
    """A job or array task, as Slurm shows it; ended ones too, as long as it remembers them."""

    state: str
    """Slurm's word: PENDING, RUNNING, TIMEOUT, ..."""
    reason: str
    node: str
    name: str
    seconds: int = 0
    """How long it has run."""

    @property
    def active(self) -> bool:
        """Whether it may still run."""
        return self.state in ACTIVE

    @property
    def running(self) -> bool:
        """Whether it is on its nodes."""
        return self.state in ON_NODES

    @property
    def cancelled(self) -> bool:
        """Whether someone cancelled it."""
        return self.state == "CANCELLED" and self.reason != DROPPED

    @property
    def ending(self) -> str:
        """How it ended, in Slurm's words."""
        return f"{self.state} ({self.reason})" if self.reason not in ("", "None") else self.state


def array_of(task: str) -> str:
    """The job that an array task belongs to; that of a plain job is itself."""
    return task.partition("_")[0]


def jobs(ids: Collection[str], seconds: float = 60) -> dict[str, Job]:
    """The jobs and arrays with these ids (`12`, without a task), by job (`12`) or array task (`12_3`).

    `seconds`: how long to wait for the answer. A job that the controller has forgotten is left out. SetupError when
    Slurm doesn't answer.
    """
    if not ids:
        return {}
    which = ["--jobs", ",".join(sorted(ids))] if len(ids) <= MOST else []  # more of them: everyone's jobs
    found = _listed(which, seconds)
    return {key: job for key, job in found.items() if array_of(key) in ids}


def named(names: Collection[str]) -> dict[str, Job]:
    """The same for jobs with these names, whoever's."""
    return _listed(["--name", ",".join(sorted(names))]) if names else {}


def accounted(ids: Collection[str]) -> dict[str, Job] | None:
    """What accounting knows of these jobs and arrays, likewise; None where there is none, or it doesn't answer."""
    command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--format={ACCOUNTED}"]
    found: dict[str, Job] = {}
    for some in _batches(ids):
        try:
            listed = subprocess.run(
                [*command, f"--jobs={','.join(some)}"],
                capture_output=True, text=True, timeout=60, check=True, env=_unfiltered(),
            ).stdout  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return None
        found |= dict(pair for line in listed.splitlines() for pair in _accounted(line))
    return found


def available() -> bool:
    """Whether Slurm's commands are on the PATH."""
    return shutil.which("squeue") is not None


def cancel(jobs: Collection[str]) -> None:
    """Cancel these jobs and array tasks; ended ones don't matter. SetupError with scancel's own word."""
    for some in _batches(jobs):
        try:
            command = ["scancel", "--quiet", *some]
            subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=_unfiltered())
        except (OSError, subprocess.SubprocessError) as error:
            raise SetupError(f"scancel: {_reason(error)}") from None


def _listed(which: list[str], seconds: float = 60) -> dict[str, Job]:
    command = ["squeue", "--noheader", "--array", "--states=all", f"--format={FORMAT}", *which]
    try:
        listed = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=True, env=_unfiltered()
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        reason = _reason(error)
        if "Invalid job id" in reason:  # asked for one alone, and the controller has forgotten it
            return {}
        raise SetupError(f"squeue: {reason}: can't tell which cells are queued; try again") from None
    return dict(_job(line) for line in listed.splitlines())


def _unfiltered() -> dict[str, str]:
    """The environment without the user's filters (SQUEUE_PARTITION, ...): a job that isn't shown counts as gone."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FILTERS)}


def _batches(ids: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    for first in range(0, len(ordered), MOST):
        yield ordered[first : first + MOST]


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer in {error.timeout:g} s"
    return str(getattr(error, "stderr", None) or error).strip()


def _job(line: str) -> tuple[str, Job]:
    job, task, state, reason, node, elapsed, name = line.strip().split("|", 6)
    key = f"{job}_{task}" if task.isdecimal() else job
    return key, Job(state, reason, node, name, _seconds(elapsed))


def _seconds(elapsed: str) -> int:
    """Of `1-02:03:04`, `02:03:04` or `3:04`."""
    days, _, clock = elapsed.rpartition("-")
    if not re.fullmatch(r"\d+(:\d+)*", clock):
        return 0
    total = 0
    for part in clock.split(":"):
        total = 60 * total + int(part)
    return total + 86_400 * int(days or 0)


def _accounted(line: str) -> Iterator[tuple[str, Job]]:
    """The job of a line; the tasks of an array that never began come in one (`12_[0,4-6%2]`)."""
    ids, state, node, elapsed, name = line.split("|", 4)
    word, _, by = state.partition(" by ")
    reason = f"by {_user(by)}" if by else DROPPED if word == "CANCELLED" else ""
    job = Job(word, reason, "" if node == "None assigned" else node, name, int(elapsed or 0))
    array, bracket, tasks = ids.partition("_[")
    if not bracket:
        yield ids, job
        return
    for part in tasks.partition("]")[0].partition("%")[0].split(","):
        first, _, last = part.partition("-")
        for task in range(int(first), int(last or first) + 1):
            yield f"{array}_{task}", job


def _user(number: str) -> str:
    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError):
        return f"user {number}"
