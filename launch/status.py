"""Where the cells of a grid are: from their folders, from what was submitted, and from what Slurm said of it.

Cells that were cancelled with Slurm's own commands: planning goes by what is noted in their folders.

What is known of a grid's jobs, kept in its folder for every shell that looks at it.

Slurm is asked at most once in `EVERY` seconds, however many watch. A job that has ended stays known after Slurm has
forgotten it (`MinJobAge`); only of one that ended while nobody looked is accounting asked, where there is any.

How the jobs go that cells without shards wait for: one makes the shards, one behind it submits the cells.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from clef import io
from clef.cells import records
from clef.data import manifest as manifests
from clef.errors import SetupError
from clef.results.frame import PlannedRun, read_plan
from launch import ledger, slurm_commands
from launch.job_output import last_line, outputs
from launch.ledger import Submission
from launch.slurm_commands import Job, array_of

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
class SlurmAnswer:
    """What Slurm said, and when."""

    jobs: Mapping[str, Job] = field(default_factory=dict)
    """By job (`12`) or array task (`12_3`)."""
    answered: float = 0.0
    """When Slurm answered last, in seconds since 1970; 0: never."""
    tried: float = 0.0
    problem: str | None = None
    """Why it didn't answer when it was asked last."""


def query(grid: Path, wanted: Collection[str], every: float | None = None) -> SlurmAnswer:
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


def _fresh(known: SlurmAnswer, wanted: Collection[str], now: float, every: float) -> bool:
    """Whether there is no need to ask: it was done just now, or all jobs have ended."""
    if 0 <= now - known.tried < (3 * PATIENCE if known.problem and every else every):
        return True
    return all(key in known.jobs and not known.jobs[key].active for key in wanted)


def _ask(before: SlurmAnswer, wanted: Collection[str], now: float) -> SlurmAnswer:
    if not slurm_commands.available():
        return replace(before, tried=now, problem="squeue is not on this machine's PATH")
    try:
        listed = slurm_commands.jobs({array_of(key) for key in wanted}, PATIENCE)
    except SetupError as error:
        return replace(before, tried=time.time(), problem=str(error))
    ended = {key: job for key, job in before.jobs.items() if not job.active and job.state not in (FORGOTTEN, VANISHED)}
    jobs = ended | listed
    lost = [key for key in wanted if key not in jobs]
    if lost:
        told = slurm_commands.accounted({array_of(key) for key in lost}) or {}
        arrays = {array_of(key) for key in listed}
        for key in lost:
            word = VANISHED if array_of(key) in arrays else FORGOTTEN
            jobs[key] = told.get(key) or replace(before.jobs.get(key, NOTHING), state=word, reason="")
    return SlurmAnswer(jobs, now, now)


def _read(grid: Path) -> SlurmAnswer:
    try:
        return records.checked(SlurmAnswer, records.read_json(grid / FILE))
    except ValueError:  # of another version
        return SlurmAnswer()


UNSEEN = Job("PENDING", "", "", "")
"""What a job is taken for that Slurm hasn't been asked about yet, or can't be."""
DOES = {"shards": "makes the shards of", "launch": "submits the cells of"}
OVER = {"shards": ("COMPLETED",), "launch": ("COMPLETED", FORGOTTEN)}
"""States of which there is nothing to tell: a set that isn't there was not made, but cells may be blocked by else."""


@dataclass(frozen=True)
class ShardingJob:
    """Such a job, as Slurm showed it last."""

    job: str
    does: str
    state: str
    """Slurm's word; PENDING where there is none yet."""
    active: bool
    """Whether it waits or runs."""
    node: str | None
    seconds: int | None
    """How long it has run when Slurm was asked; None when it doesn't."""
    reason: str | None
    """Why it waits, or how it ended with the last line that it said."""


def sharding_submissions(submissions: Iterable[Submission]) -> dict[str, Submission]:
    """By job, the newest of each kind and set; of sets that are there, none that makes them."""
    newest = {
        (entry.kind, entry.shards): entry
        for entry in submissions if entry.kind in DOES and entry.job and not entry.dropped
    }  # fmt: skip
    return {
        str(entry.job): entry
        for entry in newest.values()
        if entry.kind == "launch" or not manifests.path_of(Path(str(entry.shards))).exists()
    }


def sharding_jobs(grid: Path, entries: Mapping[str, Submission], jobs: Mapping[str, Job]) -> list[ShardingJob]:
    """All but the ones that did what they were to do, as far as is known."""
    found = [(number, entry, jobs.get(number, UNSEEN)) for number, entry in entries.items()]
    return [_told(grid, number, entry, job) for number, entry, job in found if job.state not in OVER[entry.kind]]


def _told(grid: Path, number: str, entry: Submission, job: Job) -> ShardingJob:
    does = f"{DOES[entry.kind]} {Path(str(entry.shards)).name}"
    if job.active:
        reason = job.reason if job.reason not in ("", "None") else None
    else:
        words = [ending(job), last_line(outputs(grid, entry.tag, number))]
        reason = "; ".join(word for word in words if word)
    seconds = job.seconds if job.running else None
    return ShardingJob(number, does, job.state, job.active, job.node or None, seconds, reason)


STATES = (
    "done", "running", "starting", "queued", "new", "stopped", "preempted", "died", "failed", "cancelled", "blocked",
)  # fmt: skip
"""`starting`: its job runs, and it has not said a word. `blocked`: it can't be trained as things are."""
ALIVE = {"queued", "starting", "running"}
"""States of cells that wait or run."""
OF_INTEREST = ("running", "starting", "died", "failed")
"""States of cells that are listed where there are too many to list all."""


@dataclass(frozen=True)
class CellStatus:
    """One cell. What isn't known is None."""

    name: str
    folder: str | None
    state: str
    job: str | None = None
    """Its newest job or array task on Slurm."""
    attempt: int | None = None
    """How many jobs, and returns to the queue, have begun to train it."""
    node: str | None = None
    epoch: float | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    metric: float | None = None
    """The best on val so far."""
    images_per_s: float | None = None
    left_s: float | None = None
    quiet_s: float | None = None
    """Seconds since its last word: a log line, or a change of its state."""
    stuck: bool = False
    error: str | None = None
    """Why it doesn't run: the cell's own word, else Slurm's, with the last line that its job said."""


@dataclass(frozen=True)
class Overview:
    """A grid at a moment."""

    grid: str
    path: Path
    cells: list[CellStatus]
    """Without details: name, folder, state and job alone."""
    known: SlurmAnswer
    jobs: Mapping[str, Job]
    """The newest job of each cell that was submitted and isn't done, by folder."""
    sharding: list[ShardingJob]
    """The jobs that blocked cells wait for, or wait for in vain."""

    @property
    def counts(self) -> dict[str, int]:
        """Cells by state, the states that there are."""
        found = Counter(cell.state for cell in self.cells)
        return {state: found[state] for state in STATES if found[state]}

    @property
    def over(self) -> bool:
        """Whether nothing of it waits or runs any more."""
        return not (ALIVE & self.counts.keys() or any(job.active for job in self.sharding))


def overview(plan: Path) -> Overview:
    """The cells of the grid whose plan.json this is, by state. Asks Slurm at most once, and only if it was submitted.

    CellError when there is no plan.
    """
    grid = plan.parent
    name, runs = read_plan(plan)
    busy, newest = busy_and_jobs(grid)
    open_ = {run.folder for run in runs if run.folder and not (grid / run.folder / records.RESULT).exists()}
    tasks = {folder: task for folder, task in newest.items() if folder in open_}
    behind = sharding_submissions(ledger.read_submissions(grid)) if any(run.folder is None for run in runs) else {}
    told = query(grid, {*tasks.values(), *behind}) if tasks or behind else SlurmAnswer()
    jobs = {folder: told.jobs[task] for folder, task in tasks.items() if task in told.jobs}
    cells = [_cell(grid, run, open_, busy, tasks, jobs) for run in runs]
    return Overview(name, grid, cells, told, jobs, sharding_jobs(grid, behind, told.jobs))


def called_otherwise(overview: Overview) -> str:
    """What to say to a pattern that no cell's name fits."""
    example = next((f"are called like {cell.name}, and * stands for anything" for cell in overview.cells), "are none")
    return f"no cell is called so; the grid's {example}"


def busy_and_jobs(grid: Path) -> tuple[set[str], dict[str, str]]:
    """The cells that local launchers have, and the newest job of each other cell that was ever submitted."""
    tasks: dict[str, str] = {}
    made: dict[str, str] = {}
    for submission in ledger.read_submissions(grid):
        if submission.kind == "cells" and submission.job and not submission.dropped:
            tasks |= submission.jobs()
            made |= dict.fromkeys(submission.cells, submission.made)
    busy = set()
    for claim in ledger.read_claims(grid):
        busy.update(claim.busy)
        for cell in claim.cells:
            if made.get(cell, "") < claim.made:  # what its job of before came to has no meaning any more
                tasks.pop(cell, None)
    return busy, tasks


def _cell(
    grid: Path, run: PlannedRun, open_: set[str], busy: set[str], tasks: Mapping[str, str], jobs: Mapping[str, Job]
) -> CellStatus:
    if run.folder is None:
        return CellStatus(run.name, None, "blocked", error=run.reason)
    if run.folder not in open_:
        return CellStatus(run.name, run.folder, "done")
    task, job = tasks.get(run.folder), jobs.get(run.folder)
    state = state_of(grid / run.folder, task, job, run.folder in busy)
    if state == "new" and task and job is None:  # Slurm hasn't been asked about it yet, or can't be
        state = "queued"
    return CellStatus(run.name, run.folder, state, task)


def state_of(folder: Path, number: str | None, job: Job | None, busy: bool = False) -> str:
    """A cell's state, by what its folder says and what became of its newest job. `busy`: a local launcher has it."""
    if busy:  # what a waiting cell wrote in an earlier try doesn't count
        state = records.state_of(folder)
        return state if state in ("done", "running", "cancelled") else "queued"
    if job is None:
        return records.state_of(folder)
    if job.active:
        return _under_way(folder, job)
    state = records.state_of(folder)
    if state in ("done", "running", "failed", "cancelled"):
        return state
    if job.cancelled:  # what a cell writes while it is cancelled is no wish to be run again
        return "cancelled"
    return state if state != "new" else _without_a_word(folder, number, job)


def _under_way(folder: Path, job: Job) -> str:
    """The state of a cell whose job waits or runs, or did when Slurm was asked: its own last word is newer."""
    state = records.state_of(folder, queued=True)
    if state != "queued":
        return state
    if (folder / records.CANCELLED).exists():
        return "cancelled"
    if not job.running:
        return "queued"
    return "failed" if records.said(folder).state == "failed" else "starting"


def _without_a_word(folder: Path, number: str | None, job: Job) -> str:
    """The state of a cell whose job is gone and that has said nothing."""
    if job.state in (FORGOTTEN, VANISHED) and not outputs(folder.parent, folder.name, number):  # it never began
        return "cancelled" if job.state == VANISHED else "new"
    return "new" if job.state == "CANCELLED" else "died"


def note(grid: Path) -> None:
    """Note in their folders which cells were cancelled by other means than --cancel.

    Asks Slurm now, if anything was ever submitted. A job that Slurm dropped because it waited for one that failed was
    not cancelled by anyone.
    """
    busy, jobs = busy_and_jobs(grid)
    jobs = {cell: job for cell, job in jobs.items() if not (grid / cell / records.RESULT).exists()}
    told = query(grid, set(jobs.values()), every=0.0).jobs if jobs else {}
    for cell, number in jobs.items():
        job, path = told.get(number), grid / cell / records.CANCELLED
        if job and cell not in busy and not path.exists() and state_of(grid / cell, number, job) == "cancelled":
            records.write_json(path, {"by": f"scancel, job {number}", "at": None})
