"""Shows a cell's log and the output of its processes (`--logs`)."""

import json
import time
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from clef.cells import records
from clef.console import out
from clef.errors import ConfigError
from launch.job_output import last_lines, output_files
from launch.status import ACTIVE_STATES, CellStatus, GridStatus, local_cells_and_newest_jobs, read_status
from launch.status_view import Listing, add_details, render

LINES_PER_FILE = 15
LOOK_INTERVAL_S = 1.0
"""Seconds between two looks for new lines."""


def print_logs(plan: Path, name: str, follow: bool) -> int:
    """Print a cell's status and the end of each of its files; with `follow` also what comes, until the cell has ended.

    Ctrl-C ends following. Returns the exit code. ConfigError when no cell or several cells match.
    """
    status = read_status(plan)
    cell = add_details(status, [_find_cell(status, name)])[0]
    if cell.folder is None:
        raise ConfigError(f"{cell.name}: it has no folder yet: {cell.error}")
    out.print(render(Listing(replace(status, cells=[cell], sharding=[]), [cell], 0), out.width))
    # The status leaves out the job of a cell that is done.
    job = cell.job or local_cells_and_newest_jobs(status.path)[1].get(cell.folder)
    log = status.path / cell.folder / records.LOG
    files = [log, *output_files(status.path, cell.folder, job)]
    sizes = {path: _size(path) for path in files}
    for path in files:
        _print_lines(path, last_lines(path, LINES_PER_FILE))
    if not any(sizes.values()):
        out.print("it has no output yet", style="dim")
    try:
        while follow and _is_active(plan, cell.name):
            files = [log, *output_files(status.path, cell.folder, job)]
            sizes = {path: _print_new_lines(path, sizes.get(path, 0)) for path in files}
            time.sleep(LOOK_INTERVAL_S)
    except KeyboardInterrupt:
        pass
    return 0


def _find_cell(status: GridStatus, name: str) -> CellStatus:
    """Return the cell of this name: the whole name, a pattern, a beginning or a part of it, whichever fits first."""
    for fits in (
        lambda n: n == name,
        lambda n: fnmatchcase(n, name),
        lambda n: n.startswith(name),
        lambda n: name in n,
    ):
        cells = [cell for cell in status.cells if fits(cell.name)]
        if len(cells) == 1:
            return cells[0]
        if cells:
            names = ", ".join(cell.name for cell in cells[:8]) + (", ..." if len(cells) > 8 else "")
            raise ConfigError(f"--logs {name}: {len(cells)} cells match: {names}")
    raise ConfigError(f"--logs {name}: no cell matches; --status --all lists them")


def _is_active(plan: Path, name: str) -> bool:
    cell = next(cell for cell in read_status(plan).cells if cell.name == name)
    return cell.state in ACTIVE_STATES


def _print_lines(path: Path, lines: list[str]) -> None:
    if lines:
        out.print(f"--- {path}", style="dim", soft_wrap=True, markup=False)
    for line in lines:
        out.print(format_line(line) if path.name == records.LOG else line, markup=False, soft_wrap=True)


def _print_new_lines(path: Path, start: int) -> int:
    """Print the whole lines that a file has after byte `start`. Returns the byte after the last of them."""
    size = _size(path)
    if size <= start:  # a log is cut back when a cell continues from a checkpoint
        return size
    with path.open("rb") as file:
        file.seek(start)
        text = file.read(size - start)
    whole = text[: text.rfind(b"\n") + 1]
    _print_lines(path, whole.decode(errors="replace").splitlines())
    return start + len(whole)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def format_line(line: str) -> str:
    """Return a record of `log.jsonl` as words; any other line as it is."""
    try:
        record: Any = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict):
        return line
    losses = record.pop("losses", None) or {}
    words = [f"{key} {_number(value)}" for key, value in (record | losses).items() if value is not None]
    return "  ".join(words)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
