"""From a grid's YAML to the config of each of its cells. Reads no shards, weights or runs, and imports no torch."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from clef import yaml_config
from clef.config import CellConfig, Strict, resolve
from clef.config.named_encoders import ask_at_once
from clef.config.recipes import Kind
from clef.errors import ConfigError
from clef.yaml_config import merge, nest, unknown, validate

GRIDS = "configs/grids"
"""The grids that ship."""
AXES = ("dataset", "backbone", "method", "seed")
_KINDS: Mapping[str, Kind] = {"backbone": "backbones", "method": "methods"}
"""The axes that may list presets, with the kind of recipe behind them."""
Point = Mapping[str, Any]
"""A value on each axis: a cell of the grid."""
FROM_GRID = "@"
"""Before the name of a method of the same grid, in `method.start_from`."""


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
"""One name, or several in a list; none: any."""


class CellSelector(Strict):
    """Selects the cells that match on every axis given. A preset is named itself, or by what it is a reading of."""

    dataset: Names = ()
    backbone: Names = ()
    method: Names = ()
    seed: Annotated[tuple[int, ...], BeforeValidator(_as_list)] = ()

    def matches(self, point: Point, behind: Point) -> bool:
        """Return whether the cell at `point` lies in it; `behind` has what the cell's presets are of in their place."""
        chosen = {axis: getattr(self, axis) for axis in AXES}
        return all(not chosen[axis] or {point[axis], behind[axis]} & set(chosen[axis]) for axis in AXES)


class Preset(Strict):
    """A reading of a method or of a backbone, with a name of its own."""

    method: str | None = None
    backbone: str | None = None
    set: dict[str, Any] = {}
    """Its settings; they win over the grid's overrides. `method.start_from: "@NAME"` starts from the trained cell of
    that method (or preset) with the same dataset, backbone and seed."""
    epochs_times: Annotated[int, Field(ge=1)] = 1
    """Train this many times as long, with the steps of the schedule stretched alike."""
    against: str | None = "vanilla"
    """The method or preset of the grid that it is compared with; null: none, as of a control."""

    @model_validator(mode="after")
    def _is_of_one(self) -> "Preset":
        if (self.method is None) == (self.backbone is None):
            raise ValueError("the method or the backbone that it is a reading of is expected: one of the two")
        if self.backbone and (stated := self.model_fields_set & {"epochs_times", "against"}):
            raise ValueError(f"{min(stated)}: only a preset of a method has it")
        return self


class Override(Strict):
    """Settings for the cells that `where` matches; keys may be dotted."""

    where: CellSelector = CellSelector()
    set: dict[str, Any]


class Grid(Strict):
    """A grid file; docs/grids.md documents it."""

    datasets: list[str] = Field(min_length=1)
    backbones: list[str] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    """Methods, and as among the backbones, the names of presets."""
    presets: dict[str, Preset] = {}
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    exclude: list[CellSelector] = []
    overrides: list[Override] = []

    def preset(self, axis: str, name: str) -> Preset:
        """Return the preset of that name, or the backbone or method itself as one without settings."""
        return self.presets.get(name) or Preset.model_validate({axis: name})

    def behind(self, point: Point) -> Point:
        """Return the point with the backbone and the method that its presets are of in place of their names."""
        return {**point, **{axis: getattr(self.preset(axis, point[axis]), axis) for axis in ("backbone", "method")}}


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
    _check_presets(grid, where)
    _check_selectors(grid, where)
    ask_at_once([override.set for override in grid.overrides] + [preset.set for preset in grid.presets.values()])
    cells: list[CellConfig] = []
    resolved: dict[Any, _Resolved] = {}
    for values in itertools.product(grid.datasets, grid.backbones, grid.methods, grid.seeds):
        point = dict(zip(AXES, values, strict=True))
        if not any(exclusion.matches(point, grid.behind(point)) for exclusion in grid.exclude):
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
    backbone, method = (grid.preset(axis, point[axis]) for axis in ("backbone", "method"))
    behind = grid.behind(point)
    overrides = tuple(i for i, override in enumerate(grid.overrides) if override.where.matches(point, behind))
    key = (point["dataset"], point["backbone"], point["method"], overrides)
    if key not in resolved:
        layers = [grid.overrides[i].set for i in overrides] + [backbone.set, method.set]
        settings = merge(*map(nest, layers), extra)
        _check_axes(settings, behind, where)
        axes = {**behind, "backbone": {"name": backbone.backbone}, "method": {"name": method.method}}
        named = {"label": point["method"], "against": method.against} if point["method"] in grid.presets else {}
        named |= {"backbone_label": point["backbone"]} if point["backbone"] in grid.presets else {}
        config = resolve.resolve(merge(settings, axes, named), where)
        resolved[key] = settings, _train_longer(config, method.epochs_times)
    settings, first = resolved[key]
    _check_axes(settings, behind, where)
    config = first.model_copy(update={"seed": point["seed"]})
    _check_start(grid, config, point, where)
    return config


def _train_longer(config: CellConfig, times: int) -> CellConfig:
    schedule = config.schedule.model_copy(update={"step_size": config.schedule.step_size * times})
    return config.model_copy(update={"epochs": config.epochs * times, "schedule": schedule})


def _check_start(grid: Grid, config: CellConfig, point: Point, where: str) -> None:
    """Refuse to start from a cell that this grid doesn't train, or one that is not vanilla."""
    start = config.method.parent
    if start is None or not start.startswith(FROM_GRID):
        return
    name = start.removeprefix(FROM_GRID)
    parent = {**point, "method": name}
    method = grid.preset("method", name).method
    excluded = any(exclusion.matches(parent, grid.behind(parent)) for exclusion in grid.exclude)
    if name not in grid.methods or method != "vanilla" or excluded:
        vanilla = [m for m in grid.methods if grid.preset("method", m).method == "vanilla"]
        raise ConfigError(
            f"{where}: presets.{point['method']}: method.start_from={start}: a vanilla method of this grid is expected "
            f"({', '.join(FROM_GRID + m for m in vanilla) or 'it has none'}), in the same cells"
        )


def _check_presets(grid: Grid, where: str) -> None:
    """Refuse presets that shadow a backbone or method, that nothing uses, or that name what does not exist."""
    for axis, kind in _KINDS.items():
        shipped, used = resolve.registered(kind), getattr(grid, kind)
        presets = {name: of for name, preset in grid.presets.items() if (of := getattr(preset, axis))}
        for name, of in presets.items():
            if name in shipped or not re.fullmatch("[A-Za-z0-9_]+", name):
                raise ConfigError(f"{where}: presets.{name}: another name is expected, of letters, digits and _")
            if name not in used:
                raise ConfigError(f"{where}: presets.{name}: not among the grid's {kind}")
            if ":" not in of and of not in shipped:
                raise ConfigError(f"{where}: " + unknown(f"presets.{name}.{axis}: {of!r}", of, shipped))
        for name in used:
            if ":" not in name and name not in (*shipped, *presets):
                raise ConfigError(f"{where}: " + unknown(f"{kind}: {name!r}", name, [*shipped, *presets]))
    for name, preset in grid.presets.items():
        others = [other for other in grid.methods if other != name]
        if preset.against not in (None, "vanilla", *others):
            text = unknown(f"presets.{name}.against: {preset.against!r}", str(preset.against), others)
            raise ConfigError(f"{where}: {text}")


def _check_selectors(grid: Grid, where: str) -> None:
    """Refuse an exclusion or override that names what no axis lists: a misspelt name would silently match nothing."""
    for key, selectors in (
        ("exclude", grid.exclude),
        ("overrides.where", [override.where for override in grid.overrides]),
    ):
        for selector, axis in itertools.product(selectors, AXES):
            values = list(getattr(grid, f"{axis}s"))
            if axis in _KINDS:
                values += [of for preset in grid.presets.values() if (of := getattr(preset, axis))]
            for value in getattr(selector, axis):
                if value not in values:
                    raise ConfigError(f"{where}: " + unknown(f"{key}.{axis}: {value!r}", str(value), map(str, values)))


def _check_axes(settings: Mapping[str, Any], point: Point, where: str) -> None:
    """Refuse settings that contradict an axis: the axis would win silently."""
    for axis in AXES:
        stated = settings.get(axis)
        stated = stated.get("name") if isinstance(stated, Mapping) else stated
        if stated not in (None, point[axis]):
            raise ConfigError(f"{where}: {axis}={stated}: {axis} is an axis of the grid; change {axis}s in its file")
