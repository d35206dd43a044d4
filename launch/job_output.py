"""The output of a cell's processes: their stdout and stderr, which lie in files."""

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

ERROR_LINES = 40
"""Lines at the end of a file in which an error is looked for: a traceback, and what others say after it."""
SLURM_LINE = re.compile(r"(srun|slurmstepd|slurmd)\b[^:]*: ")
SLURM_SAYS_WHY = re.compile(r"[^:]*: error: (?!.*(Exited with exit code|: Terminated$|CANCELLED AT \S+ \*\*\*))")
"""An error of Slurm's that tells more than that a task ended: `Killed`, `Out Of Memory`, `DUE TO TIME LIMIT`, ..."""
TAIL_BYTES = 64 * 1024
"""Bytes at the end of a file that are read."""


def output_files(grid: Path, cell: str, job: str | None) -> list[Path]:
    """Return the stdout and stderr files of a cell's newest attempt, the first rank's first; none where it never ran.

    `job`: its newest job on Slurm; runs that were queued again write on into the same files.
    """
    local = _newest_last((grid / "local" / cell).glob("*_log.*"))
    if not local and job is None:  # a process of several cells trained it, which names each in its lines
        shared, name = _newest_last((grid / "local").glob("*/*_log.err")), cell.rpartition("-")[0]
        local = next(
            ([path.with_suffix(".out"), path] for path in reversed(shared) if _mentions(path, f"{name}: ")), []
        )
    if local and job is None:
        newest = local[-1].name.partition("_")[0]  # the id of the process that looks after the cell's ranks
        return sorted(path for path in local if path.name.partition("_")[0] == newest)
    return sorted((grid / "slurm").glob(f"*/{job}_*_log.*")) if job else []


def _newest_last(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime)


def _mentions(path: Path, text: str) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return any(line.startswith(text) for line in file)


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a text file that are not blank; of a bar that redraws itself, only the last state."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"(can't be read: {error.strerror})"]
    lines = [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]
    return [line for line in lines if line.strip()][-count:]


def last_error(paths: Iterable[Path]) -> str | None:
    """Return what the end of stderr says of how a process ended, of the first rank that wrote anything there.

    Whatever its words are, the last line is in it: a shell's `can't cd to /x` says neither error nor exception. Before
    that comes the exception or error above it, if there is one, and behind it what Slurm says after it, if that is more
    than an exit code.
    """
    for path in paths:
        lines = last_lines(path, ERROR_LINES) if path.suffix == ".err" else []
        if lines:
            own = [line for line in lines if not SLURM_LINE.match(line)]
            end = itertools.takewhile(SLURM_LINE.match, reversed(lines))  # above it may be that of an earlier attempt
            reasons = [line for line in end if SLURM_SAYS_WHY.match(line)]
            last = [line for line in own if not line[0].isspace()] or own
            words = [*_errors(own)[-1:], *last[-1:], *reasons[:1]] or lines[-1:]
            return "; ".join(dict.fromkeys(line.strip() for line in words))
    return None


def _errors(lines: Sequence[str]) -> list[str]:
    """Return the first line of the last traceback's exception, or else the lines that call themselves an error."""
    starts = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    if starts:
        return [line for line in lines[starts[-1] + 1 :] if not line[0].isspace()][:1]
    return [line for line in lines if "error" in line.lower()]
