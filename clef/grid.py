"""From a grid's YAML to the config of each of its cells. Looks at no shards, weights or runs, and imports no torch."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from clef import cell, resources
from clef.config import CellConfig, Strict
from clef.errors import ConfigError
from clef.overrides import merge, nest, unknown, validate
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
