"""From a grid's YAML to its cells: which there are, which are done, and what stands in the way of the others."""

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from clef import cards, cell, records, resources
from clef.config import CellConfig, Strict
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.errors import ClefError, ConfigError, ShardError
from clef.identity import check_shards, folder_of, identify
from clef.overrides import merge, nest, unknown, validate
from clef.results.rows import PlannedRun
from clef.results.tables import published

AXES = ("dataset", "backbone", "method", "seed")


class Exclusion(Strict):
    """Cells that match on every axis given."""

    dataset: str | None = None
    backbone: str | None = None
    method: str | None = None
    seed: int | None = None

    def matches(self, point: Mapping[str, Any]) -> bool:
        """Whether a cell lies in it."""
        return all(getattr(self, axis) in (None, point[axis]) for axis in AXES)


class Override(Strict):
    """Settings for the cells that `where` matches; keys may be dotted."""

    where: Exclusion = Exclusion()
    set: dict[str, Any]


class Grid(Strict):
    """A grid file; docs/grids.md documents it."""

    datasets: list[str] = Field(min_length=1)
    backbones: list[str] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    exclude: list[Exclusion] = []
    overrides: list[Override] = []


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


def load_grid(path: Path) -> Grid:
    """The grid that a YAML file describes."""
    return validate(Grid, resources.read_yaml(path), str(path))


def configs(grid: Grid, where: str, extra: Mapping[str, Any]) -> tuple[list[CellConfig], list[str]]:
    """The resolved config of every cell, and the published backbones that are not registered yet."""
    registered = cell.registered("backbones")
    absent = [name for name in grid.backbones if ":" not in name and name not in registered]
    for name in absent:
        if name not in published()["backbones"]:
            raise ConfigError(f"{where}: " + unknown(f"backbones: {name!r}", name, registered))
    present = [name for name in grid.backbones if name not in absent]
    _check_points(grid, where)
    made = []
    for values in itertools.product(grid.datasets, present, grid.methods, grid.seeds):
        point = dict(zip(AXES, values, strict=True))
        if any(exclusion.matches(point) for exclusion in grid.exclude):
            continue
        layers = [nest(override.set) for override in grid.overrides if override.where.matches(point)]
        settings = merge(*layers, extra)
        _check_axes(settings, point, where)
        axes = {**point, "backbone": {"name": point["backbone"]}, "method": {"name": point["method"]}}
        made.append(cell.resolve(merge(settings, axes), where))
    if len({config.name for config in made}) < len(made):
        raise ConfigError(f"{where}: some axis lists a value twice")
    if not made:
        left_out = f"; not in this version yet: {', '.join(absent)}" if absent else ""
        raise ConfigError(f"{where}: no cell is left{left_out}")
    return made, absent


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


def _check_points(grid: Grid, where: str) -> None:
    """Refuse an exclusion or override that names what no axis lists: a typing slip would match nothing, silently."""
    for key, points in (
        ("exclude", grid.exclude),
        ("overrides.where", [override.where for override in grid.overrides]),
    ):
        for point, axis in itertools.product(points, AXES):
            value, values = getattr(point, axis), getattr(grid, f"{axis}s")
            if value is not None and value not in values:
                raise ConfigError(f"{where}: " + unknown(f"{key}.{axis}: {value!r}", str(value), map(str, values)))


def _check_axes(settings: Mapping[str, Any], point: Mapping[str, Any], where: str) -> None:
    """Refuse settings that contradict an axis, which would win without a word."""
    for axis in AXES:
        stated = settings.get(axis)
        stated = stated.get("name") if isinstance(stated, Mapping) else stated
        if stated not in (None, point[axis]):
            raise ConfigError(f"{where}: {axis}={stated}: {axis} is an axis of the grid; change {axis}s in its file")


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
