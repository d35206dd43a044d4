"""Shows what a cell says: its log, readable, and what its processes write."""

import json
import time
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from clef.cells import records
from clef.console import out
from clef.errors import ConfigError
from launch.job_output import last_lines, outputs
from launch.status import ALIVE, CellStatus, Overview, busy_and_jobs
from launch.status import overview as look
from launch.status_view import Picture, detailed, render

LINES = 15
"""Lines of each file."""
EVERY = 1.0
"""Seconds between two looks for new lines."""


def show(plan: Path, name: str, follow: bool) -> int:
    """Print the end of all that a cell says, and with `follow` what comes, until it has ended or Ctrl-C.

    ConfigError when no cell is called so, or several are.
    """
    overview = look(plan)
    cell = detailed(overview, [_chosen(overview, name)])[0]
    if cell.folder is None:
        raise ConfigError(f"{cell.name}: it has no folder yet: {cell.error}")
    folder = overview.path / cell.folder
    one = Picture(replace(overview, cells=[cell], sharding=[]), [cell], 0)
    out.print(render(one, out.width))
    job = cell.job or busy_and_jobs(overview.path)[1].get(cell.folder)  # the status leaves out that of a done cell
    files = [folder / records.LOG, *outputs(overview.path, cell.folder, job)]
    sizes = {path: _size(path) for path in files}
    for path in files:
        _print(path, last_lines(path, LINES))
    if not any(sizes.values()):
        out.print("it has said nothing yet", style="dim")
    try:
        while follow and _alive(plan, cell.name):
            files = [folder / records.LOG, *outputs(overview.path, cell.folder, job)]
            sizes = {path: _news(path, sizes.get(path, 0)) for path in files}
            time.sleep(EVERY)
    except KeyboardInterrupt:
        pass
    return 0


def _chosen(overview: Overview, name: str) -> CellStatus:
    """The cell of this name: all of it, a pattern, or a part, whichever fits first."""
    cells = overview.cells
    for fits in (
        lambda n: n == name,
        lambda n: fnmatchcase(n, name),
        lambda n: n.startswith(name),
        lambda n: name in n,
    ):
        found = [cell for cell in cells if fits(cell.name)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(cell.name for cell in found[:8]) + (", ..." if len(found) > 8 else "")
            raise ConfigError(f"--logs {name}: {len(found)} cells are called so: {names}")
    raise ConfigError(f"--logs {name}: no cell is called so; --status --all lists them")


def _alive(plan: Path, name: str) -> bool:
    cell = next(cell for cell in look(plan).cells if cell.name == name)
    return cell.state in ALIVE


def _print(path: Path, lines: list[str]) -> None:
    if lines:
        out.print(f"--- {path}", style="dim", soft_wrap=True, markup=False)
    for line in lines:
        out.print(readable(line) if path.name == records.LOG else line, markup=False, soft_wrap=True)


def _news(path: Path, since: int) -> int:
    """Print what a file has got since it had so many bytes; how many it has now, whole lines alone."""
    size = _size(path)
    if size <= since:  # a log is cut back when a cell goes on from a checkpoint
        return size
    with path.open("rb") as file:
        file.seek(since)
        text = file.read(size - since)
    whole = text[: text.rfind(b"\n") + 1]
    _print(path, whole.decode(errors="replace").splitlines())
    return since + len(whole)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def readable(line: str) -> str:
    """A record of `log.jsonl` as words; any other line as it is."""
    try:
        record: Any = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict):
        return line
    terms = record.pop("losses", None) or {}
    words = [f"{key} {_number(value)}" for key, value in (record | terms).items() if value is not None]
    return "  ".join(words)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
