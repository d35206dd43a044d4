"""A grid's plan: the state of each of its cells, what stands in the way, and which cells there are to train.

`make_plan` looks at the shards, the weights and the folder of each cell. `missing_shards` finds the sets of shards that
can be made first. `prepare_cell` makes a cell's folder ready for the job that trains it, wherever that runs. Why is a
cell not submitted? Start at the list of files in grid.py.
"""

import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from clef import console
from clef.cells import records
from clef.cells.identity import check_shards, folder_of, signature_of, write_config
from clef.cells.plan_file import PlannedRun
from clef.config import CellConfig
from clef.config.grid import FROM_GRID
from clef.console import err
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.errors import ClefError, ConfigError, SetupError, ShardError

SHARDING = "sharding"
"""The state of a cell whose shards a job makes, or is about to make: it has no signature yet."""
RESUMABLE_STATES = ("new", "stopped", "preempted", "died")
"""States of cells that the next run of the launcher trains."""
FINAL_STATES = ("failed", "cancelled")
"""States of cells that it trains only with `--retry-failed`."""


@dataclass(frozen=True)
class PlannedCell:
    """One cell: its config, its folder once it has a signature, and its state.

    With a folder, the state is that of `records.state_of`, or `not writable`. Without one it is `sharding`, or says why
    the cell is untrainable: `no shards`, `wrong shards`, `no weights` or `wrong config`, which `error` explains.
    """

    config: CellConfig
    folder: Path | None
    state: str
    error: ClefError | None = None
    """Why it can't be trained as things are."""
    parent: Path | None = None
    """The folder of the cell of this grid that must be trained before it."""
    retry: bool = False
    """Whether a cell that failed or was cancelled is trained again."""
    parent_skipped: bool = False
    """Whether the cell that it starts from will not be trained."""

    @property
    def todo(self) -> bool:
        """Return whether submitting the grid would train it."""
        wanted = RESUMABLE_STATES + FINAL_STATES if self.retry else RESUMABLE_STATES
        return self.folder is not None and self.state in wanted and not self.parent_skipped

    @property
    def skipped(self) -> bool:
        """Return whether it is left as it is because it failed or was cancelled, or its parent was."""
        return self.parent_skipped or (self.state in FINAL_STATES and not self.retry)

    def as_run(self) -> PlannedRun:
        """Return its entry in plan.json."""
        config = self.config
        reason = "its shards were still to be made" if self.state == SHARDING else None
        return PlannedRun(
            name=config.name,
            dataset=config.card.name,
            backbone=config.backbone_name,
            method=config.method_label,
            seed=config.seed,
            folder=self.folder.name if self.folder else None,
            reason=str(self.error) if self.error else reason,
            parent=self.parent.name if self.parent else None,
            protocol=config.protocol,
            against=config.against,
            preset_of=config.method.name if config.label else None,
            card=_absolute_card(config.dataset),
        )


@dataclass(frozen=True)
class Plan:
    """A grid's cells, in the order of the grid."""

    name: str
    cells: list[PlannedCell]

    @property
    def untrainable(self) -> list[PlannedCell]:
        """Return the cells that can't be trained as things are."""
        return [cell for cell in self.cells if cell.error]

    @property
    def todo(self) -> list[PlannedCell]:
        """Return the cells that submitting the grid would train."""
        return [cell for cell in self.cells if cell.todo]

    def startable(self, cells: list[PlannedCell], jobs: Collection[str] = ()) -> list[PlannedCell]:
        """Return those of `cells` whose parent, if they have one, is done, among them, or has one of these `jobs`.

        The others can't be trained now: their parent ended meanwhile, or another launcher trains it. `jobs`: names of
        the folders of cells that Slurm has.
        """
        ready = {
            cell.folder for cell in self.cells if cell.state == "done" or (cell.folder and cell.folder.name in jobs)
        }
        ready |= {cell.folder for cell in cells}
        return [cell for cell in cells if cell.parent is None or cell.parent in ready]

    def raise_if_untrainable(self) -> None:
        """Raise an error with what stands in the way of untrainable cells, if any, of the class of the first one's."""
        if not self.untrainable:
            return
        reasons = dict.fromkeys(str(cell.error) for cell in self.untrainable)
        count = console.format_cells(len(self.untrainable))
        raise type(self.untrainable[0].error)("\n".join([f"{count} can't be trained:", *reasons]))  # type: ignore[misc]


# ---- from configs to states ----


def make_plan(
    name: str,
    configs: list[CellConfig],
    busy: Collection[str] = (),
    sharding: Collection[Path] = (),
    retry: bool = False,
    cancelled: Collection[str] = (),
) -> Plan:
    """Look at the disk (shards, weights, and the folder of each cell) and return the plan of a grid.

    `busy`: names of the folders of cells that Slurm has, or a local launcher. `sharding`: the folders of shards that a
    job makes or is about to make. With `retry`, cells that failed or were cancelled are to be trained again.
    `cancelled`: names of the folders of cells that were cancelled, where their folders may not say so yet.
    """
    manifest_of: dict[Path, Manifest | ShardError] = {}
    cells: dict[str, PlannedCell] = {}
    for config in sorted(configs, key=lambda config: config.method.parent is not None):  # parents first
        shards = config.shards
        if shards in sharding:
            cells[config.name] = PlannedCell(config, None, SHARDING)
            continue
        if shards not in manifest_of:
            manifest_of[shards] = _load_manifest(shards)
        parent = _parent_of(config, cells) if _has_parent_in_grid(config) else None
        cells[config.name] = _plan_cell(name, config, manifest_of[shards], busy, retry, cancelled, parent)
    return Plan(name, [cells[config.name] for config in configs])


def _load_manifest(shards: Path) -> Manifest | ShardError:
    try:
        return manifests.load(shards)
    except ShardError as error:
        return error


def _has_parent_in_grid(config: CellConfig) -> bool:
    return (config.method.parent or "").startswith(FROM_GRID)


def _parent_of(config: CellConfig, cells: Mapping[str, PlannedCell]) -> PlannedCell:
    """Return the cell of the same dataset, protocol, backbone and seed that this one starts from."""
    assert config.method.parent is not None
    name = config.model_copy(update={"label": config.method.parent.removeprefix(FROM_GRID)}).name
    if name not in cells:
        raise ConfigError(
            f"{config.name}: method.start_from={config.method.parent}: this grid has no {name}; do overrides give the "
            f"two different protocols?"
        )
    return cells[name]


def _plan_cell(
    grid: str,
    config: CellConfig,
    manifest: Manifest | ShardError,
    busy: Collection[str],
    retry: bool,
    cancelled: Collection[str],
    parent: PlannedCell | None,
) -> PlannedCell:
    """Find a cell's folder and state, or why it has none. `parent`: the cell of this grid that it starts from."""
    if parent:
        if parent.folder is None or parent.error:
            return PlannedCell(config, None, parent.state, parent.error)
        if not parent.config.runtime.checkpoints:
            return PlannedCell(config, None, "wrong config", _no_weights_to_start_from(config, parent))
        method = config.method.model_copy(update={"start_from": str(parent.folder)})
        config = config.model_copy(update={"method": method})
    if isinstance(manifest, ShardError):
        return PlannedCell(config, None, "no shards", manifest)
    try:
        check_shards(config, manifest)
        folder = folder_of(config, grid, signature_of(config, manifest))
    except ShardError as error:  # of another card, or without a cue, a split or a member that the cell reads
        return PlannedCell(config, None, "wrong shards", error)
    except SetupError as error:
        return PlannedCell(config, None, "no weights", error)
    except ClefError as error:  # such as a start_from that is no cell
        return PlannedCell(config, None, "wrong config", error)
    state = records.state_of(folder, folder.name in busy)
    if folder.name in cancelled and state not in ("done", "running", "queued"):
        state = "cancelled"
    parent_skipped = parent is not None and state != "done" and parent.skipped
    cell = PlannedCell(
        config, folder, state, parent=parent.folder if parent else None, retry=retry, parent_skipped=parent_skipped
    )
    try:
        if cell.todo:
            records.check_writable(folder)
    except SetupError as error:
        return replace(cell, state="not writable", error=error)
    return cell


def _no_weights_to_start_from(config: CellConfig, parent: PlannedCell) -> ConfigError:
    return ConfigError(
        f"{config.name}: it starts from {parent.config.name}, which keeps no weights (runtime.checkpoints=false); set "
        f"runtime.checkpoints=true where method={parent.config.method_label}"
    )


def cell_folder(cell: PlannedCell) -> Path:
    """Return the folder of a cell that has a signature."""
    assert cell.folder is not None
    return cell.folder


# ---- a cell made ready for its job ----


def prepare_cell(cell: PlannedCell, threads: int, scratch: str = "") -> str:
    """Make the cell's folder, with its config in it and no state of an earlier attempt. Returns its absolute path.

    All paths in the config become absolute: the job may start elsewhere. `threads` and `scratch` are for cells that
    don't state their own.
    """
    config = _with_absolute_paths(cell.config)
    runtime = config.runtime
    runtime = runtime.model_copy(update={"threads": runtime.threads or threads, "scratch": runtime.scratch or scratch})
    write_config(cell_folder(cell), config.model_copy(update={"runtime": runtime}))
    for name in (records.STATE, records.CANCELLED):
        (cell_folder(cell) / name).unlink(missing_ok=True)
    return str(cell_folder(cell).resolve())


def _absolute_card(name: str) -> str:
    """Return the name of a shipped card, or the absolute path of one of the user's."""
    return str(Path(name).expanduser().resolve()) if name.endswith(".yaml") else name


def _with_absolute_paths(config: CellConfig) -> CellConfig:
    """Return the config with every path in it absolute: folders, weights named by their file, the cell to start from.

    A name of weights has no slash, and a scratch folder with a variable (`$TMPDIR`) is for the job to expand.
    """
    content = config.model_dump(mode="json")
    content["dataset"] = _absolute_card(content["dataset"])
    method, weights, runtime = content["method"], content["backbone"]["weights"], content["runtime"]
    entries = [(runtime, key) for key in ("shards", "output_dir", "weights", "features")]
    if runtime["scratch"] and "$" not in runtime["scratch"]:
        entries.append((runtime, "scratch"))
    if method.get("start_from"):
        entries.append((method, "start_from"))
    encoders = [method[name] for name in config.method.encoders]
    encoders += content["backbone"].get("encoders", {}).values()
    weight_entries = [(weights, key) for key in weights] + [(encoder, "weights") for encoder in encoders]
    entries += [(mapping, key) for mapping, key in weight_entries if "/" in mapping[key]]
    for mapping, key in entries:
        mapping[key] = str(Path(mapping[key]).expanduser().resolve())
    return CellConfig.model_validate(content)


# ---- shards that are missing ----


@dataclass(frozen=True)
class MissingShards:
    """A set of shards (a dataset under a protocol) that is missing, and whose source is known."""

    name: str
    folder: Path
    """Where the shards will lie. Absolute: a job must find it wherever it starts."""
    card: str
    protocol: str
    source: Path

    def command(self, workers: int | None = None) -> list[str]:
        """Return the command that makes the shards, or continues where an earlier one was interrupted."""
        what = ["--dataset", self.card, "--protocol", self.protocol, "--source", str(self.source.resolve())]
        pace = ["--workers", str(workers)] if workers else []
        return [sys.executable, "-m", "clef.shard", *what, "--out", str(self.folder.parent), *pace]


def missing_shards(configs: list[CellConfig], sources: Mapping[str, Path]) -> dict[Path, MissingShards]:
    """Return the missing sets of shards that can be made, by their folder as the cells name it.

    `sources`: where datasets lie, by name. Demo sets need none: they are drawn into their source first.
    """
    missing = {}
    for folder, config in {config.shards: config for config in configs}.items():
        card = config.card
        source = sources.get(card.name) or (Path(card.source) if card.generator else None)
        if source and not manifests.path_of(folder).exists():
            card_name = _absolute_card(config.dataset)
            missing[folder] = MissingShards(config.dataset_name, folder.resolve(), card_name, config.protocol, source)
    return missing


def dataset_sources(configs: list[CellConfig]) -> dict[str, str]:
    """Return the datasets of a grid, and the folder that each one's card names as its source."""
    return {config.card.name: config.card.source for config in configs}


def make_shards_here(missing: MissingShards) -> None:
    """Make shards on this machine, in a process of its own: this one never imports torch."""
    err.print(f"making the shards of {missing.name} (once)")
    done = subprocess.run(missing.command())
    if done.returncode:
        error = ClefError(f"sharding {missing.name} failed (exit code {done.returncode}); the reason is above")
        error.exit_code = max(done.returncode, 1)  # a signal's is negative
        raise error
