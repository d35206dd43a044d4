"""From a grid's YAML to the config of each of its cells. Reads no shards, weights or runs, and imports no torch."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from clef import yaml_config
from clef.config import CellConfig, Strict, resolve
from clef.errors import ConfigError
from clef.yaml_config import merge, nest, unknown, validate

GRIDS = "configs/grids"
"""The grids that ship."""
AXES = ("dataset", "backbone", "method", "seed")
Point = Mapping[str, Any]
"""A value on each axis: a cell of the grid."""
FROM_GRID = "@"
"""Before the name of a method of the same grid, in `method.start_from`."""


class CellSelector(Strict):
    """Selects the cells that match on every axis given. `method` names a preset, or the method that presets are of."""

    dataset: str | None = None
    backbone: str | None = None
    method: str | None = None
    seed: int | None = None

    def matches(self, point: Point, method: str) -> bool:
        """Return whether the cell at `point` lies in it; `method` is the one that the cell's preset is of."""
        stated = {axis: getattr(self, axis) for axis in AXES}
        return all(
            value in (None, point[axis]) or (axis == "method" and value == method) for axis, value in stated.items()
        )


class Preset(Strict):
    """A reading of a method, with a name of its own."""

    method: str
    set: dict[str, Any] = {}
    """Its settings; they win over the grid's overrides. `method.start_from: "@NAME"` starts from the trained cell of
    that method (or preset) with the same dataset, backbone and seed."""
    epochs_times: Annotated[int, Field(ge=1)] = 1
    """Train this many times as long, with the steps of the schedule stretched alike."""
    against: str | None = "vanilla"
    """The method or preset of the grid that it is compared with; null: none, as of a control."""


class Override(Strict):
    """Settings for the cells that `where` matches; keys may be dotted."""

    where: CellSelector = CellSelector()
    set: dict[str, Any]


class Grid(Strict):
    """A grid file; docs/grids.md documents it."""

    datasets: list[str] = Field(min_length=1)
    backbones: list[str] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    """Methods, and the names of presets."""
    presets: dict[str, Preset] = {}
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    exclude: list[CellSelector] = []
    overrides: list[Override] = []

    def preset(self, name: str) -> Preset:
        """Return the preset of that name, or the method itself as one without settings."""
        return self.presets.get(name) or Preset(method=name)


def load_grid(path: Path) -> Grid:
    """Read the grid that a YAML file describes. Raises ConfigError."""
    return validate(Grid, yaml_config.read_yaml(path), str(path))


def output_dir(grid: Grid, where: str) -> str | None:
    """Return the `runtime.output_dir` that a grid states, if it does: one for all its cells, or ConfigError."""
    stated = None
    layers = [(override.set, override.where == CellSelector()) for override in grid.overrides]
    for settings, for_all in [*layers, *((preset.set, False) for preset in grid.presets.values())]:
        runtime = nest(settings).get("runtime")
        value = runtime.get("output_dir") if isinstance(runtime, Mapping) else None
        if value is not None and not for_all:
            raise ConfigError(
                f"{where}: runtime.output_dir={value}: a grid has one; state it in an override without where"
            )
        stated = stated if value is None else str(value)
    return stated


def resolve_cells(grid: Grid, where: str, extra: Mapping[str, Any]) -> list[CellConfig]:
    """Return the resolved config of every cell, in the order of the axes.

    `where` names the grid in errors, and `extra` holds settings that win over the grid's. Raises ConfigError for a
    grid that contradicts itself, and for settings that no cell can have.
    """
    _check_backbones(grid, where)
    _check_selectors(grid, where)
    _check_presets(grid, where)
    cells: list[CellConfig] = []
    resolved: dict[Any, _Resolved] = {}
    for values in itertools.product(grid.datasets, grid.backbones, grid.methods, grid.seeds):
        point = dict(zip(AXES, values, strict=True))
        method = grid.preset(str(point["method"])).method
        if not any(exclusion.matches(point, method) for exclusion in grid.exclude):
            cells.append(_resolve_cell(grid, point, where, extra, resolved))
    if len({config.name for config in cells}) < len(cells):
        raise ConfigError(f"{where}: some axis lists a value twice")
    if not cells:
        raise ConfigError(f"{where}: no cell is left")
    return cells


_Resolved = tuple[dict[str, Any], CellConfig]
"""The settings of a cell, and its config."""


def _resolve_cell(
    grid: Grid, point: Point, where: str, extra: Mapping[str, Any], resolved: dict[Any, _Resolved]
) -> CellConfig:
    """Return the cell at a point.

    Resolving takes its time, so `resolved` keeps what was resolved, for the cells that differ in their seed alone.
    """
    preset = grid.preset(point["method"])
    overrides = tuple(i for i, override in enumerate(grid.overrides) if override.where.matches(point, preset.method))
    key = (point["dataset"], point["backbone"], point["method"], overrides)
    if key not in resolved:
        settings = merge(*(nest(grid.overrides[i].set) for i in overrides), nest(preset.set), extra)
        _check_axes(settings, {**point, "method": preset.method}, where)
        axes = {**point, "backbone": {"name": point["backbone"]}, "method": {"name": preset.method}}
        named = {"label": point["method"], "against": preset.against} if point["method"] in grid.presets else {}
        config = resolve.resolve(merge(settings, axes, named), where)
        resolved[key] = settings, _train_longer(config, preset.epochs_times)
    settings, first = resolved[key]
    _check_axes(settings, {**point, "method": preset.method}, where)
    config = first.model_copy(update={"seed": point["seed"]})
    _check_start(grid, config, point, where)
    return config


def _train_longer(config: CellConfig, times: int) -> CellConfig:
    schedule = config.schedule.model_copy(update={"step_size": config.schedule.step_size * times})
    return config.model_copy(update={"epochs": config.epochs * times, "schedule": schedule})


def _check_backbones(grid: Grid, where: str) -> None:
    """Refuse a backbone that does not exist."""
    registered = resolve.registered("backbones")
    for name in grid.backbones:
        if ":" not in name and name not in registered:
            raise ConfigError(f"{where}: " + unknown(f"backbones: {name!r}", name, registered))


def _check_start(grid: Grid, config: CellConfig, point: Point, where: str) -> None:
    """Refuse to start from a cell that this grid doesn't train, or one that is not vanilla."""
    start = config.method.parent
    if start is None or not start.startswith(FROM_GRID):
        return
    name = start.removeprefix(FROM_GRID)
    method = grid.preset(name).method
    excluded = any(exclusion.matches({**point, "method": name}, method) for exclusion in grid.exclude)
    if name not in grid.methods or method != "vanilla" or excluded:
        vanilla = [m for m in grid.methods if grid.preset(m).method == "vanilla"]
        raise ConfigError(
            f"{where}: presets.{point['method']}: method.start_from={start}: a vanilla method of this grid is expected "
            f"({', '.join(FROM_GRID + m for m in vanilla) or 'it has none'}), in the same cells"
        )


def _check_presets(grid: Grid, where: str) -> None:
    """Refuse presets that shadow a method, that nothing uses, or that name what does not exist."""
    methods = resolve.registered("methods")
    for name, preset in grid.presets.items():
        if name in methods or not re.fullmatch("[A-Za-z0-9_]+", name):
            raise ConfigError(f"{where}: presets.{name}: another name is expected, of letters, digits and _")
        if name not in grid.methods:
            raise ConfigError(f"{where}: presets.{name}: not among the grid's methods")
        others = [other for other in grid.methods if other != name]
        if preset.against not in (None, "vanilla", *others):
            text = unknown(f"presets.{name}.against: {preset.against!r}", str(preset.against), others)
            raise ConfigError(f"{where}: {text}")
        if ":" not in preset.method and preset.method not in methods:
            text = unknown(f"presets.{name}.method: {preset.method!r}", preset.method, methods)
            raise ConfigError(f"{where}: {text}")
    for name in grid.methods:
        if ":" not in name and name not in methods and name not in grid.presets:
            raise ConfigError(f"{where}: " + unknown(f"methods: {name!r}", name, [*methods, *grid.presets]))


def _check_selectors(grid: Grid, where: str) -> None:
    """Refuse an exclusion or override that names what no axis lists: a misspelt name would silently match nothing."""
    for key, selectors in (
        ("exclude", grid.exclude),
        ("overrides.where", [override.where for override in grid.overrides]),
    ):
        for selector, axis in itertools.product(selectors, AXES):
            value, values = getattr(selector, axis), list(getattr(grid, f"{axis}s"))
            if axis == "method":
                values += [preset.method for preset in grid.presets.values()]
            if value is not None and value not in values:
                raise ConfigError(f"{where}: " + unknown(f"{key}.{axis}: {value!r}", str(value), map(str, values)))


def _check_axes(settings: Mapping[str, Any], point: Point, where: str) -> None:
    """Refuse settings that contradict an axis: the axis would win silently."""
    for axis in AXES:
        stated = settings.get(axis)
        stated = stated.get("name") if isinstance(stated, Mapping) else stated
        if stated not in (None, point[axis]):
            raise ConfigError(f"{where}: {axis}={stated}: {axis} is an axis of the grid; change {axis}s in its file")
