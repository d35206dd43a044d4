"""What Slurm knows of jobs: one query however many there are."""

import os
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from clef.errors import SetupError

ACTIVE = (
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "STOPPED", "PREEMPTED",
)  # fmt: skip
"""States of jobs that run, or may run again by themselves."""
FORMAT = "%F|%K|%T|%r|%N|%j"


@dataclass(frozen=True)
class Job:
    """A job or array task, as squeue shows it; ended ones too, as long as the controller remembers them."""

    state: str
    """Slurm's word: PENDING, RUNNING, TIMEOUT, ..."""
    reason: str
    node: str
    name: str

    @property
    def active(self) -> bool:
        """Whether it may still run."""
        return self.state in ACTIVE


def jobs(ids: Collection[str]) -> dict[str, Job]:
    """The jobs and arrays with these ids (`12`, without a task), by job (`12`) or array task (`12_3`).

    A job that the controller has forgotten is left out. SetupError when Slurm doesn't answer.
    """
    return _listed(["--jobs", ",".join(sorted(ids))]) if ids else {}


def named(names: Collection[str]) -> dict[str, Job]:
    """The same for jobs with these names, whoever's."""
    return _listed(["--name", ",".join(sorted(names))]) if names else {}


def available() -> bool:
    """Whether Slurm's commands are on the PATH."""
    return shutil.which("squeue") is not None


def _listed(which: list[str]) -> dict[str, Job]:
    command = ["squeue", "--noheader", "--array", "--states=all", f"--format={FORMAT}", *which]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=_plain()).stdout
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", None) or error).strip()
        if "Invalid job id" in reason:  # asked for one alone, and the controller has forgotten it
            return {}
        raise SetupError(f"squeue: {reason}: can't tell which cells are queued; try again") from None
    return dict(_job(line) for line in listed.splitlines())


def _plain() -> dict[str, str]:
    """The environment without the user's filters (SQUEUE_PARTITION, ...): a job that isn't shown counts as gone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}


def _job(line: str) -> tuple[str, Job]:
    job, task, state, reason, node, name = line.strip().split("|", 5)
    key = f"{job}_{task}" if task.isdecimal() else job
    return key, Job(state, reason, node, name)
