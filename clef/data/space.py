"""The room that a set needs on its disk: asked for before any work, and what is said when it runs out in the middle."""

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tarfile import BLOCKSIZE

from clef.data.decide import Unusable
from clef.data.manifest import KINDS, ROW
from clef.data.parts import Job
from clef.data.render import render
from clef.datasets import Person
from clef.errors import SetupError

SAMPLE = (8, 32)
"""People who are rendered for an estimate: at least, and at most; between them one in `ONE_IN`."""
ONE_IN = 64
_OF_INDEX = 2 * ROW.itemsize + 32 * len(KINDS)
"""Bytes of a sample outside the tars: its row in the index and, until the set is whole, in its shard's rows."""


def needed(jobs: Sequence[Job]) -> int:
    """About how many bytes these shards will take: what people who are spread over them take, times their number."""
    people = [(person, job) for job in jobs for person in job.people]
    count = min(len(people), max(SAMPLE[0], min(SAMPLE[1], len(people) // ONE_IN)))
    sample = [people[(2 * i + 1) * len(people) // (2 * count)] for i in range(count)]
    return sum(_bytes(job, person) for person, job in sample) * len(people) // max(1, count)


def check(out: Path, needed: int, what: str) -> None:
    """SetupError, with the numbers, when `out` lies on a disk without so much room."""
    free = _free(out)
    if needed > free:
        raise SetupError(
            f"{out}: {what} needs about {size(needed)}, {size(free)} are free there. "
            f"Make room, or name a folder on another disk"
        )


@contextmanager
def running_out(out: Path) -> Iterator[None]:
    """SetupError that says how to go on when the disk is full all the same."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SetupError(
            f"{out}: {error.strerror} ({size(_free(out))} are free). The shards that are done stay: "
            f"make room and run the same command again; it goes on where it was"
        ) from None


def size(count: int) -> str:
    """Bytes for a reader."""
    unit = next((unit for unit in ("GB", "MB") if count >= _UNITS[unit]), "kB")
    return f"{count / _UNITS[unit]:,.1f} {unit}"


_UNITS = {"GB": 10**9, "MB": 10**6, "kB": 10**3}


def _bytes(job: Job, person: Person) -> int:
    try:
        members = render(person, job.card, job.split).members.values()
    except Unusable:
        return 0
    return _OF_INDEX + sum(BLOCKSIZE - (-len(member) // BLOCKSIZE) * BLOCKSIZE for member in members)


def _free(out: Path) -> int:
    there = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(there).free
