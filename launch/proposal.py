"""Which cells go to Slurm together: one array a resource shape, split where the site's arrays end, and throttled.

What a run of the launcher would hand to Slurm: shown before it is confirmed, and made again then.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from clef.config import CellConfig, ResourcesConfig
from launch import ledger, plan, status
from launch.ledger import Queued
from launch.plan import MissingSet, Plan, PlannedCell


@dataclass(frozen=True)
class Array:
    """Cells of one shape that one call of sbatch submits; a single one becomes a plain job."""

    shape: ResourcesConfig
    cells: list[PlannedCell]
    at_once: int | None = None
    """So many tasks run at the same time, at most."""


@dataclass(frozen=True)
class Batch:
    """All that is to be submitted of a plan."""

    arrays: list[Array]
    behind: list[PlannedCell]
    """Cells that start from one which is yet to be trained: each is a job of its own, behind just that one."""

    @property
    def cells(self) -> list[PlannedCell]:
        """All cells, in the order of submission."""
        return [cell for array in self.arrays for cell in array.cells] + self.behind


def batch(
    todo: list[PlannedCell], queued: Collection[str] = (), longest: int | None = None, max_parallel: int | None = None
) -> Batch:
    """Sort cells into arrays of at most `longest` tasks. `queued` names the folders of cells that Slurm has already.

    `max_parallel` cells run at the same time, over all the arrays: Slurm throttles each by itself, so each gets a part
    by its size, and at least one.
    """
    untrained = {cell.folder for cell in todo}
    waits = {cell.folder for cell in todo if cell.parent and (cell.parent.name in queued or cell.parent in untrained)}
    behind = [cell for cell in todo if cell.folder in waits]
    first = shapes([cell for cell in todo if cell.folder not in waits])
    parts = [Array(shape, part) for shape, cells in first.items() for part in _parts(cells, longest)]
    if max_parallel is None:
        return Batch(parts, behind)
    shares = share(max_parallel, [len(part.cells) for part in parts])
    return Batch([Array(part.shape, part.cells, n) for part, n in zip(parts, shares, strict=True)], behind)


def shapes(cells: list[PlannedCell]) -> Mapping[ResourcesConfig, list[PlannedCell]]:
    """The cells by resource shape, in the order in which the shapes come."""
    groups: dict[ResourcesConfig, list[PlannedCell]] = defaultdict(list)
    for cell in cells:
        groups[cell.config.resources].append(cell)
    return dict(groups)


def share(total: int, sizes: list[int]) -> list[int]:
    """`total` in whole parts in proportion to `sizes`: each at least 1, and none above its size."""
    parts = [1] * len(sizes)
    for _ in range(min(total, sum(sizes)) - len(sizes)):  # the next goes where most tasks come to one place
        parts[max(range(len(sizes)), key=lambda i: (parts[i] < sizes[i], sizes[i] / (parts[i] + 1)))] += 1
    return parts


def _parts(cells: list[PlannedCell], longest: int | None) -> list[list[PlannedCell]]:
    """Parts of at most `longest`, all about as long."""
    if longest is None:
        return [cells]
    count = -(-len(cells) // max(1, longest))
    ends = [len(cells) * i // count for i in range(count + 1)]
    return [cells[start:end] for start, end in itertools.pairwise(ends)]


@dataclass(frozen=True)
class Proposal:
    """A plan, what Slurm has of it already, and what it would get."""

    plan: Plan
    queued: Queued
    batch: Batch
    sets: list[MissingSet]
    """Sets of shards for which a job, or the one behind it, is to be submitted."""
    at_work: list[MissingSet]
    """Sets for which both are there."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to submit."""
        return not (self.batch.cells or self.sets)

    def within(self, shown: "Proposal") -> "Proposal":
        """What is left of it when only what has been shown may be submitted."""
        folders, names = {cell.folder for cell in shown.batch.cells}, {made.name for made in shown.sets}
        kept = [replace(part, cells=[c for c in part.cells if c.folder in folders]) for part in self.batch.arrays]
        behind = [cell for cell in self.batch.behind if cell.folder in folders]
        batch = Batch([part for part in kept if part.cells], behind)
        return replace(self, batch=batch, sets=[made for made in self.sets if made.name in names])


Configs = tuple[list[CellConfig], list[str]]
"""The cells of a grid, and the backbones that are not in this version."""


def proposer(
    name: str,
    grid: Path,
    configs: Configs,
    sources: dict[str, Path],
    throttle: tuple[int | None, int | None],
    retry: bool = False,
) -> Callable[[], Proposal]:
    """Makes a function that looks at the disk and at Slurm anew with each call.

    `throttle`: how long an array may be, and how many cells may run at the same time. With `retry`, cells that failed
    or were cancelled are to do again.
    """

    def look() -> Proposal:
        status.note(grid)
        jobs = ledger.look(grid)  # before the disk: a job that ends in between has left its result, or its shards
        missing = plan.missing(configs[0], sources)
        made = plan.make(name, *configs, {*jobs.cells, *ledger.claimed_cells(grid)}, missing, retry)
        at_work = [each for each in missing.values() if _at_work(each, jobs)]
        todo = [each for each in missing.values() if each not in at_work]
        return Proposal(made, jobs, batch(made.todo, jobs.cells, *throttle), todo, at_work)

    return look


def _at_work(made: MissingSet, jobs: Queued) -> bool:
    keys: list[Collection[str]] = [jobs.shards, jobs.launches]
    return all(str(made.folder) in key for key in keys)
