"""Makes the shards of a dataset: one process a shard, the same bytes for any number of processes and parts.

A shard counts as done once its rows lie beside it, so a build that was killed continues with the shards that are
missing, and several machines can make parts of one set at the same time. The manifest comes last. Before any work, the
room on the disk is checked against an estimate.
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
from clef.data.manifest import INDEX_DTYPE, KINDS, Manifest
from clef.datasets import Person
from clef.datasets.cards import Card
from clef.errors import SetupError, ShardError
from clef.sharding import finish, pool, shard_file, shard_plan
from clef.sharding.box_policy import Unusable
from clef.sharding.pool import Tick
from clef.sharding.render import render
from clef.sharding.shard_file import KeyedSample, ShardCounts
from clef.sharding.shard_plan import Part, ShardJob, ShardPlan

ESTIMATE_PEOPLE = (8, 32)
"""How many people are rendered for an estimate, at least and at most; between these, one in `ESTIMATE_ONE_IN`."""
ESTIMATE_ONE_IN = 64
_BYTES_OF_INDEX = 2 * INDEX_DTYPE.itemsize + 32 * len(KINDS)
"""Bytes of a sample outside the tars: its row in the index and, until the set is whole, in its shard's rows."""
_UNITS = {"GB": 10**9, "MB": 10**6, "kB": 10**3}


def prepare(
    card: Card,
    source: Path,
    out: Path,
    workers: int = 1,
    progress: Progress | None = None,
    cues: Path | None = None,
) -> Manifest:
    """Draw the source if the card is that of a demo set, and build. Arguments, result and errors are those of `build`.

    Safe for many processes at once.
    """
    datasets.generate_demo(card, source, workers)
    return build(card, source, out, workers, progress, cues)


def build(
    card: Card,
    source: Path,
    out: Path,
    workers: int = 1,
    progress: Progress | None = None,
    cues: Path | None = None,
) -> Manifest:
    """Write what is missing of the shards of `card` from `source` into `out`, and return the manifest.

    Cue files are looked for in the source, or in the folder `cues`.

    Raises:
        DataError: The source is not as documented.
        ShardError: `out` holds shards of something else.
        SetupError: The disk of `out` has no room for them.
    """
    plan = shard_plan.make_plan(card, source, out, cues)
    with lock_folder(out):
        if manifest := plan.existing():
            finish.remove_leftovers(out, manifest)
            return manifest
        finish.check_folder(out)
        finish.remove_leftovers(out)
        jobs = plan.jobs()
        _write_missing(jobs, jobs, workers, progress)
        return _finish(plan, jobs)


def build_part(
    card: Card,
    source: Path,
    out: Path,
    part: Part,
    workers: int = 1,
    progress: Progress | None = None,
    cues: Path | None = None,
) -> list[ShardJob]:
    """Write what is missing of the shards of one part, and no manifest. Returns all jobs of the part.

    Other parts may be written into the same folder at the same time. Raises what `build` does.
    """
    plan = shard_plan.make_plan(card, source, out, cues)
    with lock_folder(out, shared=True):
        complete = plan.existing()
        if not complete:
            finish.check_folder(out)
        jobs = plan.jobs(part.of)
        part_jobs = shard_plan.jobs_of_part(jobs, part)
        if not complete:
            _write_missing(part_jobs, jobs, workers, progress)
        return part_jobs


def finish_parts(card: Card, source: Path, out: Path, cues: Path | None = None) -> Manifest:
    """Make a set of the shards that parts wrote. ShardError that names the missing ones, and the parts to run again."""
    plan = shard_plan.make_plan(card, source, out, cues)
    with lock_folder(out):
        if manifest := plan.existing():
            finish.remove_leftovers(out, manifest)
            return manifest
        return _finish(plan, plan.jobs())


@contextmanager
def lock_folder(out: Path, shared: bool = False) -> Iterator[None]:
    """Hold the right to write into `out`: parts share it, finishing takes it alone. A full disk is a SetupError."""

    def waiting() -> None:
        err.print(f"waiting for another process that writes {out}", markup=False, soft_wrap=True)

    with io.lock(out.with_name(f".{out.name}.lock"), shared=shared, waiting=waiting), explain_full_disk(out):
        yield


def write_shard(job: ShardJob, tick: Tick) -> None:
    """Write one shard and then its rows."""
    counts = ShardCounts()
    shard_file.write(job, _render_people(job, counts, tick), counts)


def _render_people(job: ShardJob, counts: ShardCounts, tick: Tick) -> Iterator[KeyedSample]:
    """Yield the samples of those who can be used, and count the others."""
    for offset, person in enumerate(job.people):
        try:
            sample = render(person, job.card, job.split)
        except Unusable as reason:
            counts.left_out[str(reason)] += 1
            counts.unusable[person.id] = str(reason)
        else:
            counts.notes.update(sample.notes)
            yield KeyedSample(job.first + offset, sample.members, sample.labels)
        tick(offset + 1)


def _write_missing(
    part_jobs: Sequence[ShardJob], jobs: Sequence[ShardJob], workers: int, progress: Progress | None
) -> None:
    """Write what is missing of `part_jobs`.

    There must be room for all that is missing of the set (`jobs`): other parts may be written at the same time.
    """
    missing = {job.path for job in jobs if shard_file.read_rows(job) is None}
    todo = [job for job in part_jobs if job.path in missing]
    done_before = Counter[str]()
    for job in part_jobs:
        done_before[job.split] += 0 if job.path in missing else job.size
    if todo:
        out = todo[0].out
        out.mkdir(parents=True, exist_ok=True)
        require_room(out, estimate_bytes([job for job in jobs if job.path in missing]), "the missing part of the set")
    # The largest first: then no worker is left with a long one at the end.
    pool.run(write_shard, sorted(todo, key=lambda job: -job.size), workers, progress, done_before)


def _finish(plan: ShardPlan, jobs: Sequence[ShardJob]) -> Manifest:
    """Join the shards to a set. ShardError when some are missing."""
    shards = [(job, rows) for job in jobs if (rows := shard_file.read_rows(job))]
    if len(shards) < len(jobs):
        raise ShardError(_missing_message(plan.out, jobs, {job.path: rows.record["parts"] for job, rows in shards}))
    splits = {}
    for name, facts in plan.split_facts().items():
        shards_of_split = [(job, rows) for job, rows in shards if job.split == name]
        splits[name] = finish.join_shards(plan.out, name, facts, shards_of_split, plan.card.classes)
    return finish.finish_set(plan.out, plan.header(), splits)


def _missing_message(out: Path, jobs: Sequence[ShardJob], done: dict[Path, int]) -> str:
    """Say which shards of a set are missing, and what to run for them.

    `done` has the tars that exist, and in how many parts the set was to be made when each was.
    """
    names = [job.path.stem for job in jobs if job.path not in done]
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    remedy = "run this command without --finish: it makes what is missing, in as many processes as --workers says"
    if len(counts := set(done.values())) == 1 and (of := counts.pop()) > 1:
        owners = shard_plan.assign_parts(jobs, of)
        lacking = {owner for job, owner in zip(jobs, owners, strict=True) if job.path not in done}
        remedy = "run again: " + ", ".join(f"--part {number}/{of}" for number in sorted(lacking)) + f"; or {remedy}"
    return f"{out}: {len(names)} of {len(jobs)} shards are missing ({listed}); {remedy}"


def estimate_bytes(jobs: Sequence[ShardJob]) -> int:
    """Return about how many bytes these shards will take: the mean of a few people spread over them, times all."""
    people = [(person, job) for job in jobs for person in job.people]
    count = min(len(people), max(ESTIMATE_PEOPLE[0], min(ESTIMATE_PEOPLE[1], len(people) // ESTIMATE_ONE_IN)))
    sample = [people[(2 * i + 1) * len(people) // (2 * count)] for i in range(count)]
    return sum(_stored_bytes(job, person) for person, job in sample) * len(people) // max(1, count)


def _stored_bytes(job: ShardJob, person: Person) -> int:
    try:
        members = render(person, job.card, job.split).members.values()
    except Unusable:
        return 0
    # A member takes a header of one block, and its content padded to whole blocks.
    return _BYTES_OF_INDEX + sum(BLOCKSIZE - (-len(member) // BLOCKSIZE) * BLOCKSIZE for member in members)


def require_room(out: Path, needed: int, what: str) -> None:
    """Raise SetupError, with both numbers, when the disk of `out` has less room than needed."""
    free = _free_bytes(out)
    if needed > free:
        raise SetupError(
            f"{out}: {what} needs about {format_bytes(needed)}, {format_bytes(free)} are free there. "
            f"Free some disk space, or choose a folder on another disk"
        )


@contextmanager
def explain_full_disk(out: Path) -> Iterator[None]:
    """Turn the error of a disk that fills up inside the block into a SetupError that says how to continue."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SetupError(
            f"{out}: {error.strerror} ({format_bytes(_free_bytes(out))} are free). The shards that are done stay: "
            f"free some disk space and run the same command again; it continues where it stopped"
        ) from None


def format_bytes(count: int) -> str:
    """Return a number of bytes for a reader, such as `1.5 GB`."""
    unit = next((unit for unit in ("GB", "MB") if count >= _UNITS[unit]), "kB")
    return f"{count / _UNITS[unit]:,.1f} {unit}"


def _free_bytes(out: Path) -> int:
    folder = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    return shutil.disk_usage(folder).free
