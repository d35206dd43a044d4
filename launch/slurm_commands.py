"""What Slurm knows of jobs: one query however many there are, with and without accounting.

Calls sbatch: with all that a job needs in place before, and without what a surrounding job would pass on.
"""

import functools
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.helpers import DelayedSubmission

from clef import io
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


Work = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function for submitit to pickle, and its arguments."""
SECONDS = 300
"""How long sbatch may take: it asks a busy controller again and again."""
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")
"""Where the cluster is: no facts about a job."""


def write(executor: submitit.SlurmExecutor, work: list[Work], array: bool) -> Path:
    """Write the script, and what each task runs, into the executor's folder. Returns the script.

    submitit does this after sbatch. A launcher that dies in between would leave jobs with nothing to run, and a job
    that starts at once would miss the folder of its log, which Slurm doesn't make.
    """
    folder = executor.folder
    folder.mkdir(parents=True, exist_ok=True)
    for i, (function, arguments) in enumerate(work):
        delayed = DelayedSubmission(function, *arguments)
        delayed.set_timeout(executor.parameters["time"], executor.max_num_timeout)
        delayed.dump(folder / f"{i}.pkl")
    # submitit looks for it under the job's id. A requeue puts a newer one there, which stays.
    job = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    link = (
        f'ln -s "${{SLURM_ARRAY_TASK_ID:-0}}.pkl" {shlex.quote(str(folder))}/"{job}_submitted.pkl" 2>/dev/null || true'
    )
    executor.update_parameters(setup=[*executor.parameters.get("setup", []), link])
    executor.parameters["map_count"] = len(work) if array else None
    script = folder / "submission.sh"
    io.write(script, executor._make_submission_file_text(executor._submitit_command_str, folder.name))
    return script


def send(script: Path) -> str:
    """Hand a script to sbatch. Returns the job's id; SetupError with what sbatch says when it gives none."""
    # In a session of its own: Ctrl-C, or a terminal that closes, must not end it half-way.
    command, own = ["sbatch", "--parsable", str(script)], {"start_new_session": True, "env": environment()}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, **own)  # type: ignore[call-overload]
    except subprocess.TimeoutExpired:
        raise SetupError(f"sbatch gave no answer in {SECONDS} s") from None
    except OSError as error:
        raise SetupError(f"sbatch can't be run: {error.strerror}") from None
    found = re.fullmatch(r"(\d+)(;.*)?", done.stdout.strip())
    if done.returncode or not found:
        said = [line.removeprefix("sbatch: ").removeprefix("error: ").strip() for line in done.stderr.splitlines()]
        raise SetupError("; ".join(filter(None, said)) or f"exit code {done.returncode} and {done.stdout.strip()!r}")
    return found[1]


def environment() -> dict[str, str]:
    """This process's environment without what Slurm says of a job around it, which would go for the new job too."""
    return {name: value for name, value in os.environ.items() if name in KEPT or not name.startswith("SLURM")}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Ctrl-C back until the block has ended: sbatch, and the note of what it answered, belong together."""
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        raise KeyboardInterrupt


@functools.cache
def max_array_size() -> int | None:
    """One more than the highest index of an array that the site allows; None where Slurm doesn't say."""
    if not shutil.which("scontrol"):
        return None
    try:
        shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):  # squeue is asked next, and says why
        return None
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown.stdout, re.MULTILINE)
    return int(found[1]) if found else None
