"""What Slurm still has of a grid, and what became of calls of sbatch that their launcher didn't live to note."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from clef.cells import records
from clef.data import manifest as manifests
from clef.errors import SetupError
from launch import ledger, scheduler
from launch.ledger import Submission
from launch.scheduler import array_of

SECONDS = 60
"""How long a cancelled job may take to go."""


@dataclass(frozen=True)
class Queued:
    """The jobs of a grid that wait or run."""

    cells: dict[str, str] = field(default_factory=dict)
    """The job (`12`) or array task (`12_3`) of each unfinished cell, by the name of the cell's folder."""
    shards: dict[str, str] = field(default_factory=dict)
    """The job that makes a set of shards, by the set's folder."""
    launches: dict[str, str] = field(default_factory=dict)
    """The job behind it that runs the launcher again."""
    tried: dict[str, Path] = field(default_factory=dict)
    """The log of the last job that made none of a set's shards, by the set's folder."""
    gathered: frozenset[str] = frozenset()
    """The jobs that a gather job already waits for."""


def look(grid: Path) -> Queued:
    """Ask Slurm, twice at most: by job, and by name for what has no job noted. Writes nothing."""
    if not scheduler.available():
        return Queued()
    entries = [entry for entry in ledger.read(grid) if not entry.dropped and _matters(grid, entry)]
    if all(entry.kind == "gather" for entry in entries):  # tables can be had where Slurm is out of reach
        return Queued()
    known = scheduler.jobs({array_of(entry.job) for entry in entries if entry.job})
    by_name = scheduler.named({entry.tag for entry in entries if not entry.job})
    found = [entry if entry.job else _adopted(entry, by_name) for entry in entries]
    active = {job for job, facts in (known | by_name).items() if facts.active}
    entries = [entry for entry in found if entry is not None]
    cells = {
        cell: job
        for entry in entries if entry.kind == "cells"
        for cell, job in entry.jobs().items() if job in active and not _done(grid, cell)
    }  # fmt: skip
    others = [entry for entry in entries if entry.kind != "cells" and entry.job in active]
    made = {kind: {e.shards: e.job for e in others if e.kind == kind} for kind in ("shards", "launch")}
    tried = {e.shards: _log(grid, e) for e in entries if e.kind == "shards" and e.job not in active}
    gathered = frozenset(job for entry in others if entry.kind == "gather" for job in entry.after)
    return Queued(cells, made["shards"], made["launch"], tried, gathered)  # type: ignore[arg-type]


def settle(grid: Path, left: list[Submission]) -> list[Submission]:
    """Find out what became of calls of sbatch without a noted answer. Returns each with its job, or dropped.

    Only for who holds the ledger. A job of that name is adopted, ended or not. Where there is none, the call may still
    be under way: the sbatch of a launcher that was killed goes on by itself, and the controller may be slow. So the
    drop is on disk *before* Slurm is asked once more. A job that Slurm gets after that second look starts after the
    drop was written, reads it and leaves. One that it got between the two looks may have started too early to read
    it, so it is cancelled, and gone when this returns. Either way nobody else trains these cells from here on.
    """
    first = scheduler.named({entry.tag for entry in left})
    settled = []
    for entry in left:
        adopted = _adopted(entry, first)
        settled.append(ledger.complete(grid, entry, str(adopted.job)) if adopted else ledger.drop(grid, entry))
    dropped = {entry.tag for entry in settled if entry.dropped}
    if late := {array_of(job) for job, facts in scheduler.named(dropped).items() if facts.active}:
        _cancel(late, dropped)
    return settled


def leftover(grid: Path) -> list[Submission]:
    """Calls of sbatch without a noted answer. To whoever holds the ledger: those of launchers that died."""
    return [entry for entry in ledger.read(grid) if not entry.job and not entry.dropped]


def _adopted(entry: Submission, by_name: dict[str, scheduler.Job]) -> Submission | None:
    job = next((array_of(job) for job, facts in by_name.items() if facts.name == entry.tag), None)
    return ledger.with_job(entry, job) if job else None


def _log(grid: Path, entry: Submission) -> Path:
    return ledger.folder(grid, entry) / f"{entry.job}_0_log.err"


def _matters(grid: Path, entry: Submission) -> bool:
    """Whether it is worth asking about: cells without a result, a set without its manifest."""
    if entry.shards is not None:
        return not manifests.path_of(Path(entry.shards)).exists()
    return entry.kind == "gather" or not all(_done(grid, cell) for cell in entry.cells)


def _done(grid: Path, cell: str) -> bool:
    return (grid / cell / records.RESULT).exists()


def _cancel(jobs: set[str], names: set[str]) -> None:
    """Cancel jobs, and wait until none of these names is active. SetupError when they stay."""
    said = ""
    try:
        scheduler.cancel(jobs)
    except SetupError as error:  # some may have ended by themselves
        said = f" ({error})"
    end = time.monotonic() + SECONDS
    while any(facts.active for facts in scheduler.named(names).values()):
        if time.monotonic() > end:
            raise SetupError(
                f"job {', '.join(sorted(jobs))}, of a launcher that died, can't be cancelled{said}; cancel it with "
                f"scancel and run this again"
            )
        time.sleep(1)
