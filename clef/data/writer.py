"""Turns a dataset on disk into shards: one process a shard, the same bytes for any number of processes and parts.

A shard counts as done once its rows lie beside it, so a build that was killed goes on where it was, and other
machines can make parts of one set at the same time; the manifest comes last.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clef import io
from clef.cards import Card
from clef.console import Progress, err
from clef.data import finish, parts, plan, pool, shard_file, space
from clef.data.decide import Unusable
from clef.data.manifest import Manifest
from clef.data.parts import Job, Part
from clef.data.plan import Plan
from clef.data.pool import Tick
from clef.data.render import render
from clef.data.shard_file import Entry, Tally
from clef.errors import ShardError


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
    planned = plan.make(card, source, out, cues)
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
    planned = plan.make(card, source, out, cues)
    with locked(out, shared=True):
        complete = planned.found()
        jobs = planned.jobs(part.of)
        own = parts.share(jobs, part)
        if not complete:
            _make(own, jobs, workers, progress)
        return own


def finish_parts(card: Card, source: Path, out: Path, cues: Path | None = None) -> Manifest:
    """Make a set of the shards that parts wrote. ShardError that names the missing ones, and the parts to run again."""
    planned = plan.make(card, source, out, cues)
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

    with io.lock(out.with_name(f".{out.name}.lock"), shared=shared, waiting=waiting), space.running_out(out):
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
        space.check(out, space.needed([job for job in jobs if job.path in missing]), "what is missing of the set")
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
        owners = parts.owners(jobs, of)
        lacking = {owner for job, owner in zip(jobs, owners, strict=True) if job.path not in done}
        remedy = "run again: " + ", ".join(f"--part {number}/{of}" for number in sorted(lacking)) + f"; or {remedy}"
    return f"{out}: {len(names)} of {len(jobs)} shards are missing ({listed}); {remedy}"
