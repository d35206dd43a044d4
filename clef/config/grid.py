"""From a grid's YAML to the config of each of its cells. Looks at no shards, weights or runs, and imports no torch."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from clef.config import CellConfig, Strict, base, resolve
from clef.config.base import merge, nest, unknown, validate
from clef.errors import ConfigError
from clef.results.published import published

AXES = ("dataset", "backbone", "method", "seed")
FROM_GRID = "@"
"""Before the name of a method of the same grid, in `method.start_from`."""


Resolved = dict[Any, tuple[dict[str, Any], CellConfig]]
"""The settings and the config of a cell, by all that cells have in common which differ in their seed alone."""


class Exclusion(Strict):
    """Cells that match on every axis given. `method` names a preset, or the method behind presets."""

    dataset: str | None = None
    backbone: str | None = None
    method: str | None = None
    seed: int | None = None

    def matches(self, point: Mapping[str, Any], behind: str) -> bool:
        """Whether a cell lies in it; `behind` is the method of the cell's preset."""
        stated = {axis: getattr(self, axis) for axis in AXES}
        return all(
            value in (None, point[axis]) or (axis == "method" and value == behind) for axis, value in stated.items()
        )


class Preset(Strict):
    """A reading of a method, with a name of its own."""

    method: str
    set: dict[str, Any] = {}
    """Its settings; they win over the grid's overrides. `method.start_from: "@NAME"` starts from the trained cell of
    that method (or preset) with the same dataset, backbone and seed."""
    epochs_times: Annotated[int, Field(ge=1)] = 1
    """Train so many times as long, the steps of the schedule stretched alike."""
    against: str | None = "vanilla"
    """The method or preset of the grid that it is compared with; null: none, as of a control."""


class Override(Strict):
    """Settings for the cells that `where` matches; keys may be dotted."""

    where: Exclusion = Exclusion()
    set: dict[str, Any]


class Grid(Strict):
    """A grid file; docs/grids.md documents it."""

    datasets: list[str] = Field(min_length=1)
    backbones: list[str] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    """Methods, and the names of presets."""
    presets: dict[str, Preset] = {}
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    exclude: list[Exclusion] = []
    overrides: list[Override] = []

    def preset(self, name: str) -> Preset:
        """The preset of that name, or the method itself."""
        return self.presets.get(name) or Preset(method=name)


def load_grid(path: Path) -> Grid:
    """The grid that a YAML file describes."""
    return validate(Grid, base.read_yaml(path), str(path))


def configs(grid: Grid, where: str, extra: Mapping[str, Any]) -> tuple[list[CellConfig], list[str]]:
    """The resolved config of every cell, and the published backbones that are not registered yet."""
    registered = resolve.registered("backbones")
    absent = [name for name in grid.backbones if ":" not in name and name not in registered]
    for name in absent:
        if name not in published()["backbones"]:
            raise ConfigError(f"{where}: " + unknown(f"backbones: {name!r}", name, registered))
    present = [name for name in grid.backbones if name not in absent]
    _check_points(grid, where)
    _check_presets(grid, where)
    made: list[CellConfig] = []
    resolved: Resolved = {}
    for values in itertools.product(grid.datasets, present, grid.methods, grid.seeds):
        point = dict(zip(AXES, values, strict=True))
        preset = grid.preset(str(point["method"]))
        if not any(exclusion.matches(point, preset.method) for exclusion in grid.exclude):
            made.append(_cell(grid, point, preset, where, extra, resolved))
    if len({config.name for config in made}) < len(made):
        raise ConfigError(f"{where}: some axis lists a value twice")
    if not made:
        left_out = f"; not in this version yet: {', '.join(absent)}" if absent else ""
        raise ConfigError(f"{where}: no cell is left{left_out}")
    return made, absent


def _cell(
    grid: Grid,
    point: dict[str, Any],
    preset: Preset,
    where: str,
    extra: Mapping[str, Any],
    resolved: Resolved,
) -> CellConfig:
    """The cell at a point. What is in `resolved` is not resolved again, which takes its time."""
    applied = tuple(i for i, override in enumerate(grid.overrides) if override.where.matches(point, preset.method))
    same = (point["dataset"], point["backbone"], point["method"], applied)
    if same not in resolved:
        settings = merge(*(nest(grid.overrides[i].set) for i in applied), nest(preset.set), extra)
        axes = {**point, "backbone": {"name": point["backbone"]}, "method": {"name": preset.method}}
        told = {"label": point["method"], "against": preset.against} if point["method"] in grid.presets else {}
        _check_axes(settings, {**point, "method": preset.method}, where)
        made = _longer(resolve.resolve(merge(settings, axes, told), where), preset.epochs_times)
        resolved[same] = settings, made
    settings, first = resolved[same]
    _check_axes(settings, {**point, "method": preset.method}, where)
    made = first.model_copy(update={"seed": point["seed"]})
    _check_start(grid, made, point, where)
    return made


def _longer(config: CellConfig, times: int) -> CellConfig:
    schedule = config.schedule.model_copy(update={"every": config.schedule.every * times})
    return config.model_copy(update={"epochs": config.epochs * times, "schedule": schedule})


def _check_start(grid: Grid, config: CellConfig, point: Mapping[str, Any], where: str) -> None:
    """Refuse a start from a cell that this grid doesn't train before."""
    start = config.method.parent
    if start is None or not start.startswith(FROM_GRID):
        return
    name = start.removeprefix(FROM_GRID)
    behind = grid.preset(name).method
    gone = any(exclusion.matches({**point, "method": name}, behind) for exclusion in grid.exclude)
    if name not in grid.methods or behind != "vanilla" or gone:
        vanilla = [m for m in grid.methods if grid.preset(m).method == "vanilla"]
        raise ConfigError(
            f"{where}: presets.{point['method']}: method.start_from={start}: a vanilla method of this grid is expected "
            f"({', '.join(FROM_GRID + m for m in vanilla) or 'it has none'}), in the same cells"
        )


def _check_presets(grid: Grid, where: str) -> None:
    """Refuse presets that shadow a method, or that nothing uses."""
    methods = resolve.registered("methods")
    for name, preset in grid.presets.items():
        if name in methods or not re.fullmatch("[A-Za-z0-9_]+", name):
            raise ConfigError(f"{where}: presets.{name}: another name is expected, of letters, digits and _")
        if name not in grid.methods:
            raise ConfigError(f"{where}: presets.{name}: not among the grid's methods")
        others = [one for one in grid.methods if one != name]
        if preset.against not in (None, "vanilla", *others):
            text = unknown(f"presets.{name}.against: {preset.against!r}", str(preset.against), others)
            raise ConfigError(f"{where}: {text}")
        if ":" not in preset.method and preset.method not in methods:
            text = unknown(f"presets.{name}.method: {preset.method!r}", preset.method, methods)
            raise ConfigError(f"{where}: {text}")
    for name in grid.methods:
        if ":" not in name and name not in methods and name not in grid.presets:
            raise ConfigError(f"{where}: " + unknown(f"methods: {name!r}", name, [*methods, *grid.presets]))


def _check_points(grid: Grid, where: str) -> None:
    """Refuse an exclusion or override that names what no axis lists: a typing slip would match nothing, silently."""
    for key, points in (
        ("exclude", grid.exclude),
        ("overrides.where", [override.where for override in grid.overrides]),
    ):
        for point, axis in itertools.product(points, AXES):
            value, values = getattr(point, axis), list(getattr(grid, f"{axis}s"))
            if axis == "method":
                values += [preset.method for preset in grid.presets.values()]
            if value is not None and value not in values:
                raise ConfigError(f"{where}: " + unknown(f"{key}.{axis}: {value!r}", str(value), map(str, values)))


def _check_axes(settings: Mapping[str, Any], point: Mapping[str, Any], where: str) -> None:
    """Refuse settings that contradict an axis, which would win without a word."""
    for axis in AXES:
        stated = settings.get(axis)
        stated = stated.get("name") if isinstance(stated, Mapping) else stated
        if stated not in (None, point[axis]):
            raise ConfigError(f"{where}: {axis}={stated}: {axis} is an axis of the grid; change {axis}s in its file")
