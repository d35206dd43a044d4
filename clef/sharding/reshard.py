"""Copies a set of shards with another number of samples in each: members are copied as they are, and hashed.

Shards are cut by positions in the source's list. So the copy is, byte by byte, the set that sharding the source would
have made. The content hashes of what cells read stay the same, and so do the cells' signatures.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from clef import io
from clef.console import Progress
from clef.data import manifest as manifests
from clef.data.manifest import KINDS, Manifest, Split
from clef.data.shards import SplitShards
from clef.errors import ConfigError, ShardError
from clef.sharding import build, finish, pool, shard_file
from clef.sharding.build import lock_folder
from clef.sharding.finish import SplitFacts
from clef.sharding.pool import Tick
from clef.sharding.shard_file import KeyedSample, ShardCounts, ShardFile


@dataclass(frozen=True, kw_only=True)
class _ShardCopy(ShardFile):
    """A shard of the copy: the samples at `indices` of a split of the source set."""

    source: SplitShards
    indices: range

    @property
    def size(self) -> int:
        return len(self.indices)


def reshard(
    root: Path, samples_per_shard: int, out: Path, workers: int = 1, progress: Progress | None = None
) -> Manifest:
    """Copy the set in `root` to `out`, which appears only when it is whole. `progress` counts people.

    Raises:
        ConfigError: `out` is the folder of the set, or lies in it or around it.
        ShardError: The set is damaged, or `out` holds something else.
    """
    if samples_per_shard < 1:
        raise ConfigError(f"--reshard {samples_per_shard}: at least 1 sample a shard is expected")
    source, target = root.resolve(), out.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise ConfigError(
            f"{out}: overlaps the set's own folder ({root}), which jobs may be reading; name another folder"
        )
    manifest = manifests.load(root)
    with lock_folder(out):
        if out.exists():
            return _existing_copy(out, manifest, samples_per_shard)
        return _copy_set(root, manifest, samples_per_shard, out, workers, progress)


def _existing_copy(out: Path, source: Manifest, samples_per_shard: int) -> Manifest:
    """Return the manifest of the copy. ShardError when something else lies there."""
    if manifests.path_of(out).exists():
        copy = manifests.load(out)
        same = copy.source == source.source and copy.content(set(KINDS)) == source.content(set(KINDS))
        if same and copy.samples_per_shard == samples_per_shard:
            return copy
    raise ShardError(f"{out}: exists already, and is not this copy; name another folder")


def _copy_set(root: Path, source: Manifest, step: int, out: Path, workers: int, progress: Progress | None) -> Manifest:
    """Write the copy, with `step` positions a shard, into a hidden folder, and rename that."""
    temporary = out.with_name(f".{out.name}.copy")
    temporary.mkdir(parents=True, exist_ok=True)
    finish.remove_leftovers(temporary)
    copies = [copy for name in source.splits for copy in _plan_copies(SplitShards(root, name, source), step, temporary)]
    todo = [copy for copy in copies if shard_file.read_rows(copy) is None]
    samples_todo, samples = (sum(copy.size for copy in some) for some in (todo, copies))
    build.require_room(out, _total_bytes(source) * samples_todo // samples, "the copy")
    done_before = Counter({name: split.samples for name, split in source.splits.items()})
    for copy in todo:
        done_before[copy.split] -= copy.size
    pool.run(_write_copy, todo, workers, progress, done_before)
    splits = {name: _join_split(root, source, name, [c for c in copies if c.split == name]) for name in source.splits}
    header = source.model_dump(exclude={"splits"}) | {"samples_per_shard": step}
    manifest = finish.finish_set(temporary, header, splits)
    temporary.rename(out)
    return manifest


def _plan_copies(source: SplitShards, step: int, out: Path) -> Iterator[_ShardCopy]:
    path = source.root / source.split.index
    if io.sha256(path) != source.split.index_sha256:
        raise ShardError(f"{path}: damaged; {source.remedy}")
    cuts = np.searchsorted(source.rows["key"], range(0, source.split.positions + step, step)).tolist()
    fingerprint = f"{source.manifest.source} {source.split.content} {step}"
    for number, (first, last) in enumerate(pairwise(cuts)):
        yield _ShardCopy(
            out=out, split=source.name, number=number, fingerprint=fingerprint, parts=1,
            source=source, indices=range(first, last),
        )  # fmt: skip


def _write_copy(copy: _ShardCopy, tick: Tick) -> None:
    shard_file.write(copy, _copied_samples(copy, tick), ShardCounts())


def _copied_samples(copy: _ShardCopy, tick: Tick) -> Iterator[KeyedSample]:
    source = copy.source
    for count, index in enumerate(copy.indices, 1):
        members = {kind: data for kind in KINDS if (data := source.read(index, kind)) is not None}
        try:
            labels = json.loads(members["meta.json"])["labels"]
        except (ValueError, KeyError, TypeError):
            raise ShardError(f"{source.root}: sample {source.key(index)}: no facts; {source.remedy}") from None
        yield KeyedSample(int(source.key(index)), members, labels)
        tick(count)


def _join_split(root: Path, source: Manifest, name: str, copies: list[_ShardCopy]) -> Split:
    """Return a split of the copy. ShardError unless it holds exactly what the source's manifest says."""
    original = source.splits[name]
    shards = [(copy, rows) for copy in copies if (rows := shard_file.read_rows(copy))]
    facts = SplitFacts(
        listed=original.listed,
        positions=original.positions,
        left_out=original.left_out,
        notes=original.notes,
        unusable=original.unusable,
        box_kind=original.box_kind,
    )
    split = finish.join_shards(copies[0].out, name, facts, shards, list(original.classes))
    remedy = copies[0].source.remedy
    if (split.content, split.classes, split.members) != (original.content, original.classes, original.members):
        for copy in copies:  # or the next attempt would continue with these shards
            copy.rows.unlink()
        raise ShardError(f"{root}: split {name} is damaged: its members are not what was written; {remedy}")
    return split


def _total_bytes(manifest: Manifest) -> int:
    return sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)
