"""What was handed to Slurm for a grid: a file for each call of sbatch, written before it and completed after it.

A launcher may die between the two. What it leaves is resolved by the job's name, which is the file's name (the tag).
"""

import getpass
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from clef import io
from clef.cells import records
from clef.errors import SetupError

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


def read(grid: Path) -> list[Submission]:
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
