"""What was handed to Slurm for a grid: a file for each call of sbatch, written before it and completed after it.

A launcher may die between the two. What it leaves is resolved by the job's name, which is the file's name (the tag).

Which cells a launcher trains by itself (`--local`): a file for each launcher, and a lock that it holds meanwhile.

Others leave its cells alone until they have ended or the launcher is gone, however it went.

What Slurm still has of a grid, and what became of calls of sbatch that their launcher didn't live to note.
"""

import getpass
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from clef import io
from clef.cells import records
from clef.data import manifest as manifests
from clef.errors import SetupError
from launch import slurm_commands
from launch.slurm_commands import array_of

FOLDER, LOCK = "submissions", "launcher.lock"
Kind = Literal["cells", "shards", "launch", "gather"]


@dataclass(frozen=True)
class Submission:
    """One call of sbatch: a job, or a job array whose task i trains `cells[i]`."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    tag: str
    """The job's name: `clef-<grid>-` and eight random digits."""
    kind: Kind
    """`cells`; `shards`: makes a set of shards; `launch`: runs the launcher again behind that; `gather`: the tables."""
    cells: list[str] = field(default_factory=list)
    """Names of the cells' folders, in the order of the array's tasks."""
    array: bool = False
    after: list[str] = field(default_factory=list)
    """The jobs (`12`, `12_3`) that it waits for."""
    shards: str | None = None
    """The folder of the set that a job of kind `shards` makes, and one of kind `launch` waits for."""
    job: str | None = None
    """What sbatch answered; None until then."""
    dropped: bool = False
    """It was decided that sbatch never took it. Should its job turn up all the same, the job leaves at once."""
    made: str = ""
    by: str = ""

    def jobs(self) -> dict[str, str]:
        """The job (`12`) or array task (`12_3`) of each cell."""
        assert self.job is not None
        return {cell: f"{self.job}_{i}" if self.array else self.job for i, cell in enumerate(self.cells)}


def new(grid: Path, kind: Kind, cells: list[str], **facts: Any) -> Submission:
    """A submission with a name of its own, of which nothing is on disk yet."""
    # squeue takes a comma for the end of a name.
    tag = f"clef-{re.sub('[^A-Za-z0-9_.+-]', '_', grid.name)}-{secrets.token_hex(4)}"
    by = f"{getpass.getuser()}@{socket.gethostname()}, process {os.getpid()}"
    made = datetime.now(timezone.utc).isoformat(timespec="microseconds")
    return Submission(tag, kind, cells, made=made, by=by, **facts)


def folder(grid: Path, submission: Submission) -> Path:
    """Where its script, what its tasks run and their logs lie: `<job>_<rank>_log.out` and `.err`."""
    return grid / "slurm" / submission.tag


@contextmanager
def held(grid: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Only one launcher at a time plans and submits in a grid's folder; `waiting` is called when one already does."""
    with io.lock(grid / LOCK, waiting=waiting):
        (grid / FOLDER).mkdir(exist_ok=True)
        # NFS may show a folder as it was half a minute ago. Changing it makes the client compare, and look anew.
        with tempfile.NamedTemporaryFile(dir=grid / FOLDER, prefix=".look-"):
            pass
        yield


def begin(grid: Path, submission: Submission) -> None:
    """Note what is about to be submitted, on disk when this returns."""
    _write(grid, submission)


def with_job(submission: Submission, job: str) -> Submission:
    """The submission as it is once sbatch has answered."""
    return replace(submission, job=job)


def complete(grid: Path, submission: Submission, job: str) -> Submission:
    """Note what sbatch answered."""
    return _write(grid, with_job(submission, job))


def drop(grid: Path, submission: Submission) -> Submission:
    """Note that sbatch didn't take it."""
    return _write(grid, replace(submission, dropped=True))


def read_submissions(grid: Path) -> list[Submission]:
    """All submissions of a grid, the oldest first; a file that is no record of one is an error."""
    return sorted((_read(path) for path in (grid / FOLDER).glob("*.json")), key=lambda made: (made.made, made.tag))


def _write(grid: Path, submission: Submission) -> Submission:
    records.write_json(grid / FOLDER / f"{submission.tag}.json", asdict(submission))
    io.flush(grid / FOLDER)
    return submission


def _read(path: Path) -> Submission:
    try:
        made = records.checked(Submission, records.read_json(path))
        if made.tag != path.stem:
            raise ValueError(f"tag: {made.tag} is not the name of the file")
    except ValueError as error:
        raise SetupError(
            f"{path}: no record of a submission; look at squeue, and mend or remove the file ({error})"
        ) from None
    return made


CLAIMS = "launchers"


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
    path = grid / CLAIMS / f"{host}-{number}.json"
    left = dict.fromkeys(cells)

    def note() -> None:
        records.write_json(path, asdict(Claim(made, f"{host}, process {number}", cells, list(left))), durable=False)

    def ended(cell: str) -> None:
        left.pop(cell, None)
        note()

    with io.lock(path.with_suffix(".lock")):
        note()
        yield ended


def read_claims(grid: Path) -> list[Claim]:
    """All claims of a grid, those of launchers that are gone too; the oldest first."""
    return sorted((_read_claim(path) for path in (grid / CLAIMS).glob("*.json")), key=lambda claim: claim.made)


def claimed_cells(grid: Path) -> set[str]:
    """The cells that launchers which still run train, or are going to."""
    return {cell for claim in read_claims(grid) for cell in claim.busy}


def _read_claim(path: Path) -> Claim:
    content = records.read_json(path)
    try:
        return records.checked(Claim, content | {"alive": io.is_locked(path.with_suffix(".lock"))})
    except ValueError:  # cut short, or of another version
        return Claim("", "", [], [], alive=False)


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
    if not slurm_commands.available():
        return Queued()
    entries = [entry for entry in read_submissions(grid) if not entry.dropped and _matters(grid, entry)]
    if all(entry.kind == "gather" for entry in entries):  # tables can be had where Slurm is out of reach
        return Queued()
    known = slurm_commands.jobs({array_of(entry.job) for entry in entries if entry.job})
    by_name = slurm_commands.named({entry.tag for entry in entries if not entry.job})
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
    first = slurm_commands.named({entry.tag for entry in left})
    settled = []
    for entry in left:
        adopted = _adopted(entry, first)
        settled.append(complete(grid, entry, str(adopted.job)) if adopted else drop(grid, entry))
    dropped = {entry.tag for entry in settled if entry.dropped}
    if late := {array_of(job) for job, facts in slurm_commands.named(dropped).items() if facts.active}:
        _cancel(late, dropped)
    return settled


def leftover(grid: Path) -> list[Submission]:
    """Calls of sbatch without a noted answer. To whoever holds the ledger: those of launchers that died."""
    return [entry for entry in read_submissions(grid) if not entry.job and not entry.dropped]


def _adopted(entry: Submission, by_name: dict[str, slurm_commands.Job]) -> Submission | None:
    job = next((array_of(job) for job, facts in by_name.items() if facts.name == entry.tag), None)
    return with_job(entry, job) if job else None


def _log(grid: Path, entry: Submission) -> Path:
    return folder(grid, entry) / f"{entry.job}_0_log.err"


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
        slurm_commands.cancel(jobs)
    except SetupError as error:  # some may have ended by themselves
        said = f" ({error})"
    end = time.monotonic() + SECONDS
    while any(facts.active for facts in slurm_commands.named(names).values()):
        if time.monotonic() > end:
            raise SetupError(
                f"job {', '.join(sorted(jobs))}, of a launcher that died, can't be cancelled{said}; cancel it with "
                f"scancel and run this again"
            )
        time.sleep(1)
