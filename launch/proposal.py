"""What a run of the launcher would hand to Slurm: shown before it is confirmed, and made again then.

`make_proposal` looks at Slurm and at the disk. `arrange_jobs` puts cells together: one job array for each shape of
resources, split where the site's arrays end, and throttled.
"""

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from clef.config import CellConfig, ResourcesConfig
from launch import ledger, status
from launch.ledger import ActiveJobs
from launch.plan import MissingShards, Plan, PlannedCell, make_plan, missing_shards

# ---- cells put together into jobs ----


@dataclass(frozen=True)
class JobArray:
    """Cells of the same resources that one call of sbatch submits; a single task becomes a plain job."""

    resources: ResourcesConfig
    cells: list[PlannedCell]
    max_parallel: int | None = None
    """How many of its tasks run at the same time, at most."""

    @property
    def tasks(self) -> list[list[PlannedCell]]:
        """Return the cells of each task."""
        size = self.resources.cells_per_task
        return [self.cells[start : start + size] for start in range(0, len(self.cells), size)]


@dataclass(frozen=True)
class CellJobs:
    """The jobs that train a plan's cells."""

    arrays: list[JobArray]
    dependents: list[PlannedCell]
    """Cells that start from one which is yet to be trained: each is a job of its own, after just that cell."""

    @property
    def cells(self) -> list[PlannedCell]:
        """Return all cells, in the order of submission."""
        return [cell for array in self.arrays for cell in array.cells] + self.dependents


def arrange_jobs(
    todo: list[PlannedCell],
    active: Collection[str] = (),
    max_array_size: int | None = None,
    max_parallel: int | None = None,
) -> CellJobs:
    """Sort cells into arrays of at most `max_array_size` tasks. `active`: folders of cells that Slurm has already.

    `max_parallel` tasks run at the same time, over all the arrays: Slurm limits each array by itself, so each gets a
    part of that number by its size, and at least one.
    """
    untrained = {cell.folder for cell in todo}
    waiting = {cell.folder for cell in todo if cell.parent and (cell.parent.name in active or cell.parent in untrained)}
    dependents = [cell for cell in todo if cell.folder in waiting]
    groups = group_by_resources([cell for cell in todo if cell.folder not in waiting])
    arrays = [
        JobArray(resources, part)
        for resources, cells in groups.items()
        for part in _split(cells, resources.cells_per_task, max_array_size)
    ]
    if max_parallel is not None:
        limits = divide_limit(max_parallel, [len(array.tasks) for array in arrays])
        arrays = [replace(array, max_parallel=limit) for array, limit in zip(arrays, limits, strict=True)]
    return CellJobs(arrays, dependents)


def group_by_resources(cells: list[PlannedCell]) -> Mapping[ResourcesConfig, list[PlannedCell]]:
    """Return the cells by their resources, in the order in which these first occur."""
    groups: dict[ResourcesConfig, list[PlannedCell]] = defaultdict(list)
    for cell in cells:
        groups[cell.config.resources].append(cell)
    return dict(groups)


def divide_limit(total: int, sizes: list[int]) -> list[int]:
    """Divide `total` among arrays of these sizes: at least 1 for each, and for none more than its size.

    The slowest array, which has the most tasks for each one that runs, ends as early as it can.
    """
    limits = [1] * len(sizes)
    for _ in range(min(total, sum(sizes)) - len(sizes)):  # one more for the array that is slowest now
        slowest = max(range(len(sizes)), key=lambda i: (limits[i] < sizes[i], sizes[i] / limits[i]))
        limits[slowest] += 1
    return limits


def _split(cells: list[PlannedCell], per_task: int, max_size: int | None) -> list[list[PlannedCell]]:
    """Split cells into parts of at most `max_size` tasks, all about equally long."""
    if max_size is None:
        return [cells]
    tasks = -(-len(cells) // per_task)
    count = -(-tasks // max(1, max_size))
    ends = [tasks * i // count * per_task for i in range(count + 1)]
    return [cells[start:end] for start, end in itertools.pairwise(ends)]


# ---- the whole proposal ----


@dataclass(frozen=True)
class Proposal:
    """A plan, what Slurm has of it already, and what Slurm would get."""

    plan: Plan
    active_jobs: ActiveJobs
    cell_jobs: CellJobs
    shards_to_make: list[MissingShards]
    """Sets of shards for which a job, or the launcher after it, is to be submitted."""
    shards_in_progress: list[MissingShards]
    """Sets of shards for which Slurm has both."""

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to submit."""
        return not (self.cell_jobs.cells or self.shards_to_make)

    @property
    def later(self) -> list[PlannedCell]:
        """Return the cells to train that can't be submitted yet: something else trains the cells they start from."""
        submitted = {cell.folder for cell in self.cell_jobs.cells}
        return [cell for cell in self.plan.todo if cell.folder not in submitted]

    def restrict_to(self, shown: "Proposal") -> "Proposal":
        """Return what is left of it when only what has been shown may be submitted.

        A cell whose parent was running when it was shown, and has ended since without being done, is left out too.
        """
        confirmed = {cell.folder for cell in shown.cell_jobs.cells}
        kept = [cell for cell in self.cell_jobs.cells if cell.folder in confirmed]
        folders = {cell.folder for cell in self.plan.startable(kept, self.active_jobs.cells)}
        names = {shards.name for shards in shown.shards_to_make}
        arrays = [
            replace(array, cells=[cell for cell in array.cells if cell.folder in folders])
            for array in self.cell_jobs.arrays
        ]
        dependents = [cell for cell in self.cell_jobs.dependents if cell.folder in folders]
        return replace(
            self,
            cell_jobs=CellJobs([array for array in arrays if array.cells], dependents),
            shards_to_make=[shards for shards in self.shards_to_make if shards.name in names],
        )


def make_proposal(
    grid: Path,
    configs: list[CellConfig],
    sources: Mapping[str, Path],
    max_array_size: int | None = None,
    max_parallel: int | None = None,
    retry: bool = False,
    dry: bool = False,
) -> Proposal:
    """Look at the disk and at Slurm, and return what is to be submitted in a grid's folder.

    Cells that were cancelled with scancel get a note of that in their folders; with `dry`, nothing is written.

    `sources`: where datasets lie, so that missing shards can be made. With `retry`, cells that failed or were
    cancelled are to be trained again. SetupError when Slurm doesn't answer.
    """
    cancelled = status.find_cancelled(grid, keep_answer=not dry)
    if not dry:
        status.note_cancelled(grid, cancelled)
    # Slurm before the disk: a job that ends in between has left its result, or its shards.
    active_jobs = ledger.query_active_jobs(grid)
    missing = missing_shards(configs, sources)
    busy = {*active_jobs.cells, *ledger.claimed_cells(grid)}
    plan = make_plan(grid.name, configs, busy, missing, retry, cancelled)
    in_progress = [shards for shards in missing.values() if _is_in_progress(shards, active_jobs)]
    to_make = [shards for shards in missing.values() if shards not in in_progress]
    startable = plan.startable(plan.todo, active_jobs.cells)
    jobs = arrange_jobs(startable, active_jobs.cells, max_array_size, max_parallel)
    return Proposal(plan, active_jobs, jobs, to_make, in_progress)


def _is_in_progress(shards: MissingShards, active_jobs: ActiveJobs) -> bool:
    """Return whether Slurm has the job that makes these shards, and the one after it."""
    return str(shards.folder) in active_jobs.shards and str(shards.folder) in active_jobs.launches
