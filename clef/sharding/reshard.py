"""A copy of a set with another number of samples in a shard: members are copied as they are, and hashed on the way.

Shards are cut by positions in the source's list, so the copy is the set that sharding the source would have made, byte
by byte; what cells read keeps its content, and cells keep their signatures.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clef import io
from clef.console import Progress
from clef.data import manifest as manifests
from clef.data.manifest import KINDS, Manifest, Split
from clef.data.shards import SplitShards
from clef.errors import ConfigError, ShardError
from clef.sharding import build, finish, pool, shard_file
from clef.sharding.build import locked
from clef.sharding.finish import Facts
from clef.sharding.pool import Tick
from clef.sharding.shard_file import Entry, ShardFile, Tally


@dataclass(frozen=True, kw_only=True)
class _Copy(ShardFile):
    """A shard of the copy: the samples at `places` of the set's split."""

    source: SplitShards
    places: range

    @property
    def size(self) -> int:
        return len(self.places)


def reshard(
    root: Path, samples_per_shard: int, out: Path, workers: int = 1, progress: Progress | None = None
) -> Manifest:
    """Copy the set in `root` to `out`, which appears when it is whole. `progress` is told of people.

    ConfigError when `out` lies where the set does. ShardError when the set is damaged, or `out` holds something else.
    """
    if samples_per_shard < 1:
        raise ConfigError(f"--reshard {samples_per_shard}: at least 1 sample a shard is expected")
    here, there = root.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ConfigError(f"{out}: the set lies there ({root}), and jobs may be reading it; name another folder")
    manifest = manifests.load(root)
    with locked(out):
        if out.exists():
            return _found(out, manifest, samples_per_shard)
        return _copied(root, manifest, samples_per_shard, out, workers, progress)


def _found(out: Path, source: Manifest, samples_per_shard: int) -> Manifest:
    """The copy, if that is what lies there."""
    if manifests.path_of(out).exists():
        there = manifests.load(out)
        same = there.source == source.source and there.content(set(KINDS)) == source.content(set(KINDS))
        if same and there.samples_per_shard == samples_per_shard:
            return there
    raise ShardError(f"{out}: is there already, and not this copy; remove it, or name another folder")


def _copied(root: Path, source: Manifest, step: int, out: Path, workers: int, progress: Progress | None) -> Manifest:
    growing = out.with_name(f".{out.name}.copy")
    growing.mkdir(parents=True, exist_ok=True)
    finish.sweep(growing)
    copies = [copy for name in source.splits for copy in _copies(SplitShards(root, name, source), step, growing)]
    todo = [copy for copy in copies if shard_file.read_rows(copy) is None]
    build.check(out, _bytes(source) * sum(copy.size for copy in todo) // sum(copy.size for copy in copies), "the copy")
    before = Counter({name: split.samples for name, split in source.splits.items()})
    before.subtract(Counter({name: sum(copy.size for copy in todo if copy.split == name) for name in source.splits}))
    pool.run(_write, todo, workers, progress, before)
    splits = {name: _joined(root, source, name, [c for c in copies if c.split == name]) for name in source.splits}
    header = source.model_dump(exclude={"splits"}) | {"samples_per_shard": step}
    manifest = finish.save(growing, header, splits)
    growing.rename(out)
    return manifest


def _copies(source: SplitShards, step: int, out: Path) -> Iterator[_Copy]:
    path = source.root / source.split.index
    if io.sha256(path) != source.split.index_sha256:
        raise ShardError(f"{path}: damaged; {source.remedy}")
    cuts = np.searchsorted(source.index["key"], range(0, source.split.positions + step, step))
    made_of = f"{source.manifest.source} {source.split.content} {step}"
    for number, (first, last) in enumerate(zip(cuts.tolist(), cuts.tolist()[1:], strict=False)):
        yield _Copy(
            out=out, split=source.name, number=number, fingerprint=made_of, parts=1,
            source=source, places=range(first, last),
        )  # fmt: skip


def _write(copy: _Copy, tick: Tick) -> None:
    shard_file.write(copy, _entries(copy, tick), Tally())


def _entries(copy: _Copy, tick: Tick) -> Iterator[Entry]:
    source = copy.source
    for count, place in enumerate(copy.places, 1):
        members = {kind: data for kind in KINDS if (data := source.read(place, kind)) is not None}
        try:
            labels = json.loads(members["meta.json"])["labels"]
        except (ValueError, KeyError, TypeError):
            raise ShardError(f"{source.root}: sample {source.key(place)}: no facts; {source.remedy}") from None
        yield Entry(int(source.key(place)), members, labels)
        tick(count)


def _joined(root: Path, source: Manifest, name: str, copies: list[_Copy]) -> Split:
    """A split of the copy. ShardError unless it holds just what the set's manifest says."""
    old = source.splits[name]
    shards = [(copy, rows) for copy in copies if (rows := shard_file.read_rows(copy))]
    facts = Facts(
        listed=old.listed,
        positions=old.positions,
        left_out=old.left_out,
        notes=old.notes,
        unusable=old.unusable,
        box_kind=old.box_kind,
    )
    split = finish.join(copies[0].out, name, facts, shards, list(old.classes))
    remedy = copies[0].source.remedy
    if (split.content, split.classes, split.members) != (old.content, old.classes, old.members):
        for copy in copies:  # another attempt must not go on with these
            copy.rows.unlink()
        raise ShardError(f"{root}: split {name} is damaged: its members are not what was written; {remedy}")
    return split


def _bytes(manifest: Manifest) -> int:
    return sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
