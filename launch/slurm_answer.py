"""What Slurm says of a grid's jobs, kept in the grid's folder for every shell that looks at the grid.

Slurm is asked at most once in QUERY_INTERVAL_S seconds, however many watch. A job that has ended stays known after
Slurm has forgotten it (`MinJobAge`); accounting is asked only about jobs that ended while nobody looked, where there is
accounting.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from clef import io
from clef.cells import records
from clef.errors import SetupError
from launch import slurm_commands
from launch.slurm_commands import FORGOTTEN, VANISHED, Job, array_of

ANSWER_FILE, ANSWER_LOCK = "scheduler.json", "scheduler.lock"
QUERY_INTERVAL_S = 10.0
"""Seconds between two queries of Slurm."""
ANSWER_TIMEOUT_S = 15.0
"""Seconds that an answer may take. Where none came, the next query waits three times as long."""
OUR_ENDINGS = {FORGOTTEN: "Slurm no longer knows its job", VANISHED: "its task is gone"}
UNKNOWN_JOB = Job("", "", "", "")


@dataclass(frozen=True)
class SlurmAnswer:
    """What Slurm said, and when."""

    jobs: Mapping[str, Job] = field(default_factory=dict)
    """By job (`12`) or array task (`12_3`)."""
    answered: float = 0.0
    """When Slurm answered last, in seconds since 1970; 0: never."""
    tried: float = 0.0
    problem: str | None = None
    """Why it didn't answer when it was asked last."""


def query_slurm(
    grid: Path, wanted: Collection[str], interval: float | None = None, keep_answer: bool = True
) -> SlurmAnswer:
    """Return what is known of the jobs and array tasks `wanted`, after asking Slurm if its last answer is too old.

    `interval`: how old it may be, in seconds (QUERY_INTERVAL_S). Where Slurm doesn't answer, its earlier answer counts,
    and `problem` says so. A folder that can't be written to (a colleague's) does no harm: every shell then asks for
    itself. Without `keep_answer`, nothing is written.
    """
    interval = QUERY_INTERVAL_S if interval is None else interval
    now, answer = time.time(), _read_answer(grid)
    if not wanted or _is_fresh(answer, wanted, now, interval):
        return answer
    if not keep_answer:
        return _ask_slurm(answer, wanted, now)
    try:
        with io.lock(grid / ANSWER_LOCK, busy=lambda: _AnotherShellAsks("")):
            answer = _read_answer(grid)  # another shell may have asked just now
            if not _is_fresh(answer, wanted, now, interval):
                answer = _ask_slurm(answer, wanted, now)
                records.write_json(grid / ANSWER_FILE, asdict(answer), durable=False)
    except _AnotherShellAsks:
        return answer if interval else _ask_slurm(answer, wanted, now)
    except (OSError, SetupError):
        return _ask_slurm(answer, wanted, now)
    return answer


def describe_ending(job: Job) -> str:
    """Return how a job ended, in Slurm's words or, where it has none, in ours."""
    return OUR_ENDINGS.get(job.state, job.ending)


class _AnotherShellAsks(SetupError):
    """The lock is held: another shell is asking Slurm at this moment."""


def _is_fresh(answer: SlurmAnswer, wanted: Collection[str], now: float, interval: float) -> bool:
    """Return whether there is no need to ask: Slurm was asked just now, or all jobs have ended."""
    if 0 <= now - answer.tried < (3 * ANSWER_TIMEOUT_S if answer.problem and interval else interval):
        return True
    return all(key in answer.jobs and not answer.jobs[key].active for key in wanted)


def _ask_slurm(before: SlurmAnswer, wanted: Collection[str], now: float) -> SlurmAnswer:
    """Ask squeue, and sacct about what squeue has forgotten. What ended in the answer `before` stays known."""
    if not slurm_commands.slurm_available():
        return replace(before, tried=now, problem="squeue is not on this machine's PATH")
    try:
        listed = slurm_commands.query_jobs({array_of(key) for key in wanted}, ANSWER_TIMEOUT_S)
    except SetupError as error:
        return replace(before, tried=time.time(), problem=str(error))
    ended = {key: job for key, job in before.jobs.items() if not job.active and job.state not in OUR_ENDINGS}
    jobs = ended | listed
    if lost := [key for key in wanted if key not in jobs]:
        accounted = slurm_commands.query_accounting({array_of(key) for key in lost}) or {}
        arrays = {array_of(key) for key in listed}
        for key in lost:
            word = VANISHED if array_of(key) in arrays else FORGOTTEN
            gone = replace(before.jobs.get(key, UNKNOWN_JOB), state=word, reason="")
            # A crash may leave a job in accounting as running for ever; and what isn't in squeue has ended.
            jobs[key] = job if (job := accounted.get(key)) and not job.active else gone
    return SlurmAnswer(jobs, now, now)


def _read_answer(grid: Path) -> SlurmAnswer:
    try:
        return records.validate_as(SlurmAnswer, records.read_json(grid / ANSWER_FILE))
    except ValueError:  # of another version
        return SlurmAnswer()
