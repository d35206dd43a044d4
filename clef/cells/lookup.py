"""Finds a trained cell by its folder, its name, or a part of its name. Imports no torch."""

import difflib
import os
from pathlib import Path

from clef.cells.records import CONFIG
from clef.config import RuntimeConfig
from clef.errors import ConfigError

RUNS = Path(RuntimeConfig().output_dir)
SHOWN = 20
"""How many candidates an error lists."""


def find_cell(wanted: str | Path, runs: Path = RUNS) -> Path:
    """Return the folder of a cell.

    That is `wanted` itself, or the folder below `runs` whose `<grid>/<name>-<signature>` it is, or the only one whose
    name contains it. Raises ConfigError, with the candidates, where there is none or more than one.
    """
    path = Path(os.path.abspath(os.path.expanduser(wanted)))
    if (path / CONFIG).is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"{wanted}: not a cell's folder: {CONFIG} is missing")
    cells = {f"{config.parts[-3]}/{config.parts[-2]}": config.parent for config in runs.glob(f"*/*/{CONFIG}")}
    exact = [name for name in cells if str(wanted) in (name, name.partition("/")[2])]
    matches = exact or sorted(name for name in cells if str(wanted) in name)
    if not matches:
        near = difflib.get_close_matches(str(wanted), cells, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{wanted}: no such folder, and none of the {len(cells)} cells below {runs} matches{hint}")
    if len(matches) > 1:
        more = [f"and {len(matches) - SHOWN} more"] if len(matches) > SHOWN else []
        raise ConfigError("\n  ".join([f"{wanted}: {len(matches)} cells match:", *matches[:SHOWN], *more]))
    return Path(os.path.abspath(cells[matches[0]]))
