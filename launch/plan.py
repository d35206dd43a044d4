"""From a grid's cells to their states: which are done, and what stands in the way of the others."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from clef import cards, records
from clef.config import CellConfig
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.errors import ClefError, ShardError
from clef.identity import check_shards, folder_of, identify
from clef.results.rows import PlannedRun


@dataclass(frozen=True)
class PlannedCell:
    """One cell: its config, its folder once it has a signature, and its state (new, done, running, failed, ...)."""

    config: CellConfig
    folder: Path | None
    state: str
    error: ClefError | None = None
    """Why it can't be trained as things are."""

    @property
    def todo(self) -> bool:
        """Whether submitting the grid would train it."""
        return self.folder is not None and self.state not in ("done", "running", "queued")

    def as_run(self) -> PlannedRun:
        """The entry of plan.json."""
        c = self.config
        folder = self.folder.name if self.folder else None
        reason = str(self.error) if self.error else None
        return PlannedRun(c.name, c.dataset, c.backbone.name, c.method.name, c.seed, folder, reason)


@dataclass(frozen=True)
class Plan:
    """A grid's cells, and the backbones that it names which this version does not have yet."""

    name: str
    cells: list[PlannedCell]
    unregistered: list[str]


def make(name: str, made: list[CellConfig], unregistered: list[str], queued: Collection[str] = ()) -> Plan:
    """Look at the disk: shards, weights, and what each cell has left so far. `queued` names the folders of the cells
    whose Slurm job waits or runs.
    """
    sets: dict[str, Manifest | ShardError] = {}
    cells = []
    for config in made:
        root = config.shards
        if str(root) not in sets:
            sets[str(root)] = _manifest(root)
        cells.append(_planned(name, config, sets[str(root)], queued))
    return Plan(name, cells, unregistered)


def datasets_to_make(made: list[CellConfig]) -> list[tuple[str, str]]:
    """The demo datasets (with their shard folder) that the grid reads and that are not there yet."""
    wanted = dict.fromkeys((config.dataset, config.runtime.shards) for config in made)
    return [
        (name, shards)
        for name, shards in wanted
        if cards.load(name).generator and not manifests.path_of(Path(shards) / name).exists()
    ]


def _manifest(root: Path) -> Manifest | ShardError:
    try:
        return manifests.load(root)
    except ShardError as error:
        return error


def _planned(grid: str, config: CellConfig, manifest: Manifest | ShardError, queued: Collection[str]) -> PlannedCell:
    if isinstance(manifest, ShardError):
        return PlannedCell(config, None, "no shards", manifest)
    try:
        check_shards(config, manifest)
        folder = folder_of(config, grid, identify(config, manifest))
    except ClefError as error:
        return PlannedCell(config, None, "no cue" if isinstance(error, ShardError) else "no weights", error)
    return PlannedCell(config, folder, records.state_of(folder, folder.name in queued))
