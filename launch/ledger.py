"""Who has which cell: what launchers submitted to Slurm, and what local launchers (`--local`) claim.

- `<grid>/submissions/<tag>.json`: a file for each call of sbatch, written before the call and completed after it. The
  tag is also the job's name, so that a launcher which died between the two leaves a name to ask Slurm about.
- `<grid>/launchers/<host>-<process>.json`: the cells that a local launcher claims. It holds a lock meanwhile, so other
  launchers leave its cells alone until they have ended or the launcher is gone, however it ended.
- `query_active_jobs` asks Slurm which submitted cells still wait or run. `settle_submissions` finds out what became of
  calls of sbatch whose answer was never written down.
"""

import getpass
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from clef import console, io
from clef.cells import records
from clef.console import err
from clef.data import manifest as manifests
from clef.errors import SetupError
from launch import slurm_commands
from launch.slurm_commands import array_of

SUBMISSIONS, CLAIMS = "submissions", "launchers"
"""Folders below a grid's folder."""
LAUNCHER_LOCK = "launcher.lock"
CANCEL_TIMEOUT_S = 60
"""How long a cancelled job may take to end."""
SubmissionKind = Literal["cells", "features", "shards", "launch", "gather"]


@contextmanager
def lock(grid: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Let only one launcher at a time plan and submit in a grid's folder; call `waiting` if another one does."""
    with io.lock(grid / LAUNCHER_LOCK, waiting=waiting):
        (grid / SUBMISSIONS).mkdir(exist_ok=True)
        # NFS may show a folder as it was half a minute ago. Changing the folder makes the client look again.
        with tempfile.NamedTemporaryFile(dir=grid / SUBMISSIONS, prefix=".look-"):
            pass
        yield


# ---- submissions to Slurm ----


@dataclass(frozen=True)
class Submission:
    """One call of sbatch: a job, or a job array whose tasks train `cells`, `per_task` each."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    tag: str
    """The job's name: `clef-<grid>-` and eight random digits."""
    kind: SubmissionKind
    """`cells`: trains cells; `features`: computes what their frozen encoders see, before them; `shards`: makes a set of
    shards; `launch`: runs the launcher again after that; `gather`: writes the tables.
    """
    cells: list[str] = field(default_factory=list)
    """Names of the cells' folders, in the order of the array's tasks."""
    per_task: int = 1
    """How many cells a task trains; the last one may have fewer."""
    array: bool = False
    after: list[str] = field(default_factory=list)
    """The jobs (`12`, `12_3`) that it waits for."""
    shards: str | None = None
    """The folder of the set that a job of kind `shards` makes, and one of kind `launch` waits for."""
    job: str | None = None
    """The id that sbatch answered; None until then."""
    dropped: bool = False
    """It was decided that sbatch never took it. If its job appears after all, the job ends at once."""
    created: str = ""
    by: str = ""

    def jobs(self) -> dict[str, str]:
        """Return the job (`12`) or array task (`12_3`) of each cell."""
        assert self.job is not None
        return {
            cell: f"{self.job}_{i // self.per_task}" if self.array else self.job for i, cell in enumerate(self.cells)
        }


def new_submission(grid: Path, kind: SubmissionKind, cells: list[str], **facts: Any) -> Submission:
    """Return a submission with a name of its own; nothing of it is on disk yet."""
    # squeue takes a comma for the end of a name.
    tag = f"clef-{re.sub('[^A-Za-z0-9_.+-]', '_', grid.name)}-{secrets.token_hex(4)}"
    by = f"{user_at_host()}, process {os.getpid()}"
    return Submission(tag, kind, cells, created=_now(), by=by, **facts)


def user_at_host() -> str:
    """Return who runs this, and where; in a container, a user may have a number and no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def job_folder(grid: Path, submission: Submission) -> Path:
    """Return the folder of its script, of what its tasks run, and of its logs (`<job>_<rank>_log.out` and `.err`)."""
    return grid / "slurm" / submission.tag


def begin_submission(grid: Path, submission: Submission) -> None:
    """Write down what is about to be submitted; it is on disk when this returns."""
    _write_submission(grid, submission)


def complete_submission(grid: Path, submission: Submission, job: str) -> Submission:
    """Write down the job's id that sbatch answered."""
    return _write_submission(grid, replace(submission, job=job))


def drop_submission(grid: Path, submission: Submission) -> Submission:
    """Write down that sbatch didn't take it."""
    return _write_submission(grid, replace(submission, dropped=True))


def read_submissions(grid: Path) -> list[Submission]:
    """Read all submissions of a grid, the oldest first. SetupError for a file that isn't a submission's record."""
    submissions = (_read_submission(path) for path in (grid / SUBMISSIONS).glob("*.json"))
    return sorted(submissions, key=lambda submission: (submission.created, submission.tag))


def unanswered_submissions(grid: Path) -> list[Submission]:
    """Return the submissions without a job's id.

    To the launcher that holds the lock, these are of launchers that died during a call of sbatch.
    """
    return [submission for submission in read_submissions(grid) if not submission.job and not submission.dropped]


def _write_submission(grid: Path, submission: Submission) -> Submission:
    records.write_json(grid / SUBMISSIONS / f"{submission.tag}.json", asdict(submission))
    io.flush_folder(grid / SUBMISSIONS)
    return submission


def _read_submission(path: Path) -> Submission:
    try:
        submission = records.validate_as(Submission, records.read_json(path))
        if submission.tag != path.stem:
            raise ValueError(f"tag: {submission.tag} is not the name of the file")
    except ValueError as error:
        raise SetupError(
            f"{path}: no record of a submission; look at squeue, and fix the file or move it elsewhere ({error})"
        ) from None
    return submission


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


# ---- what Slurm still has of them ----


@dataclass(frozen=True)
class ActiveJobs:
    """The jobs of a grid that wait or run, by what they are for."""

    cells: dict[str, str] = field(default_factory=dict)
    """The job (`12`) or array task (`12_3`) of each unfinished cell, by the name of the cell's folder."""
    shards: dict[str, str] = field(default_factory=dict)
    """The job that makes a set of shards, by the set's folder."""
    launches: dict[str, str] = field(default_factory=dict)
    """The job after it that runs the launcher again, by the set's folder."""
    failed_logs: dict[str, Path] = field(default_factory=dict)
    """The log of the last job that ended without making a set of shards, by the set's folder."""
    gathered: frozenset[str] = frozenset()
    """The jobs that a gather job already waits for."""


def query_active_jobs(grid: Path) -> ActiveJobs:
    """Ask Slurm which submissions still wait or run. Writes nothing. SetupError when Slurm doesn't answer.

    There are at most two queries: by id, and by name for submissions whose id was never written down. On a machine
    without Slurm, a warning says that nothing is known of these jobs.
    """
    submissions = [each for each in read_submissions(grid) if not each.dropped and _is_unfinished(grid, each)]
    if all(each.kind == "gather" for each in submissions):  # so a finished grid is gathered where Slurm is not reached
        return ActiveJobs()
    if not slurm_commands.slurm_available():
        cells = {cell for each in submissions for cell in each.cells if not _has_result(grid, cell)}
        what = f"jobs of {console.format_cells(len(cells))} without a result"
        text = f"{what} were submitted to Slurm, which this machine lacks; those that still wait are not seen"
        err.print(f"warning: {text}, and their cells are trained here as well", soft_wrap=True)
        return ActiveJobs()
    jobs = slurm_commands.query_jobs({array_of(each.job) for each in submissions if each.job})
    jobs_by_name = slurm_commands.query_jobs_by_name({each.tag for each in submissions if not each.job})
    active = {key for key, job in (jobs | jobs_by_name).items() if job.active}
    candidates = [each if each.job else _find_by_name(each, jobs_by_name) for each in submissions]
    return _sort_jobs(grid, [each for each in candidates if each is not None], active)


def _sort_jobs(grid: Path, submissions: list[Submission], active: set[str]) -> ActiveJobs:
    """Sort submissions that have a job, by kind. `active`: the jobs and array tasks that wait or run."""
    jobs = ActiveJobs()
    gathered: set[str] = set()
    for submission in submissions:
        job, shards = str(submission.job), str(submission.shards)
        if submission.kind == "cells":
            tasks = submission.jobs().items()
            jobs.cells.update({cell: task for cell, task in tasks if task in active and not _has_result(grid, cell)})
        elif submission.kind == "shards" and job not in active:
            jobs.failed_logs[shards] = job_folder(grid, submission) / f"{job}_0_log.err"
        elif job not in active:
            continue
        elif submission.kind == "gather":
            gathered.update(submission.after)
        else:
            (jobs.shards if submission.kind == "shards" else jobs.launches)[shards] = job
    return replace(jobs, gathered=frozenset(gathered))


def settle_submissions(grid: Path, submissions: list[Submission]) -> list[Submission]:
    """Find out what became of calls of sbatch without an answer. Returns each submission with its job, or dropped.

    Only for the launcher that holds the lock. A job of that name is adopted, whether it has ended or not. Where there
    is none, the call may still be in progress: the sbatch of a killed launcher continues by itself, and the controller
    may be slow. So the drop is on disk *before* Slurm is asked a second time. A job that Slurm gets after that second
    query starts after the drop was written, reads it and ends. A job that it got between the two queries may have
    started too early to read it, so it is cancelled, and gone when this returns. Either way nobody else trains these
    cells from here on.
    """
    jobs_by_name = slurm_commands.query_jobs_by_name({submission.tag for submission in submissions})
    settled = []
    for submission in submissions:
        adopted = _find_by_name(submission, jobs_by_name)
        settled.append(
            complete_submission(grid, submission, str(adopted.job)) if adopted else drop_submission(grid, submission)
        )
    dropped = {submission.tag for submission in settled if submission.dropped}
    late_jobs = slurm_commands.query_jobs_by_name(dropped)
    if late := {array_of(key) for key, job in late_jobs.items() if job.active}:
        _cancel_and_wait(late, dropped)
    return settled


def _find_by_name(submission: Submission, jobs_by_name: dict[str, slurm_commands.Job]) -> Submission | None:
    """Return the submission with the id of the job of its name; None where Slurm has no such job."""
    job = next((array_of(key) for key, job in jobs_by_name.items() if job.name == submission.tag), None)
    return replace(submission, job=job) if job else None


def _is_unfinished(grid: Path, submission: Submission) -> bool:
    """Return whether it is worth asking about: cells without a result, a set without its manifest."""
    if submission.shards is not None:
        return not manifests.path_of(Path(submission.shards)).exists()
    return submission.kind == "gather" or not all(_has_result(grid, cell) for cell in submission.cells)


def _has_result(grid: Path, cell: str) -> bool:
    return (grid / cell / records.RESULT).exists()


def _cancel_and_wait(jobs: set[str], names: set[str]) -> None:
    """Cancel jobs, and wait until no job of these names is active. SetupError when one stays."""
    reason = ""
    try:
        slurm_commands.cancel_jobs(jobs)
    except SetupError as error:  # some may have ended by themselves
        reason = f" ({error})"
    end = time.monotonic() + CANCEL_TIMEOUT_S
    while any(job.active for job in slurm_commands.query_jobs_by_name(names).values()):
        if time.monotonic() > end:
            raise SetupError(
                f"job {', '.join(sorted(jobs))}, of a launcher that died, can't be cancelled{reason}; cancel it with "
                f"scancel and run this again"
            )
        time.sleep(1)


# ---- claims of local launchers ----


@dataclass(frozen=True)
class Claim:
    """A local launcher's cells, by the names of their folders."""

    created: str
    by: str
    cells: list[str]
    unfinished: list[str]
    """Those that have not ended yet."""
    alive: bool = True
    """Whether the launcher still runs. Its lock says so; what the file says doesn't count."""

    @property
    def busy(self) -> list[str]:
        """Return the cells that it trains, or is going to train."""
        return self.unfinished if self.alive else []


@contextmanager
def claim_cells(grid: Path, cells: list[str]) -> Iterator[Callable[[str], None]]:
    """Claim cells for this process; call what is yielded with each cell that has ended.

    The caller must hold the grid's lock from its look at the cells' states until this has begun, or two launchers
    claim the same cells.
    """
    host, process = socket.gethostname(), os.getpid()
    path = grid / CLAIMS / f"{host}-{process}.json"
    created, unfinished = _now(), dict.fromkeys(cells)

    def write() -> None:
        claim = Claim(created, f"{host}, process {process}", cells, list(unfinished))
        records.write_json(path, asdict(claim), durable=False)

    def ended(cell: str) -> None:
        unfinished.pop(cell, None)
        write()

    with io.lock(path.with_suffix(".lock")):
        write()
        yield ended


def read_claims(grid: Path) -> list[Claim]:
    """Read all claims of a grid, also those of launchers that are gone; the oldest first."""
    return sorted((_read_claim(path) for path in (grid / CLAIMS).glob("*.json")), key=lambda claim: claim.created)


def claimed_cells(grid: Path) -> set[str]:
    """Return the cells that running local launchers train, or are going to train."""
    return {cell for claim in read_claims(grid) for cell in claim.busy}


def _read_claim(path: Path) -> Claim:
    content = records.read_json(path)
    try:
        return records.validate_as(Claim, content | {"alive": io.is_locked(path.with_suffix(".lock"))})
    except ValueError:  # cut short, or of another version
        return Claim("", "", [], [], alive=False)
