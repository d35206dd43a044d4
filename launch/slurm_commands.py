"""Calls of Slurm's own commands, and what they answer: squeue and sacct, scancel, sbatch, scontrol.

Jobs are queried in one call however many there are, with or without accounting. sbatch is called once everything that
the job needs is on disk, and without what Slurm says of a job around this process.
"""

import functools
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.helpers import DelayedSubmission

from clef import io
from clef.engine.slurm_task import run_slurm
from clef.errors import ConfigError, SetupError

# What squeue and sacct print (slurm.schedmd.com/job_state_codes.html). REVOKED is in no list, as a later Slurm's states
# are: it means that another cluster of a federation may run the job.
HELD_STATES = ("REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
"""States of jobs that wait until somebody releases them."""
WAITING_STATES = ("PENDING", "CONFIGURING", "POWER_UP_NODE", "EXPEDITING", "REQUEUED", "REQUEUE_FED", *HELD_STATES)
RUNNING_STATES = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED", "UPDATE_DB")
"""States of jobs that are on their nodes."""
FORGOTTEN = "FORGOTTEN"
"""Our word for the state of a job that neither squeue nor sacct knows any more."""
VANISHED = "VANISHED"
"""The same for an array task while Slurm still knows others of its array. A task that is cancelled before it begins
leaves no trace, not even in accounting."""
ENDED_STATES = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "RECONFIG_FAIL", "TIMEOUT", FORGOTTEN, VANISHED,
)  # fmt: skip
"""States of jobs that don't run again. One that is queued again after a preemption is COMPLETING, then PENDING."""
NEVER_SATISFIED = "DependencyNeverSatisfied"
"""Why Slurm cancels a job by itself: what it waited for has failed."""
SQUEUE_FORMAT = "%F|%K|%T|%r|%N|%M|%j"
SQUEUE_ROW = re.compile(r"(\d+)\|([^|]*)\|([A-Z_]+)\|(.*)\|([^|]*)\|([^|]*)\|([^|]*)")  # a reason may hold anything
SACCT_FORMAT = "JobID,State,NodeList,ElapsedRaw,JobName"
SACCT_ROW = re.compile(r"(\d+\S*)\|([A-Z_]+(?: by \S+)?)\|([^|]*)\|(\d*)\|(.*)")
FILTER_PREFIXES = ("SQUEUE_", "SACCT_", "SCANCEL_")
"""Beginnings of the names of variables that change what these commands show or do."""
MAX_IDS = 5_000
"""Ids that one call takes: Linux limits one argument to 128 KiB."""
COMMAND_TIMEOUT_S = 60
"""How long squeue, sacct and scontrol may take."""
SCANCEL_TIMEOUT_S = 300
SBATCH_TIMEOUT_S = 300
"""How long sbatch may take: it asks a busy controller again and again."""
JOB_LIMIT = re.compile(r"(?:Assoc|QOS)\w*SubmitJob\w*Limit")
"""How Slurm names a limit of the jobs that wait or run, such as AssocMaxSubmitJobLimit."""
LOG_PATTERN = re.compile(r"%\d*[A-Za-z%]|[\\\n]")
"""What Slurm replaces or drops in the names of logs (slurm.schedmd.com/sbatch.html, filename patterns)."""
Work = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function for submitit to pickle, and its arguments."""


# ---- what Slurm knows of jobs ----


@dataclass(frozen=True)
class Job:
    """A job or array task, as Slurm shows it; also one that has ended, as long as Slurm remembers it."""

    state: str
    """Slurm's word: PENDING, RUNNING, TIMEOUT, ..."""
    reason: str
    node: str
    name: str
    seconds: int = 0
    """How long it has run."""

    @property
    def active(self) -> bool:
        """Return whether it waits or runs, or may: nothing is known of its state."""
        return self.state not in ENDED_STATES

    @property
    def known(self) -> bool:
        """Return whether its state is one that is known here."""
        return self.state in WAITING_STATES + RUNNING_STATES + ENDED_STATES

    @property
    def running(self) -> bool:
        """Return whether it is on its nodes."""
        return self.state in RUNNING_STATES

    @property
    def suspended(self) -> bool:
        """Return whether it is on its nodes and does nothing."""
        return self.state in ("SUSPENDED", "STOPPED")

    @property
    def cancelled(self) -> bool:
        """Return whether a person cancelled it.

        A job that Slurm dropped because the job it waits for has failed doesn't count.
        """
        return self.state == "CANCELLED" and self.reason != NEVER_SATISFIED

    @property
    def ending(self) -> str:
        """Return how it ended, in Slurm's words."""
        return f"{self.state} ({self.reason})" if self.reason not in ("", "None") else self.state


def array_of(task: str) -> str:
    """Return the job that an array task (`12_3`) belongs to; that of a plain job is itself."""
    return task.partition("_")[0]


def slurm_available() -> bool:
    """Return whether Slurm's commands are on the PATH."""
    return shutil.which("squeue") is not None


def query_jobs(ids: Collection[str], seconds: float = COMMAND_TIMEOUT_S) -> dict[str, Job]:
    """Ask squeue about the jobs and arrays with these ids (`12`, without a task).

    `seconds`: how long to wait for the answer. Returns the jobs by job (`12`) or array task (`12_3`); one that the
    controller has forgotten is left out. SetupError when Slurm doesn't answer.
    """
    if not ids:
        return {}
    selection = ["--jobs", ",".join(sorted(ids))] if len(ids) <= MAX_IDS else []  # of more ids: everyone's jobs
    return {key: job for key, job in _squeue(selection, seconds).items() if array_of(key) in ids}


def query_jobs_by_name(names: Collection[str]) -> dict[str, Job]:
    """Ask squeue about the jobs with these names, of all users. Returns them as `query_jobs` does."""
    return _squeue(["--name", ",".join(sorted(names))]) if names else {}


def query_accounting(ids: Collection[str]) -> dict[str, Job] | None:
    """Ask sacct about these jobs and arrays. Returns what `query_jobs` does; None where accounting doesn't answer."""
    command = ["sacct", "--noheader", "--parsable2", "--allocations", f"--format={SACCT_FORMAT}"]
    jobs: dict[str, Job] = {}
    for some in _in_groups(ids):
        try:
            listed = _run([*command, f"--jobs={','.join(some)}"], COMMAND_TIMEOUT_S)
            jobs |= dict(pair for row in _rows(SACCT_ROW, listed) for pair in _parse_sacct_row(*row))
        except (OSError, subprocess.SubprocessError, SetupError):
            return None
    return jobs


def cancel_jobs(jobs: Collection[str]) -> None:
    """Cancel these jobs and array tasks; those that have ended don't matter. SetupError with scancel's own words."""
    for some in _in_groups(jobs):
        try:
            _run(["scancel", "--quiet", *some], SCANCEL_TIMEOUT_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise SetupError(f"scancel: {_reason(error)}") from None


def _squeue(selection: list[str], seconds: float = COMMAND_TIMEOUT_S) -> dict[str, Job]:
    command = ["squeue", "--noheader", "--array", "--states=all", f"--format={SQUEUE_FORMAT}", *selection]
    try:
        listed = _run(command, seconds)
    except (OSError, subprocess.SubprocessError) as error:
        reason = _reason(error)
        if "Invalid job id" in reason:  # asked for one alone, and the controller has forgotten it
            return {}
        raise SetupError(f"squeue: {reason}: can't tell which cells are queued; try again") from None
    return dict(_parse_squeue_row(*row) for row in _rows(SQUEUE_ROW, listed))


def _run(command: list[str], seconds: float) -> str:
    """Run a command of Slurm and return its stdout.

    The user's filters (SQUEUE_PARTITION, ...) are taken out of its environment: a job that isn't shown counts as gone.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FILTER_PREFIXES)}
    return run_slurm(command, seconds, environment)


def _rows(row: re.Pattern[str], listed: str) -> Iterator[tuple[str, ...]]:
    """Yield the fields of each line that is a `row`; others are a site's own, such as the greeting of a wrapper.

    SetupError for a line that may be one and can't be read: a job that isn't seen would count as gone.
    """
    for line in listed.splitlines():
        if match := row.fullmatch(line.strip()):
            yield match.groups()
        elif line.count("|") >= row.groups - 1:
            raise SetupError(f"Slurm's answer has a line that can't be read: {line.strip()!r}; report it, please")


def _in_groups(ids: Collection[str]) -> Iterator[list[str]]:
    """Yield the ids in groups that one command takes."""
    ordered = sorted(ids)
    for first in range(0, len(ordered), MAX_IDS):
        yield ordered[first : first + MAX_IDS]


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer in {error.timeout:g} s"
    return str(getattr(error, "stderr", None) or error).strip()


def _parse_squeue_row(
    job: str, task: str, state: str, reason: str, node: str, elapsed: str, name: str
) -> tuple[str, Job]:
    key = f"{job}_{task}" if task.isdecimal() else job
    return key, Job(state, reason, node, name, _parse_elapsed(elapsed))


def _parse_elapsed(elapsed: str) -> int:
    """Return the seconds of `1-02:03:04`, `02:03:04` or `3:04`."""
    days, _, clock = elapsed.rpartition("-")
    if not re.fullmatch(r"\d+(:\d+)*", clock):
        return 0
    total = 0
    for part in clock.split(":"):
        total = 60 * total + int(part)
    return total + 86_400 * int(days or 0)


def _parse_sacct_row(ids: str, state: str, node: str, elapsed: str, name: str) -> Iterator[tuple[str, Job]]:
    """Yield the job of a line; the tasks of an array that never began share one line (`12_[0,4-6,9-13:2%2]`)."""
    word, _, user = state.partition(" by ")  # `CANCELLED by 1000`
    reason = f"by {_user_name(user)}" if user else NEVER_SATISFIED if word == "CANCELLED" else ""
    job = Job(word, reason, "" if node == "None assigned" else node, name, int(elapsed or 0))
    array, bracket, tasks = ids.partition("_[")
    if not bracket:
        yield ids, job
        return
    for first, last, step in re.findall(r"(\d+)(?:-(\d+)(?::(\d+))?)?", tasks.partition("]")[0].partition("%")[0]):
        for task in range(int(first), int(last or first) + 1, int(step or 1)):
            yield f"{array}_{task}", job


def _user_name(number: str) -> str:
    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError):
        return f"user {number}"


# ---- sbatch ----


def check_log_folder(folder: Path) -> None:
    """Raise ConfigError for a folder whose logs Slurm would write elsewhere; the job would fail without a trace."""
    if found := LOG_PATTERN.search(str(folder.absolute())):
        raise ConfigError(
            f"{folder.absolute()}: Slurm would replace {found[0]!r} in the names of logs; name another folder with "
            "--out, or the grid otherwise"
        )


def write_script(executor: submitit.SlurmExecutor, work: list[Work], array: bool) -> Path:
    """Write the job's script, and what each task runs, into the executor's folder. Returns the script.

    submitit itself does this after sbatch. Then a launcher that dies in between would leave jobs with nothing to run,
    and a job that starts at once would miss the folder of its log, which Slurm doesn't make.
    tests/launch/test_submitit.py holds what is used here of submitit's private interface.
    """
    folder = executor.folder
    folder.mkdir(parents=True, exist_ok=True)
    for i, (function, arguments) in enumerate(work):
        delayed = DelayedSubmission(function, *arguments)
        delayed.set_timeout(executor.parameters["time"], executor.max_num_timeout)
        delayed.dump(folder / f"{i}.pkl")
    # submitit looks for it under the job's id. A requeue puts a newer one there, which `ln` without -f keeps.
    job = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    link = (
        f'ln -s "${{SLURM_ARRAY_TASK_ID:-0}}.pkl" {shlex.quote(str(folder))}/"{job}_submitted.pkl" 2>/dev/null || true'
    )
    executor.update_parameters(setup=[*executor.parameters.get("setup", []), link])
    executor.parameters["map_count"] = len(work) if array else None
    script = folder / "submission.sh"
    io.write(script, executor._make_submission_file_text(executor._submitit_command_str, folder.name))
    return script


class JobLimitReached(SetupError):
    """Slurm takes no job of this length from this user until others have ended (MaxSubmitJobs)."""


def call_sbatch(script: Path, environment: Mapping[str, str]) -> str:
    """Hand a script to sbatch. Returns the job's id; SetupError with what sbatch says when it gives none."""
    # In a session of its own: neither Ctrl-C nor a terminal that closes may end it half-way.
    options: dict[str, Any] = {"start_new_session": True, "env": dict(environment), "timeout": SBATCH_TIMEOUT_S}
    options |= {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
    try:
        done = subprocess.run(["sbatch", "--parsable", str(script)], **options)
    except subprocess.TimeoutExpired:
        raise SetupError(f"sbatch gave no answer in {SBATCH_TIMEOUT_S} s") from None
    except OSError as error:
        raise SetupError(f"sbatch can't be run: {error.strerror}") from None
    ids = re.findall(
        r"^(\d+)(?:;\S*)?\s*$", done.stdout, re.MULTILINE
    )  # `12`, or `12;cluster`, below a site's own lines
    if done.returncode or not ids:
        lines = [line.removeprefix("sbatch: ").removeprefix("error: ").strip() for line in done.stderr.splitlines()]
        kind = JobLimitReached if _names_job_limit(done.stderr) else SetupError
        raise kind("; ".join(filter(None, lines)) or f"exit code {done.returncode} and {done.stdout.strip()!r}")
    return str(ids[-1])


def _names_job_limit(refusal: str) -> bool:
    """Return whether sbatch refuses a job for the number of the user's jobs; older versions name several limits."""
    if re.search(r"(?:Assoc|QOS)\w+Limit", refusal):
        return JOB_LIMIT.search(refusal) is not None
    return "job submit limit" in refusal


@contextmanager
def hold_interrupt_back() -> Iterator[None]:
    """Keep Ctrl-C back until the block has ended: sbatch and the record of its answer belong together."""
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
    """Return one more than the highest index of an array that the site allows; None where Slurm doesn't say."""
    if not shutil.which("scontrol"):
        return None
    try:
        shown = run_slurm(["scontrol", "show", "config"], COMMAND_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):  # squeue is asked next, and says why
        return None
    size = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown, re.MULTILINE)
    return int(size[1]) if size else None
