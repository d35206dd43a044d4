"""Which cells go to Slurm together: one array a resource shape, split where the site's arrays end, and throttled."""

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from clef.config import ResourcesConfig
from launch.plan import PlannedCell


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
