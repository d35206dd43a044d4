"""Where each cell of a grid is: what is done, what runs, what is queued, what failed, and why.

`read_status` puts together three sources. The cell's own folder comes first (its result, its state file, the lock that
its process holds); then the ledger says which job, or which local launcher, has the cell; then Slurm says how that job
goes (`query_slurm`). `cell_state` holds the rules by which they become one word.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from clef.cells import records
from clef.cells.plan_file import PlannedRun, read_plan
from clef.data import manifest as manifests
from launch import ledger
from launch.job_output import last_error, output_files
from launch.ledger import Submission
from launch.slurm_answer import SlurmAnswer, describe_ending, query_slurm
from launch.slurm_commands import FORGOTTEN, VANISHED, Job
from launch.waiting import describe_waiting

STATES = (
    "done", "running", "starting", "queued", "unknown", "new", "stopped", "preempted", "died", "failed", "cancelled",
    "blocked",
)  # fmt: skip
"""`starting`: its job runs, and the cell has written nothing yet. `unknown`: squeue lists its job with a state that
isn't known here. `blocked`: it had no signature when the grid was planned, since something was missing or wrong, or its
shards were still to be made."""
ACTIVE_STATES = {"queued", "starting", "running", "unknown"}
"""States of cells that wait or run, or may."""
NOT_ASKED_YET = Job("PENDING", "", "", "")
"""What a job is taken for that Slurm hasn't been asked about yet, or can't be."""
SHARDING_PURPOSE = {"shards": "makes the shards of", "launch": "submits the cells of"}
UNREMARKABLE_STATES = {"shards": ("COMPLETED",), "launch": ("COMPLETED", FORGOTTEN)}
"""States of sharding jobs that are not shown. A job that made shards may be FORGOTTEN and the set still missing: then
the set was not made, which is worth showing. After a launcher, cells may be blocked by something else."""


# ---- the status of a grid ----


@dataclass(frozen=True)
class CellStatus:
    """The status of one cell. What isn't known is None."""

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
    """Seconds since it last wrote a log line or changed its state."""
    stuck: bool = False
    error: str | None = None
    """Why it doesn't run: why its job waits, the cell's own reason, or else Slurm's with the last error in the job's
    output. Of a cell that is no longer planned: that."""
    planned: bool = True
    """Whether the plan has it. If not, it was submitted before the grid file, or what its cells are made of, was
    changed."""


@dataclass(frozen=True)
class ShardingJob:
    """A job that blocked cells wait for: it makes shards, or submits the cells after that."""

    job: str
    does: str
    state: str
    """Slurm's word; PENDING where there is none yet."""
    active: bool
    """Whether it waits or runs."""
    node: str | None
    seconds: int | None
    """How long it had run when Slurm was asked; None when it doesn't run."""
    reason: str | None
    """Why it waits, or how it ended with the last error in its output."""


@dataclass(frozen=True)
class GridStatus:
    """The status of a grid at one moment."""

    grid: str
    path: Path
    cells: list[CellStatus]
    """Without details: only name, folder, state, job, and why it waits. Behind those of the plan, the cells that are no
    longer planned and still wait or run."""
    slurm: SlurmAnswer
    jobs: Mapping[str, Job]
    """The newest job of each cell that was submitted and isn't done, by the cell's folder."""
    sharding: list[ShardingJob]
    """The jobs that blocked cells wait for, and those that ended without making what they wait for."""

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of cells in each state that occurs."""
        counts = Counter(cell.state for cell in self.cells)
        return {state: counts[state] for state in STATES if counts[state]}

    @property
    def is_over(self) -> bool:
        """Return whether nothing of it waits or runs any more."""
        return not (ACTIVE_STATES & self.counts.keys() or any(job.active for job in self.sharding))


def read_status(plan: Path) -> GridStatus:
    """Read the status of the grid whose plan.json this is. CellError when there is no plan.

    Slurm is asked at most once, and only if something was submitted.
    """
    grid = plan.parent
    name, runs = read_plan(plan)
    local_cells, newest_jobs = local_cells_and_newest_jobs(grid)
    planned = {run.folder for run in runs if run.folder}
    unfinished = {cell for cell in planned | newest_jobs.keys() if not (grid / cell / records.RESULT).exists()}
    tasks = {cell: task for cell, task in newest_jobs.items() if cell in unfinished}
    blocked = any(run.folder is None for run in runs)
    sharding = newest_sharding_submissions(ledger.read_submissions(grid)) if blocked else {}
    answer = query_slurm(grid, {*tasks.values(), *sharding}) if tasks or sharding else SlurmAnswer()
    jobs = {cell: answer.jobs[task] for cell, task in tasks.items() if task in answer.jobs}
    cells = [_cell_status(grid, run, unfinished, local_cells, tasks, jobs) for run in runs]
    cells = _with_turns(grid, cells, Counter(newest_jobs.values()))
    cells += _unplanned_cells(grid, {*jobs, *local_cells} - planned, local_cells, tasks, jobs)
    return GridStatus(name, grid, cells, answer, jobs, sharding_jobs(grid, sharding, answer.jobs))


def no_such_cell(status: GridStatus) -> str:
    """Return what to say about a pattern that no cell's name matches."""
    if not status.cells:
        return "no cell matches; the grid has none"
    return f"no cell matches; names are like {status.cells[0].name}, and * stands for any text"


def local_cells_and_newest_jobs(grid: Path) -> tuple[set[str], dict[str, str]]:
    """Return the cells that local launchers have, and the newest job of each other cell that was ever submitted."""
    tasks: dict[str, str] = {}
    created: dict[str, str] = {}
    for submission in ledger.read_submissions(grid):
        if submission.kind == "cells" and submission.job and not submission.dropped:
            tasks |= submission.jobs()
            created |= dict.fromkeys(submission.cells, submission.created)
    local_cells = set()
    for claim in ledger.read_claims(grid):
        local_cells.update(claim.busy)
        for cell in claim.cells:
            if created.get(cell, "") < claim.created:  # how its earlier job ended no longer matters
                tasks.pop(cell, None)
    return local_cells, tasks


def _cell_status(
    grid: Path,
    run: PlannedRun,
    unfinished: Collection[str | None],
    local_cells: Collection[str],
    tasks: Mapping[str, str],
    jobs: Mapping[str, Job],
) -> CellStatus:
    if run.folder is None:
        return CellStatus(run.name, None, "blocked", error=run.reason)
    if run.folder not in unfinished:
        return CellStatus(run.name, run.folder, "done")
    task, job = tasks.get(run.folder), jobs.get(run.folder)
    state = cell_state(grid / run.folder, task, job, run.folder in local_cells)
    if state == "new" and task and job is None:  # Slurm hasn't been asked about it yet, or can't be
        state = "queued"
    is_held_up = state in ("queued", "unknown") or (state in ACTIVE_STATES and job and job.suspended)
    waits = describe_waiting(job, str(task)) if job and is_held_up else None
    return CellStatus(run.name, run.folder, state, task, error=waits)


def _with_turns(grid: Path, cells: list[CellStatus], sizes: Mapping[str, int]) -> list[CellStatus]:
    """Return the cells, where those that share a task with others and have not begun are said to wait for their turn.

    `sizes`: how many cells each job or array task has.
    """
    begun = Counter(cell.job for cell in cells if cell.job and cell.state == "running")
    result = []
    for cell in cells:
        if cell.job and sizes[cell.job] > 1:
            begun[cell.job] += cell.state == "starting"
            if cell.state == "starting" and begun[cell.job] > 1:
                cell = replace(cell, state="queued", error=f"waits for its turn in job {cell.job}")
            elif cell.state == "died" and records.read_state(grid / str(cell.folder)).state == "new":
                cell = replace(cell, state="new")  # it was another one's turn when the task ended
        result.append(cell)
    return result


def _unplanned_cells(
    grid: Path, cells: Iterable[str], local_cells: Collection[str], tasks: Mapping[str, str], jobs: Mapping[str, Job]
) -> list[CellStatus]:
    """Return those of the cells that wait or run; each is called like its folder, for the plan may have its name."""
    states = {cell: cell_state(grid / cell, tasks.get(cell), jobs.get(cell), cell in local_cells) for cell in cells}
    error = "no longer in the plan (the grid file, or what its cells are made of, was changed); --cancel ends it"
    return [
        CellStatus(cell, cell, state, tasks.get(cell), error=error, planned=False)
        for cell, state in sorted(states.items())
        if state in ACTIVE_STATES
    ]


# ---- the state of a cell ----


def cell_state(folder: Path, task: str | None, job: Job | None, is_local: bool = False) -> str:
    """Return a cell's state, from what its folder says and from how its newest job goes.

    `task` is the id of that job, and `job` what Slurm says of it. `is_local`: a local launcher has the cell.
    """
    if is_local:  # what a waiting cell wrote in an earlier attempt doesn't count
        state = records.state_of(folder)
        return state if state in ("done", "running", "cancelled") else "queued"
    if job is None:
        return records.state_of(folder)
    if job.active:
        return _state_with_active_job(folder, job)
    state = records.state_of(folder)
    if state in ("done", "running", "failed", "cancelled"):
        return state
    if job.cancelled:  # what a cell writes while it is being cancelled doesn't ask for another run
        return "cancelled"
    if job.state == "PREEMPTED":  # and not queued again
        return "preempted"
    return state if state != "new" else _state_without_output(folder, task, job)


def _state_with_active_job(folder: Path, job: Job) -> str:
    """Return the state of a cell whose job waits or runs, or did when Slurm was asked: the cell's file is newer."""
    if not job.known:
        state = records.state_of(folder)
        return state if state in ("done", "running", "failed", "cancelled") else "unknown"
    state = records.state_of(folder, has_job=True)
    if state == "running" and not job.running:  # it says so since an attempt that was killed, or its job has just begun
        state = "running" if records.state_of(folder) == "running" else "queued"
    if state != "queued":
        return state
    if (folder / records.CANCELLED).exists():
        return "cancelled"
    if not job.running:
        return "queued"
    return "failed" if records.read_state(folder).state == "failed" else "starting"


def _state_without_output(folder: Path, task: str | None, job: Job) -> str:
    """Return the state of a cell whose job is gone and that has written nothing."""
    if job.state in (FORGOTTEN, VANISHED) and not output_files(folder.parent, folder.name, task):  # it never began
        return "cancelled" if job.state == VANISHED else "new"
    # CANCELLED, but by nobody (`Job.cancelled`): Slurm dropped it because its parent failed.
    return "new" if job.state == "CANCELLED" else "died"


def find_cancelled(grid: Path, keep_answer: bool = True) -> dict[str, str]:
    """Return the jobs of cells that were cancelled by other means than --cancel, by the name of the cell's folder.

    Asks Slurm now, if anything was ever submitted. A job that Slurm dropped because it waited for one that failed was
    not cancelled by anyone. `keep_answer`: see `query_slurm`.
    """
    local_cells, newest_jobs = local_cells_and_newest_jobs(grid)
    tasks = {cell: task for cell, task in newest_jobs.items() if not (grid / cell / records.RESULT).exists()}
    jobs = query_slurm(grid, set(tasks.values()), interval=0.0, keep_answer=keep_answer).jobs if tasks else {}
    return {
        cell: task
        for cell, task in tasks.items()
        if (job := jobs.get(task)) and cell not in local_cells
        if not (grid / cell / records.CANCELLED).exists() and cell_state(grid / cell, task, job) == "cancelled"
    }


def note_cancelled(grid: Path, cancelled: Mapping[str, str]) -> None:
    """Write into their folders that these cells were cancelled: Slurm forgets it, and planning goes by that."""
    for cell, task in cancelled.items():
        records.write_json(grid / cell / records.CANCELLED, {"by": f"scancel, job {task}", "at": None})


# ---- the jobs that make shards ----


def newest_sharding_submissions(submissions: Iterable[Submission]) -> dict[str, Submission]:
    """Return the newest submission of each kind and set of shards, by job.

    Of a set that is there, the job that made it is left out.
    """
    newest = {
        (submission.kind, submission.shards): submission
        for submission in submissions
        if submission.kind in SHARDING_PURPOSE and submission.job and not submission.dropped
    }
    return {
        str(submission.job): submission
        for submission in newest.values()
        if submission.kind == "launch" or not manifests.path_of(Path(str(submission.shards))).exists()
    }


def sharding_jobs(grid: Path, submissions: Mapping[str, Submission], jobs: Mapping[str, Job]) -> list[ShardingJob]:
    """Return how these jobs go, without those that did what they were submitted for, as far as is known."""
    return [
        _sharding_job(grid, submission, job)
        for number, submission in submissions.items()
        if (job := jobs.get(number, NOT_ASKED_YET)).state not in UNREMARKABLE_STATES[submission.kind]
    ]


def _sharding_job(grid: Path, submission: Submission, job: Job) -> ShardingJob:
    number = str(submission.job)
    if job.active:
        reason = describe_waiting(job, number)
    else:
        words = [describe_ending(job), last_error(output_files(grid, submission.tag, number))]
        reason = "; ".join(word for word in words if word)
    return ShardingJob(
        job=number,
        does=f"{SHARDING_PURPOSE[submission.kind]} {Path(str(submission.shards)).name}",
        state=job.state,
        active=job.active,
        node=job.node or None,
        seconds=job.seconds if job.running else None,
        reason=reason,
    )
