"""What a run of the launcher would hand to Slurm: shown before it is confirmed, and made again then."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from clef.config import CellConfig
from launch import arrays, cancelled, claims, plan, queued, sets
from launch.arrays import Batch
from launch.plan import Plan
from launch.queued import Queued
from launch.sets import MissingSet


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
        cancelled.note(grid)
        jobs = queued.look(grid)  # before the disk: a job that ends in between has left its result, or its shards
        missing = sets.missing(configs[0], sources)
        made = plan.make(name, *configs, {*jobs.cells, *claims.busy(grid)}, missing, retry)
        at_work = [each for each in missing.values() if _at_work(each, jobs)]
        todo = [each for each in missing.values() if each not in at_work]
        return Proposal(made, jobs, arrays.batch(made.todo, jobs.cells, *throttle), todo, at_work)

    return look


def _at_work(made: MissingSet, jobs: Queued) -> bool:
    keys: list[Collection[str]] = [jobs.shards, jobs.launches]
    return all(str(made.folder) in key for key in keys)
