"""From a grid's cells to their states: which are done, and what stands in the way of the others."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from clef import console
from clef.cells import records
from clef.cells.identity import check_shards, folder_of, identify
from clef.config import CellConfig
from clef.config.grid import FROM_GRID
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.errors import ClefError, ConfigError, ShardError
from clef.results.rows import PlannedRun

SHARDING = "sharding"
"""The state of a cell whose shards a job makes, or is about to make: it has no signature yet."""
AGAIN = ("new", "stopped", "preempted", "died")
"""States of cells that planning the grid again takes up by itself."""
ON_REQUEST = ("failed", "cancelled")
"""Those that are final until someone asks for them (`--retry-failed`)."""


@dataclass(frozen=True)
class PlannedCell:
    """One cell: its config, its folder once it has a signature, and its state (new, done, running, failed, ...)."""

    config: CellConfig
    folder: Path | None
    state: str
    error: ClefError | None = None
    """Why it can't be trained as things are."""
    parent: Path | None = None
    """The folder of the cell of this grid that must be trained before."""
    retry: bool = False
    """Whether a cell that failed or was cancelled is tried again."""
    held: bool = False
    """Whether the cell that it starts from will not be trained."""

    @property
    def todo(self) -> bool:
        """Whether submitting the grid would train it."""
        wanted = AGAIN + ON_REQUEST if self.retry else AGAIN
        return self.folder is not None and self.state in wanted and not self.held

    @property
    def left(self) -> bool:
        """Whether it is left as it is, because it failed or was cancelled, or its parent was."""
        return self.held or (self.state in ON_REQUEST and not self.retry)

    def as_run(self) -> PlannedRun:
        """The entry of plan.json."""
        c = self.config
        folder = self.folder.name if self.folder else None
        reason = "its shards were still to be made" if self.state == SHARDING else None
        reason = str(self.error) if self.error else reason
        parent = self.parent.name if self.parent else None
        return PlannedRun(
            c.name, c.dataset, c.backbone.name, c.method_label, c.seed, folder, reason, parent, c.protocol, c.against
        )


@dataclass(frozen=True)
class Plan:
    """A grid's cells, and the backbones that it names which this version does not have yet."""

    name: str
    cells: list[PlannedCell]
    unregistered: list[str]

    @property
    def blocked(self) -> list[PlannedCell]:
        """The cells that can't be trained as things are."""
        return [cell for cell in self.cells if cell.error]

    @property
    def todo(self) -> list[PlannedCell]:
        """The cells that submitting the grid would train."""
        return [cell for cell in self.cells if cell.todo]

    def check(self) -> None:
        """Raise what stands in the way of cells, of the class of the first one's error; nothing where nothing does."""
        if not self.blocked:
            return
        reasons = dict.fromkeys(str(cell.error) for cell in self.blocked)
        count = console.cells(len(self.blocked))
        raise type(self.blocked[0].error)("\n".join([f"{count} can't be trained:", *reasons]))  # type: ignore[misc]


def make(
    name: str,
    made: list[CellConfig],
    unregistered: list[str],
    queued: Collection[str] = (),
    sharding: Collection[Path] = (),
    retry: bool = False,
) -> Plan:
    """Look at the disk: shards, weights, and what each cell has left so far.

    `queued` names the folders of the cells whose job waits or runs. `sharding`: the folders of shards that a job
    makes. With `retry`, cells that failed or were cancelled are to do again.
    """
    sets: dict[str, Manifest | ShardError] = {}
    cells: dict[str, PlannedCell] = {}
    for config in sorted(made, key=lambda config: config.method.parent is not None):  # parents first
        root = config.shards
        if root in sharding:
            cells[config.name] = PlannedCell(config, None, SHARDING)
            continue
        if str(root) not in sets:
            sets[str(root)] = _manifest(root)
        parent = _parent(config, cells) if _starts_in_grid(config) else None
        cells[config.name] = _planned(name, config, sets[str(root)], queued, retry, parent)
    return Plan(name, [cells[config.name] for config in made], unregistered)


def _starts_in_grid(config: CellConfig) -> bool:
    return (config.method.parent or "").startswith(FROM_GRID)


def _parent(config: CellConfig, cells: Mapping[str, PlannedCell]) -> PlannedCell:
    """The cell of the same dataset, protocol, backbone and seed that this one starts from."""
    assert config.method.parent is not None
    name = config.model_copy(update={"label": config.method.parent.removeprefix(FROM_GRID)}).name
    if name not in cells:
        raise ConfigError(
            f"{config.name}: method.start_from={config.method.parent}: this grid has no {name}; do overrides give the "
            f"two another protocol?"
        )
    return cells[name]


def _manifest(root: Path) -> Manifest | ShardError:
    try:
        return manifests.load(root)
    except ShardError as error:
        return error


def _planned(
    grid: str,
    config: CellConfig,
    manifest: Manifest | ShardError,
    queued: Collection[str],
    retry: bool,
    parent: PlannedCell | None = None,
) -> PlannedCell:
    if parent:
        if parent.folder is None:
            return PlannedCell(config, None, parent.state, parent.error)
        method = config.method.model_copy(update={"start_from": str(parent.folder)})
        config = config.model_copy(update={"method": method})
    if isinstance(manifest, ShardError):
        return PlannedCell(config, None, "no shards", manifest)
    try:
        check_shards(config, manifest)
        folder = folder_of(config, grid, identify(config, manifest))
    except ClefError as error:
        return PlannedCell(config, None, "no cue" if isinstance(error, ShardError) else "no weights", error)
    state = records.state_of(folder, folder.name in queued)
    held = parent is not None and state != "done" and parent.left
    return PlannedCell(config, folder, state, parent=parent.folder if parent else None, retry=retry, held=held)
