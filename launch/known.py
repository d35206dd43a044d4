"""What is known of a grid's jobs, kept in its folder for every shell that looks at it.

Slurm is asked at most once in `EVERY` seconds, however many watch. A job that has ended stays known after Slurm has
forgotten it (`MinJobAge`); only of one that ended while nobody looked is accounting asked, where there is any.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from clef import io
from clef.cells import records
from clef.errors import SetupError
from launch import scheduler
from launch.scheduler import Job, array_of

FILE, LOCK = "scheduler.json", "scheduler.lock"
EVERY = 10.0
"""Seconds between two questions to Slurm."""
PATIENCE = 15.0
"""Seconds that an answer may take. Where none came, the next question waits for three times as long."""
FORGOTTEN = "FORGOTTEN"
"""Our word for how a job ended that neither squeue nor sacct knows any more."""
VANISHED = "VANISHED"
"""The same for an array task while Slurm still knows others of its array. One that is cancelled before it begins
leaves no trace, in accounting neither."""
ENDINGS = {FORGOTTEN: "Slurm no longer knows its job", VANISHED: "its task is gone"}
NOTHING = Job("", "", "", "")


@dataclass(frozen=True)
class Known:
    """What Slurm said, and when."""

    jobs: Mapping[str, Job] = field(default_factory=dict)
    """By job (`12`) or array task (`12_3`)."""
    answered: float = 0.0
    """When Slurm answered last, in seconds since 1970; 0: never."""
    tried: float = 0.0
    problem: str | None = None
    """Why it didn't answer when it was asked last."""


def look(grid: Path, wanted: Collection[str], every: float | None = None) -> Known:
    """What is known of the jobs and array tasks `wanted`; asks Slurm if its last answer is `every` (EVERY) seconds old.

    Where Slurm doesn't answer, what it said before counts, and `problem` says so. A folder that can't be written to
    (a colleague's) is no hindrance: then every shell asks for itself.
    """
    every = EVERY if every is None else every
    now, known = time.time(), _read(grid)
    if not wanted or _fresh(known, wanted, now, every):
        return known
    try:
        with io.lock(grid / LOCK, busy=lambda: _Busy("")):
            known = _read(grid)  # another shell may have asked just now
            if not _fresh(known, wanted, now, every):
                known = _ask(known, wanted, now)
                records.write_json(grid / FILE, asdict(known), durable=False)
    except _Busy:
        return known
    except (OSError, SetupError):
        return _ask(known, wanted, now)
    return known


def ending(job: Job) -> str:
    """How it ended, in Slurm's words or, where it has none, in ours."""
    return ENDINGS.get(job.state, job.ending)


class _Busy(SetupError):
    """Another shell is asking."""


def _fresh(known: Known, wanted: Collection[str], now: float, every: float) -> bool:
    """Whether there is no need to ask: it was done just now, or all jobs have ended."""
    if 0 <= now - known.tried < (3 * PATIENCE if known.problem and every else every):
        return True
    return all(key in known.jobs and not known.jobs[key].active for key in wanted)


def _ask(before: Known, wanted: Collection[str], now: float) -> Known:
    if not scheduler.available():
        return replace(before, tried=now, problem="squeue is not on this machine's PATH")
    try:
        listed = scheduler.jobs({array_of(key) for key in wanted}, PATIENCE)
    except SetupError as error:
        return replace(before, tried=time.time(), problem=str(error))
    ended = {key: job for key, job in before.jobs.items() if not job.active and job.state not in (FORGOTTEN, VANISHED)}
    jobs = ended | listed
    lost = [key for key in wanted if key not in jobs]
    if lost:
        told = scheduler.accounted({array_of(key) for key in lost}) or {}
        arrays = {array_of(key) for key in listed}
        for key in lost:
            word = VANISHED if array_of(key) in arrays else FORGOTTEN
            jobs[key] = told.get(key) or replace(before.jobs.get(key, NOTHING), state=word, reason="")
    return Known(jobs, now, now)


def _read(grid: Path) -> Known:
    try:
        return records.checked(Known, records.read_json(grid / FILE))
    except ValueError:  # of another version
        return Known()
