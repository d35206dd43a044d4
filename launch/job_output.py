"""What the processes of a cell said: their stdout and stderr, as files."""

from collections.abc import Iterable
from pathlib import Path

LINES = 20
"""Lines at the end in which an error is looked for: srun says more after it."""
TAIL = 64 * 1024
"""Bytes at the end of a file that are looked at."""


def outputs(grid: Path, folder: str, job: str | None) -> list[Path]:
    """The stdout and stderr files of a cell's newest attempt, those of the first rank first; none where it never ran.

    `job`: its newest job on Slurm, whose requeued runs write on into the same files.
    """
    local = sorted((grid / "local" / folder).glob("*_log.*"), key=lambda path: path.stat().st_mtime)
    if local and job is None:
        newest = local[-1].name.partition("_")[0]  # the number of the process that looks after its ranks
        return sorted(path for path in local if path.name.partition("_")[0] == newest)
    return sorted((grid / "slurm").glob(f"*/{job}_*_log.*")) if job else []


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a text file that are not blank; of a progress bar that redraws itself, the last state."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]
    return [line for line in lines if line.strip()][-count:]


def last_line(paths: Iterable[Path]) -> str | None:
    """The last error in stderr, else its last line, of the first rank that said anything.

    srun's own error counts where there is no other: it says that a task ended, and not why.
    """
    for path in paths:
        lines = last_lines(path, LINES) if path.suffix == ".err" else []
        if lines:
            errors = [line for line in lines if "error" in line.lower()]
            own = [line for line in errors if not line.startswith("srun:")]
            return (own or errors or lines)[-1].strip()
    return None
