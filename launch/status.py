"""Where the cells of a grid are: from their folders, from what was submitted, and from what Slurm said of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clef.cells import records
from clef.results.rows import PlannedRun, read_plan
from launch import claims, known, ledger, sharding
from launch.known import FORGOTTEN, VANISHED, Known
from launch.outputs import outputs
from launch.scheduler import Job
from launch.sharding import ShardingJob

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
    known: Known
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


def look(plan: Path) -> Overview:
    """The cells of the grid whose plan.json this is, by state. Asks Slurm at most once, and only if it was submitted.

    CellError when there is no plan.
    """
    grid = plan.parent
    name, runs = read_plan(plan)
    busy, newest = busy_and_jobs(grid)
    open_ = {run.folder for run in runs if run.folder and not (grid / run.folder / records.RESULT).exists()}
    tasks = {folder: task for folder, task in newest.items() if folder in open_}
    behind = sharding.submitted(ledger.read(grid)) if any(run.folder is None for run in runs) else {}
    told = known.look(grid, {*tasks.values(), *behind}) if tasks or behind else Known()
    jobs = {folder: told.jobs[task] for folder, task in tasks.items() if task in told.jobs}
    cells = [_cell(grid, run, open_, busy, tasks, jobs) for run in runs]
    return Overview(name, grid, cells, told, jobs, sharding.told(grid, behind, told.jobs))


def called_otherwise(overview: Overview) -> str:
    """What to say to a pattern that no cell's name fits."""
    example = next((f"are called like {cell.name}, and * stands for anything" for cell in overview.cells), "are none")
    return f"no cell is called so; the grid's {example}"


def busy_and_jobs(grid: Path) -> tuple[set[str], dict[str, str]]:
    """The cells that local launchers have, and the newest job of each other cell that was ever submitted."""
    tasks: dict[str, str] = {}
    made: dict[str, str] = {}
    for submission in ledger.read(grid):
        if submission.kind == "cells" and submission.job and not submission.dropped:
            tasks |= submission.jobs()
            made |= dict.fromkeys(submission.cells, submission.made)
    busy = set()
    for claim in claims.read(grid):
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
