"""Reads every byte of a set of shards and holds it against its manifest. Nothing else may lie in its folder."""

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clef import io
from clef.console import Progress
from clef.data import manifest as manifests
from clef.data.manifest import KINDS, ROW, Manifest, Shard, Split
from clef.sharding import finish, pool
from clef.sharding.pool import Tick

_BYTES = "not the bytes that were written"


@dataclass(frozen=True)
class _Task:
    """A shard to look at, and its rows of the index (None: the index can't be read)."""

    path: Path
    split: str
    shard: Shard
    rows: np.ndarray | None

    @property
    def size(self) -> int:
        return self.shard.bytes


@dataclass(frozen=True)
class _Found:
    """What a tar holds."""

    rows: np.ndarray
    digests: np.ndarray
    classes: Counter[str]
    splits: set[str]


def verify(root: Path, workers: int = 1, progress: Progress | None = None) -> list[str]:
    """What is wrong with the set in `root`, a line a fault; an empty list means that it is whole.

    ShardError when its manifest can't be read. `progress` is told of bytes.
    """
    manifest = manifests.load(root)
    faults = _folder_faults(root, manifest)
    tasks: list[_Task] = []
    for name, split in manifest.splits.items():
        index, found = _index(root, split)
        faults += found + _split_faults(name, split, manifest.samples_per_shard, index)
        tasks += _tasks(root, name, split, index)
    results = pool.run(_look, tasks, workers, progress)
    faults += [
        f"{task.shard.name}: {fault}" for task, (found, _) in zip(tasks, results, strict=True) for fault in found
    ]
    if not faults:
        for name, split in manifest.splits.items():
            digests = [table for task, (_, table) in zip(tasks, results, strict=True) if task.split == name]
            faults += _content_faults(name, split, digests)
    return faults


def _folder_faults(root: Path, manifest: Manifest) -> list[str]:
    """The manifest's own bytes, and files that are missing or too many."""
    stated, there = finish.names(manifest), {path.name for path in root.iterdir()}
    faults = [f"{name}: missing" for name in sorted(stated - there)]
    faults += [f"{name}: not in the manifest" for name in sorted(there - stated)]
    if manifests.path_of(root).read_bytes() != manifests.serialised(manifest):
        faults.append(f"{manifests.NAME}: {_BYTES}")
    return faults


def _index(root: Path, split: Split) -> tuple[np.ndarray | None, list[str]]:
    """The rows of a split, if they are those that were written."""
    path = root / split.index
    if not path.exists():
        return None, []  # said already
    try:
        if io.sha256(path) != split.index_sha256:
            return None, [f"{path.name}: {_BYTES}"]
        rows = io.load(path)
    except (OSError, ValueError) as error:
        return None, [f"{path.name}: can't be read: {error}"]
    if rows.dtype != ROW or rows.shape != (split.samples,):
        return None, [f"{path.name}: not the index of {split.samples} samples"]
    return rows, []


def _split_faults(name: str, split: Split, step: int, index: np.ndarray | None) -> list[str]:
    """Numbers in the manifest, and the keys in the index, that don't go together."""
    checks = {
        "`listed` is not `samples` and `left_out`": split.listed == split.samples + sum(split.left_out.values()),
        "its shards' samples are not `samples`": split.samples == sum(shard.samples for shard in split.shards),
        "its shards' classes are not `classes`": split.classes == _classes(split),
        "not as many shards as `positions` make": len(split.shards) == -(-split.positions // step),
    }
    if index is not None:
        keys, sizes = np.concatenate([[-1], index["key"], [split.positions]]), index["size"]
        members = {kind: int((sizes[:, k] >= 0).sum()) for k, kind in enumerate(KINDS)}
        checks |= {
            "keys that don't rise from 0 to `positions`": bool((np.diff(keys) > 0).all()),
            "keys in another shard than theirs": np.array_equal(index["key"] // step, index["shard"]),
            "not as many members as `members` says": members == split.members,
        }
    return [f"{name}: {fault}" for fault, right in checks.items() if not right]


def _classes(split: Split) -> dict[str, int]:
    total: Counter[str] = Counter()
    for shard in split.shards:
        total.update(shard.classes)
    return {label: total[label] for label in split.classes}


def _tasks(root: Path, name: str, split: Split, index: np.ndarray | None) -> Iterator[_Task]:
    for number, shard in enumerate(split.shards):
        path = root / shard.name
        if path.exists():
            yield _Task(path, name, shard, None if index is None else index[index["shard"] == number])


def _look(task: _Task, tick: Tick) -> tuple[list[str], np.ndarray]:
    """The faults of a shard, and the digests of its members."""
    none = np.empty((0, len(KINDS), 32), np.uint8)
    try:
        if (size := task.path.stat().st_size) != task.shard.bytes:
            return [f"{size} bytes, {task.shard.bytes} expected"], none
        if _sha256(task.path, tick) != task.shard.sha256:
            return [_BYTES], none
        found = _members(task.path)
    except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        return [f"can't be read: {error}"], none
    return _disagreements(task, found), found.digests


def _sha256(path: Path, tick: Tick) -> str:
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            done += len(block)
            tick(done)
    return digest.hexdigest()


def _members(path: Path) -> _Found:
    """What is in a tar of samples. Raises half a dozen errors for one that is none."""
    samples: dict[str, dict[str, tuple[int, int, bytes]]] = {}
    classes, splits = Counter[str](), set()
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, kind = member.name.partition(".")
            content = tar.extractfile(member)
            data = content.read() if content else b""
            samples.setdefault(key, {})[kind] = (member.offset_data, member.size, hashlib.sha256(data).digest())
            if kind == "meta.json":
                facts: dict[str, Any] = json.loads(data)
                classes.update(facts["labels"])
                splits.add(facts["split"])
    rows, digests = np.zeros(len(samples), ROW), np.zeros((len(samples), len(KINDS), 32), np.uint8)
    rows["size"] = -1
    for i, (key, members) in enumerate(samples.items()):
        rows["key"][i] = int(key)
        for kind, (offset, size, digest) in members.items():
            k = KINDS.index(kind)
            rows["offset"][i, k], rows["size"][i, k] = offset, size
            digests[i, k] = np.frombuffer(digest, np.uint8)
    return _Found(rows, digests, classes, splits)


def _disagreements(task: _Task, found: _Found) -> list[str]:
    """Where a tar is not what the manifest and the index say of it."""
    shard, keys = task.shard, [f"{key:08d}" for key in found.rows["key"]]
    checks = {
        f"{len(keys)} samples, {shard.samples} expected": len(keys) == shard.samples,
        "other keys than the manifest states": [shard.first_key, shard.last_key] == [*keys[:1], *keys[-1:]]
        or (shard.first_key is None and not keys),
        "other classes than the manifest states": found.classes == Counter(shard.classes),
        f"samples of {' and '.join(sorted(found.splits))}": found.splits <= {task.split},
    }
    if task.rows is not None:
        stated = task.rows.copy()
        stated["shard"] = 0
        checks["members lie elsewhere than the index says"] = np.array_equal(stated, found.rows)
    return [fault for fault, right in checks.items() if not right]


def _content_faults(name: str, split: Split, digests: Sequence[np.ndarray]) -> list[str]:
    found = finish.content(digests)
    return [f"{name}: {kind}: not the content that was written" for kind in KINDS if found[kind] != split.content[kind]]
