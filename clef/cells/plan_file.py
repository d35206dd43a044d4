"""`plan.json` at the top of a grid's folder: the cells that the grid has. Imports no torch.

The launcher writes it, and what works on a whole grid (status, audits, tables) reads it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from clef import yaml_config
from clef.cells.records import read_json, validate_as, write_json
from clef.config.grid import GRIDS
from clef.datasets.cards import LEAK_FREE
from clef.errors import CellError, ConfigError, raise_if_system_error

DEFAULT_CONTROL = "vanilla"
"""The method that others are compared with, of the same dataset, backbone and seed, unless a grid names another."""


@dataclass(frozen=True)
class PlannedRun:
    """One cell of a plan."""

    name: str
    dataset: str
    backbone: str
    method: str
    seed: int
    folder: str | None
    """Its folder, next to the plan; None where shards or weights were missing when the grid was planned."""
    reason: str | None = None
    """Why it has no folder."""
    parent: str | None = None
    """The folder of the cell whose weights it starts from."""
    protocol: str = LEAK_FREE
    """How its dataset is split and counted."""
    against: str | None = DEFAULT_CONTROL
    """The method that it is compared with; None for a control, which is compared with none."""
    card: str | None = None
    """The dataset's card as `clef.datasets.cards.load` finds it; a trained cell has recorded its own."""
    preset_of: str | None = None
    """The method that the preset `method` sets up; None where `method` is no preset but a method."""

    @property
    def is_clef(self) -> bool:
        """Return whether it trains CLEF, as it is or as a preset."""
        return (self.preset_of or self.method) == "clef"


def plan_path(out: Path, grid: str) -> Path:
    """Return the path of a grid's plan, below the folder of all runs."""
    return out / grid / "plan.json"


def write_plan(out: Path, grid: str, runs: list[PlannedRun], file: Path | None = None) -> Path:
    """Write which cells make up the grid, and the `file` that says so. Returns the plan's path."""
    path = plan_path(out, grid)
    recorded = {"file": _recorded_path(file)} if file else {}
    write_json(path, {"grid": grid, **recorded, "cells": [asdict(run) for run in runs]})
    return path


def check_grid_file(out: Path, file: Path) -> None:
    """Refuse a grid file that has the name of another one, whose cells are below `out`. Raises ConfigError.

    A file that was moved, or copied as it is, is the same grid; so is one that was edited where it lies.
    """
    path = plan_path(out, file.stem)
    other = read_json(path).get("file")
    if not isinstance(other, str) or not file.is_file():
        return
    planned = yaml_config.resource(GRIDS).parents[1] / other  # an absolute path stays as it is
    if planned.is_file() and not planned.samefile(file) and planned.read_bytes() != file.read_bytes():
        raise ConfigError(
            f"{file}: {path.parent} holds the cells of another grid of this name, {planned}; rename one of the two "
            f"files, or give this one an --out and a --results of its own"
        )


def _recorded_path(file: Path) -> str:
    """Return the absolute path of a grid's file; of one that ships, its place in any copy of the code."""
    shipped = yaml_config.resource(GRIDS) / file.name
    is_shipped = file.is_file() and shipped.is_file() and shipped.samefile(file)
    return f"{GRIDS}/{file.name}" if is_shipped else os.path.abspath(file)


def read_plan(path: Path) -> tuple[str, list[PlannedRun]]:
    """Return the name of the grid that a plan is for, and its cells. Raises CellError where there is no valid plan."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content["grid"]), validate_as(list[PlannedRun], content["cells"])
    except FileNotFoundError:
        raise CellError(f"{path}: no plan here; run the grid first (launch/grid.py --grid ...)") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise_if_system_error(error, path)
        why = f"{type(error).__name__}: {error}"
        raise CellError(f"{path}: not a plan ({why}); run the grid again, which writes it anew") from None
