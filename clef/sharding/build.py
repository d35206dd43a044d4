"""Turns a dataset on disk into shards: one process a shard, the same bytes for any number of processes and parts.

A shard counts as done once its rows lie beside it, so a build that was killed goes on where it was, and other
machines can make parts of one set at the same time; the manifest comes last.

The shards of a dataset, made if they are not there; a demo set is drawn first. Safe for many processes at once.

The room that a set needs on its disk: asked for before any work, and what is said when it runs out in the middle.
"""

import errno
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tarfile import BLOCKSIZE

from clef import datasets, io
from clef.console import Progress, err
from clef.data.manifest import KINDS, ROW, Manifest
from clef.datasets import Person
from clef.datasets.cards import Card
from clef.errors import SetupError, ShardError
from clef.sharding import finish, pool, shard_file, shard_plan
from clef.sharding.box_policy import Unusable
from clef.sharding.pool import Tick
from clef.sharding.render import render
from clef.sharding.shard_file import Entry, Tally
from clef.sharding.shard_plan import Job, Part, Plan

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


def build(
    card: Card,
    source: Path,
    out: Path,
    workers: int = 1,
    progress: Progress | None = None,
    cues: Path | None = None,
) -> Manifest:
    """Write what is missing of the shards of `card` from `source` into `out`.

    Cue files are looked for in the source, or below `cues`. Raises DataError for a source that is not as documented,
    ShardError when `out` holds shards of something else, SetupError when its disk has no room for them.
    """
    planned = shard_plan.make(card, source, out, cues)
    with locked(out):
        if found := planned.found():
            finish.sweep(out, found)
            return found
        finish.sweep(out)
        jobs = planned.jobs()
        _make(jobs, jobs, workers, progress)
        return _finished(planned, jobs)


def build_part(
    card: Card,
    source: Path,
    out: Path,
    part: Part,
    workers: int = 1,
    progress: Progress | None = None,
    cues: Path | None = None,
) -> list[Job]:
    """Write what is missing of the shards of one part, and no manifest. Returns all its jobs.

    Other parts may be at work in the same folder. Raises as `build` does.
    """
    planned = shard_plan.make(card, source, out, cues)
    with locked(out, shared=True):
        complete = planned.found()
        jobs = planned.jobs(part.of)
        own = shard_plan.share(jobs, part)
        if not complete:
            _make(own, jobs, workers, progress)
        return own


def finish_parts(card: Card, source: Path, out: Path, cues: Path | None = None) -> Manifest:
    """Make a set of the shards that parts wrote. ShardError that names the missing ones, and the parts to run again."""
    planned = shard_plan.make(card, source, out, cues)
    with locked(out):
        if found := planned.found():
            finish.sweep(out, found)
            return found
        return _finished(planned, planned.jobs())


@contextmanager
def locked(out: Path, shared: bool = False) -> Iterator[None]:
    """The right to write into `out`: parts share it, who finishes a set has it alone. A full disk is a SetupError."""

    def waiting() -> None:
        err.print(f"waiting for another process that writes {out}", markup=False, soft_wrap=True)

    with io.lock(out.with_name(f".{out.name}.lock"), shared=shared, waiting=waiting), running_out(out):
        yield


def write_shard(job: Job, tick: Tick) -> None:
    """Write one shard and then its rows."""
    tally = Tally()
    shard_file.write(job, _entries(job, tally, tick), tally)


def _entries(job: Job, tally: Tally, tick: Tick) -> Iterator[Entry]:
    for place, person in enumerate(job.people):
        try:
            sample = render(person, job.card, job.split)
        except Unusable as reason:
            tally.left_out[str(reason)] += 1
            tally.unusable[person.id] = str(reason)
        else:
            tally.notes.update(sample.notes)
            yield Entry(job.first + place, sample.members, sample.labels)
        tick(place + 1)


def _make(own: Sequence[Job], jobs: Sequence[Job], workers: int, progress: Progress | None) -> None:
    """Make what is missing of `own`. There must be room for all that is missing of the set: others are at work too."""
    missing = {job.path for job in jobs if shard_file.read_rows(job) is None}
    todo = [job for job in own if job.path in missing]
    before = Counter[str]()
    for job in own:
        before[job.split] += 0 if job.path in missing else job.size
    if todo:
        out = todo[0].out
        out.mkdir(parents=True, exist_ok=True)
        check(out, needed([job for job in jobs if job.path in missing]), "what is missing of the set")
    # The largest first: then no worker is left with a long one at the end.
    pool.run(write_shard, sorted(todo, key=lambda job: -job.size), workers, progress, before)


def _finished(planned: Plan, jobs: Sequence[Job]) -> Manifest:
    shards = [(job, rows) for job in jobs if (rows := shard_file.read_rows(job))]
    if len(shards) < len(jobs):
        raise ShardError(_missing(planned.out, jobs, {job.path: rows.record["parts"] for job, rows in shards}))
    splits = {
        name: finish.join(planned.out, name, facts, [s for s in shards if s[0].split == name], planned.card.classes)
        for name, facts in planned.facts().items()
    }
    return finish.save(planned.out, planned.header(), splits)


def _missing(out: Path, jobs: Sequence[Job], done: dict[Path, int]) -> str:
    """What lacks of a set, and what to run for it. `done` says of each shard in how many parts it was made."""
    names = [job.path.stem for job in jobs if job.path not in done]
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    remedy = "run this command without --finish: it makes what is missing, in as many processes as --workers says"
    if len(counts := set(done.values())) == 1 and (of := counts.pop()) > 1:
        owners = shard_plan.owners(jobs, of)
        lacking = {owner for job, owner in zip(jobs, owners, strict=True) if job.path not in done}
        remedy = "run again: " + ", ".join(f"--part {number}/{of}" for number in sorted(lacking)) + f"; or {remedy}"
    return f"{out}: {len(names)} of {len(jobs)} shards are missing ({listed}); {remedy}"


def prepare(
    card: Card,
    source: Path,
    out: Path,
    workers: int = 1,
    progress: Progress | None = None,
    cues: Path | None = None,
) -> Manifest:
    """The manifest of `out`, after building whatever was missing from `source`. Raises DataError, ShardError.

    `cues` is the folder below which the cue files lie, where that isn't the source.
    """
    datasets.draw(card, source, workers)
    return build(card, source, out, workers, progress, cues)
