"""The output of a cell's processes: their stdout and stderr, which lie in files."""

from collections.abc import Iterable
from pathlib import Path

ERROR_LINES = 20
"""Lines at the end of a file in which an error is looked for: srun says more after it."""
TAIL_BYTES = 64 * 1024
"""Bytes at the end of a file that are read."""


def output_files(grid: Path, cell: str, job: str | None) -> list[Path]:
    """Return the stdout and stderr files of a cell's newest attempt, the first rank's first; none where it never ran.

    `job`: its newest job on Slurm; runs that were queued again write on into the same files.
    """
    local = sorted((grid / "local" / cell).glob("*_log.*"), key=lambda path: path.stat().st_mtime)
    if local and job is None:
        newest = local[-1].name.partition("_")[0]  # the id of the process that looks after the cell's ranks
        return sorted(path for path in local if path.name.partition("_")[0] == newest)
    return sorted((grid / "slurm").glob(f"*/{job}_*_log.*")) if job else []


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a text file that are not blank; of a bar that redraws itself, only the last state."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]
    return [line for line in lines if line.strip()][-count:]


def last_error(paths: Iterable[Path]) -> str | None:
    """Return the last error in stderr, or else its last line, of the first rank that wrote anything there.

    srun's own error counts only where there is no other: it says that a task ended, and not why.
    """
    for path in paths:
        lines = last_lines(path, ERROR_LINES) if path.suffix == ".err" else []
        if lines:
            errors = [line for line in lines if "error" in line.lower()]
            errors_of_cell = [line for line in errors if not line.startswith("srun:")]
            return (errors_of_cell or errors or lines)[-1].strip()
    return None
