"""Which cells a launcher trains by itself (`--local`): a file for each launcher, and a lock that it holds meanwhile.

Others leave its cells alone until they have ended or the launcher is gone, however it went.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from clef import io
from clef.cells import records

FOLDER = "launchers"


@dataclass(frozen=True)
class Claim:
    """A launcher's cells, by the names of their folders."""

    made: str
    by: str
    cells: list[str]
    left: list[str]
    """Those that have not ended yet."""
    alive: bool = True
    """Whether the launcher still runs; what the file says of that doesn't count."""

    @property
    def busy(self) -> list[str]:
        """The cells that it trains, or is going to."""
        return self.left if self.alive else []


@contextmanager
def claimed(grid: Path, cells: list[str]) -> Iterator[Callable[[str], None]]:
    """Claim cells for this process; call what is yielded with each that has ended.

    Hold the grid's lock from the look at its state until this has begun, or two launchers claim the same cells.
    """
    host, number = socket.gethostname(), os.getpid()
    made = datetime.now(timezone.utc).isoformat(timespec="microseconds")
    path = grid / FOLDER / f"{host}-{number}.json"
    left = dict.fromkeys(cells)

    def note() -> None:
        records.write_json(path, asdict(Claim(made, f"{host}, process {number}", cells, list(left))), durable=False)

    def ended(cell: str) -> None:
        left.pop(cell, None)
        note()

    with io.lock(path.with_suffix(".lock")):
        note()
        yield ended


def read(grid: Path) -> list[Claim]:
    """All claims of a grid, those of launchers that are gone too; the oldest first."""
    return sorted((_read(path) for path in (grid / FOLDER).glob("*.json")), key=lambda claim: claim.made)


def busy(grid: Path) -> set[str]:
    """The cells that launchers which still run train, or are going to."""
    return {cell for claim in read(grid) for cell in claim.busy}


def _read(path: Path) -> Claim:
    content = records.read_json(path)
    try:
        return records.checked(Claim, content | {"alive": io.is_locked(path.with_suffix(".lock"))})
    except ValueError:  # cut short, or of another version
        return Claim("", "", [], [], alive=False)
