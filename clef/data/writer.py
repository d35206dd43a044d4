"""Turns a dataset on disk into shards: one process a shard, the same bytes for any number of processes.

Where a shard ends is fixed by the source's list before anything is skipped. A shard counts as done once its rows lie
beside it, so a build that was killed goes on where it was; the manifest comes last.
"""

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from webdataset.writer import TarWriter

import clef
from clef import files
from clef.cards import Card
from clef.cues import join
from clef.data import manifest as manifests
from clef.data.decide import Unusable
from clef.data.manifest import KINDS, ROW, Manifest, Shard, Split
from clef.data.render import render
from clef.datasets import Person, Reading, splits
from clef.errors import DataError, ShardError
from clef.policies import described

Progress = Callable[[str, int, int], None]
"""Called with a split, the people done and the people in all."""
_TOLD = ("source", "title", "layout", "request", "generator", "releases", "protocols", "test_splits")
"""What a card says that changes nothing in the shards."""


@dataclass(frozen=True)
class Job:
    """One shard to make: `people` are those of the source's list from position `first` on."""

    card: Card
    split: str
    number: int
    first: int
    people: tuple[Person, ...]
    out: Path
    fingerprint: str

    @property
    def path(self) -> Path:
        return self.out / f"{self.split}-{self.number:06d}.tar"

    @property
    def rows(self) -> Path:
        return self.path.with_suffix(".rows.npz")


def build(
    card: Card,
    source: Path,
    out: Path,
    workers: int = 1,
    progress: Progress | None = None,
    cues: Path | None = None,
) -> Manifest:
    """Write the shards of `card` from `source` into `out`, or find them complete there.

    Cue files are looked for in the source, or below `cues`. Raises DataError for a source that is not as documented,
    ShardError when `out` holds shards of something else.
    """
    readings = splits.read(card, source)
    cue_files = join.cue_files(card, cues or source)
    fingerprint = _fingerprint(card, readings, cue_files)
    with files.lock(out.with_name(f".{out.name}.lock")):
        if manifests.path_of(out).exists():
            found = manifests.load(out)
            if found.source != fingerprint:
                raise ShardError(
                    f"{out}: holds shards of another source, card, version or cues than {source} has now; "
                    f"remove that folder, or name another with --out"
                )
            return found
        join.join(card, source, readings, cue_files)
        out.mkdir(parents=True, exist_ok=True)
        jobs = [job for name, reading in readings.items() for job in _jobs(card, name, reading, out, fingerprint)]
        _run(jobs, workers, progress)
        return _finish(card, readings, jobs, out, fingerprint, join.made_by(cue_files))


def _fingerprint(card: Card, readings: dict[str, Reading], cue_files: join.Roots) -> str:
    """A hash of what is read and how it is stored, but for where shards are cut."""
    told = dict.fromkeys(_TOLD, True) | {"storage": {"samples_per_shard"}}
    stored = card.model_dump_json(exclude=told)
    digest = hashlib.sha256(f"{manifests.FORMAT} {clef.__version__} {stored}".encode())
    sizes: dict[Path, int] = {}
    for name, reading in readings.items():
        digest.update(f"{name} {reading.box_kind} {len(reading.people)}\n".encode())
        for person in reading.people:
            if person.image not in sizes:
                sizes[person.image] = person.image.stat().st_size if person.image.exists() else -1
            facts = (person.id, person.box, person.labels, person.face, person.vad, sizes[person.image])
            digest.update(repr(facts).encode())
    digest.update(join.digest(cue_files).encode())
    return digest.hexdigest()


def _jobs(card: Card, split: str, reading: Reading, out: Path, fingerprint: str) -> Iterator[Job]:
    if not reading.people:
        raise DataError(f"{card.name}: split {split} lists nobody; is the source complete?")
    step = card.storage.samples_per_shard
    for number, first in enumerate(range(0, len(reading.people), step)):
        people = tuple(reading.people[first : first + step])
        yield Job(card, split, number, first, people, out, f"{fingerprint} {step}")


def _run(jobs: list[Job], workers: int, progress: Progress | None) -> None:
    total: Counter[str] = Counter()
    for job in jobs:
        total[job.split] += len(job.people)
    done: Counter[str] = Counter()
    with ProcessPoolExecutor(workers) if workers > 1 else _InProcess() as pool:
        for job in pool.map(write_shard, jobs):
            done[job.split] += len(job.people)
            if progress:
                progress(job.split, done[job.split], total[job.split])


class _InProcess:
    """What we use of an executor, without processes: easier to debug, and a shard at a time."""

    def __enter__(self) -> "_InProcess":
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, function: Callable[[Job], Job], jobs: list[Job]) -> Iterator[Job]:
        return map(function, jobs)


def write_shard(job: Job) -> Job:
    """Write one shard and then its rows, unless both are there already."""
    if _is_done(job):
        return job
    keys: list[int] = []
    digests: list[list[bytes]] = []
    notes: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    unusable: dict[str, str] = {}
    with files.atomic(job.path) as file:
        # Everything that could differ between two runs is fixed: the time and the owner.
        writer = TarWriter(file, mtime=0, user="", group="", encoder=False)
        for position, person in enumerate(job.people, job.first):
            try:
                sample = render(person, job.card, job.split)
            except Unusable as reason:
                unusable[person.id] = str(reason)
                continue
            writer.write({"__key__": f"{position:08d}", **sample.members})
            keys.append(position)
            digests.append(
                [hashlib.sha256(sample.members[k]).digest() if k in sample.members else bytes(32) for k in KINDS]
            )
            notes.update(sample.notes)
            classes.update(sample.labels)
        writer.close()
    record = {"notes": notes, "classes": classes, "unusable": unusable, "fingerprint": job.fingerprint}
    _write_rows(job, _index(job.path, keys), digests, record)
    return job


def _is_done(job: Job) -> bool:
    try:
        with np.load(job.rows, allow_pickle=False) as rows:
            record = json.loads(str(rows["record"]))
        return bool(record["fingerprint"] == job.fingerprint and record["bytes"] == job.path.stat().st_size)
    except (OSError, ValueError, KeyError):
        return False


def _index(path: Path, keys: list[int]) -> np.ndarray:
    """Where each member lies, read back from the tar, so that the index states what is on disk."""
    rows = np.zeros(len(keys), ROW)
    rows["key"], rows["size"] = keys, -1
    place = {key: i for i, key in enumerate(keys)}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, kind = member.name.partition(".")
            i, k = place[int(key)], KINDS.index(kind)
            rows["offset"][i, k], rows["size"][i, k] = member.offset_data, member.size
    return rows


def _write_rows(job: Job, rows: np.ndarray, digests: list[list[bytes]], record: dict) -> None:
    record |= {"bytes": job.path.stat().st_size, "sha256": files.sha256(job.path)}
    table = np.frombuffer(b"".join(b for row in digests for b in row), np.uint8).reshape(-1, len(KINDS), 32)
    with files.atomic(job.rows) as file:
        np.savez(file, rows=rows, digests=table, record=np.array(json.dumps(record)))


def _finish(
    card: Card, readings: dict[str, Reading], jobs: list[Job], out: Path, fingerprint: str, cues: dict[str, str]
) -> Manifest:
    splits = {
        name: _split(card, name, reading, [job for job in jobs if job.split == name], out)
        for name, reading in readings.items()
    }
    manifest = Manifest(
        format=manifests.FORMAT,
        dataset=card.name,
        task=card.task,
        classes=list(card.classes),
        vad=card.vad,
        source=fingerprint,
        protocol=card.protocol,
        policies=card.policies.model_dump(),
        samples_per_shard=card.storage.samples_per_shard,
        tool=f"clef {clef.__version__}",
        cues=cues,
        splits=splits,
    )
    manifests.save(out, manifest)
    for job in jobs:
        job.rows.unlink()
    return manifest


def _split(card: Card, name: str, reading: Reading, jobs: list[Job], out: Path) -> Split:
    shards, tables = [], []
    notes, classes, unusable = Counter(reading.notes), Counter[str](), dict[str, str]()
    content = [hashlib.sha256() for _ in KINDS]
    for number, job in enumerate(jobs):
        with np.load(job.rows, allow_pickle=False) as loaded:
            rows, digests, record = loaded["rows"], loaded["digests"], json.loads(str(loaded["record"]))
        rows["shard"] = number
        tables.append(rows)
        for k, digest in enumerate(content):
            digest.update(digests[:, k].tobytes())
        notes.update(record["notes"])
        classes.update(record["classes"])
        unusable |= record["unusable"]
        shards.append(_shard(job, rows, record, card))
    index = np.concatenate(tables)
    left_out = reading.left_out + Counter(unusable.values())
    if not len(index):
        raise DataError(f"{card.name}: split {name}: nobody is left: {described(left_out)}")
    path = out / f"{name}.index.npy"
    with files.atomic(path) as file:
        np.save(file, index)
    return Split(
        listed=reading.listed,
        samples=len(index),
        members={kind: int((index["size"][:, k] >= 0).sum()) for k, kind in enumerate(KINDS)},
        content={kind: digest.hexdigest() for kind, digest in zip(KINDS, content, strict=True)},
        classes={label: classes[label] for label in card.classes},
        left_out=dict(sorted(left_out.items())),
        notes=dict(sorted(notes.items())),
        unusable=unusable,
        box_kind=reading.box_kind,
        index=path.name,
        index_sha256=files.sha256(path),
        shards=shards,
    )


def _shard(job: Job, rows: np.ndarray, record: dict, card: Card) -> Shard:
    keys = [f"{key:08d}" for key in rows["key"][[0, -1]]] if len(rows) else [None, None]
    return Shard(
        name=job.path.name,
        bytes=record["bytes"],
        sha256=record["sha256"],
        samples=len(rows),
        first_key=keys[0],
        last_key=keys[1],
        classes={label: record["classes"].get(label, 0) for label in card.classes},
    )
