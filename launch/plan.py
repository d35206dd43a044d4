"""From a grid's cells to their states: which are done, and what stands in the way of the others.

A cell's folder made ready for the job that will train it, wherever that runs.

Sets of shards that a grid reads and that are not there yet, and the command that makes each.
"""

import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from clef import console
from clef.cells import records
from clef.cells.identity import check_shards, folder_of, identify, write_config
from clef.config import CellConfig
from clef.config.grid import FROM_GRID
from clef.console import err
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.datasets import cards
from clef.errors import ClefError, ConfigError, ShardError
from clef.results.frame import PlannedRun

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


def cell_folder(cell: PlannedCell) -> Path:
    """The folder of a cell that has a signature."""
    assert cell.folder is not None
    return cell.folder


def prepare_cell(cell: PlannedCell, threads: int, scratch: str = "") -> str:
    """Make the cell's folder, with its config in it and no state of an earlier try.

    All paths are absolute: the job may run elsewhere. `threads` and `scratch` are for cells that don't state their own.
    """
    config = _with_absolute_paths(cell.config)
    stated = config.runtime
    runtime = stated.model_copy(update={"threads": stated.threads or threads, "scratch": stated.scratch or scratch})
    write_config(cell_folder(cell), config.model_copy(update={"runtime": runtime}))
    for name in (records.STATE, records.CANCELLED):
        (cell_folder(cell) / name).unlink(missing_ok=True)
    return str(cell_folder(cell).resolve())


def _with_absolute_paths(config: CellConfig) -> CellConfig:
    """Every path in the config made absolute: places, weights named by their file, the cell to start from."""
    content = config.model_dump(mode="json")
    method, stated = content["method"], content["backbone"]["weights"]
    runtime = content["runtime"]
    found = [(runtime, key) for key in ("shards", "out", "weights", "features")]
    found += [(runtime, "scratch")] if runtime["scratch"] and "$" not in runtime["scratch"] else []
    found += [(method, "start_from")] if method.get("start_from") else []
    encoders = [encoder for encoder in (method.get("context_branch"), method.get("dictionary")) if encoder]
    named = [(stated, key) for key in stated] + [(encoder, "weights") for encoder in encoders]
    found += [(place, key) for place, key in named if "/" in place[key]]
    for place, key in found:
        place[key] = _absolute(place[key])
    return CellConfig.model_validate(content)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


@dataclass(frozen=True)
class MissingSet:
    """A dataset as a protocol has it, whose source is known and whose shards are missing."""

    name: str
    folder: Path
    """Where the shards will lie, absolute: what a job must find wherever it starts."""
    card: str
    protocol: str
    source: Path

    def command(self, workers: int | None = None) -> list[str]:
        """What makes the shards, or goes on where it was broken off."""
        what = ["--dataset", self.card, "--protocol", self.protocol, "--source", str(self.source.resolve())]
        pace = ["--workers", str(workers)] if workers else []
        return [sys.executable, "-m", "clef.shard", *what, "--out", str(self.folder.parent), *pace]


def missing(configs: list[CellConfig], sources: Mapping[str, Path]) -> dict[Path, MissingSet]:
    """The sets that can be made, by their folder as the cells name it. Demo sets are drawn into their source first."""
    wanted = {config.shards: config for config in configs}
    found = {}
    for folder, config in wanted.items():
        card = cards.load(config.dataset, config.protocol)
        source = sources.get(card.name) or (Path(card.source) if card.generator else None)
        if source and not manifests.path_of(folder).exists():
            path = str(Path(config.dataset).resolve()) if config.dataset.endswith(".yaml") else config.dataset
            found[folder] = MissingSet(config.dataset_name, folder.resolve(), path, config.protocol, source)
    return found


def cards_of(configs: list[CellConfig]) -> dict[str, str]:
    """The datasets of a grid, and the folder that each one's card names as its source."""
    return {(card := cards.load(name)).name: card.source for name in dict.fromkeys(c.dataset for c in configs)}


def make_here(made: MissingSet) -> None:
    """Shard it on this machine, in a process of its own: this one never imports torch."""
    err.print(f"making the shards of {made.name} (once)")
    done = subprocess.run(made.command())
    if done.returncode:
        error = ClefError(f"sharding {made.name} failed (exit code {done.returncode}); the reason is above")
        error.exit_code = max(done.returncode, 1)  # a signal's is negative
        raise error
