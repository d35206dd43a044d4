"""Reads every byte of a set of shards and compares it with its manifest. Nothing else may lie in its folder."""

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
from clef.data.manifest import INDEX_DTYPE, KINDS, Manifest, Shard, Split
from clef.errors import raise_if_system_error
from clef.sharding import finish, pool
from clef.sharding.pool import Tick

_WRONG_BYTES = "not the bytes that were written"
NOT_STATED = "not in the manifest"
"""How the fault of a file ends that isn't part of the set."""


@dataclass(frozen=True)
class _ShardTask:
    """A shard to be verified, and its rows of the index (None: the index can't be read)."""

    path: Path
    split: str
    shard: Shard
    rows: np.ndarray | None

    @property
    def size(self) -> int:
        return self.shard.bytes


@dataclass(frozen=True)
class _TarContents:
    """What a tar holds."""

    rows: np.ndarray
    digests: np.ndarray
    classes: Counter[str]
    splits: set[str]


def verify(root: Path, workers: int = 1, progress: Progress | None = None) -> list[str]:
    """Return what is wrong with the set in `root`, one text a fault; an empty list means that the set is whole.

    `progress` counts bytes. Raises ShardError when the manifest is no manifest, SetupError when the system doesn't let
    a file be read.
    """
    manifest = manifests.load(root)
    faults = _folder_faults(root, manifest)
    tasks: list[_ShardTask] = []
    for name, split in manifest.splits.items():
        index, index_faults = _read_index(root, split)
        faults += index_faults + _split_faults(name, split, manifest.samples_per_shard, index)
        tasks += _tasks(root, name, split, index)
    results = pool.run(_verify_shard, tasks, workers, progress)
    faults += [
        f"{task.shard.name}: {fault}"
        for task, (shard_faults, _) in zip(tasks, results, strict=True)
        for fault in shard_faults
    ]
    if not faults:
        for name, split in manifest.splits.items():
            digests = [table for task, (_, table) in zip(tasks, results, strict=True) if task.split == name]
            faults += _content_faults(name, split, digests)
    return faults


def _folder_faults(root: Path, manifest: Manifest) -> list[str]:
    """Check the manifest's own bytes, and that exactly its files are in the folder."""
    stated, existing = finish.file_names(manifest), {path.name for path in root.iterdir()}
    faults = [f"{name}: missing" for name in sorted(stated - existing)]
    faults += [f"{name}: {NOT_STATED}" for name in sorted(existing - stated)]
    if manifests.path_of(root).read_bytes() != manifests.serialize(manifest):
        faults.append(f"{manifests.FILE_NAME}: {_WRONG_BYTES}")
    return faults


def _read_index(root: Path, split: Split) -> tuple[np.ndarray | None, list[str]]:
    """Return the rows of a split, or None and the faults when they are not those that were written."""
    path = root / split.index
    if not path.exists():
        return None, []  # `_folder_faults` names it
    try:
        if io.sha256(path) != split.index_sha256:
            return None, [f"{path.name}: {_WRONG_BYTES}"]
        rows = io.load_array(path)
    except (OSError, ValueError) as error:
        raise_if_system_error(error, path)
        return None, [f"{path.name}: can't be read: {error}"]
    if rows.dtype != INDEX_DTYPE or rows.shape != (split.samples,):
        return None, [f"{path.name}: not the index of {split.samples} samples"]
    return rows, []


def _split_faults(name: str, split: Split, step: int, index: np.ndarray | None) -> list[str]:
    """Check that the numbers in the manifest, and the keys in the index, are consistent."""
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


def _tasks(root: Path, name: str, split: Split, index: np.ndarray | None) -> Iterator[_ShardTask]:
    for number, shard in enumerate(split.shards):
        path = root / shard.name
        if path.exists():
            yield _ShardTask(path, name, shard, None if index is None else index[index["shard"] == number])


def _verify_shard(task: _ShardTask, tick: Tick) -> tuple[list[str], np.ndarray]:
    """Return the faults of a shard, and the digests of its members."""
    none = np.empty((0, len(KINDS), 32), np.uint8)
    try:
        if (size := task.path.stat().st_size) != task.shard.bytes:
            return [f"{size} bytes, {task.shard.bytes} expected"], none
        if _sha256(task.path, tick) != task.shard.sha256:
            return [_WRONG_BYTES], none
        contents = _read_tar(task.path)
    except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        raise_if_system_error(error, task.path)
        return [f"can't be read: {error}"], none
    return _tar_faults(task, contents), contents.digests


def _sha256(path: Path, tick: Tick) -> str:
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            done += len(block)
            tick(done)
    return digest.hexdigest()


def _read_tar(path: Path) -> _TarContents:
    """Read the contents of a tar of samples. A damaged one raises any of the errors that `_verify_shard` catches."""
    samples: dict[str, dict[str, tuple[int, int, bytes]]] = {}
    classes, splits = Counter[str](), set()
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, kind = member.name.partition(".")
            content = tar.extractfile(member)
            data = content.read() if content else b""
            samples.setdefault(key, {})[kind] = (member.offset_data, member.size, hashlib.sha256(data).digest())
            if kind == "meta.json":
                meta: dict[str, Any] = json.loads(data)
                classes.update(meta["labels"])
                splits.add(meta["split"])
    rows, digests = np.zeros(len(samples), INDEX_DTYPE), np.zeros((len(samples), len(KINDS), 32), np.uint8)
    rows["size"] = -1
    for i, (key, members) in enumerate(samples.items()):
        rows["key"][i] = int(key)
        for kind, (offset, size, digest) in members.items():
            k = KINDS.index(kind)
            rows["offset"][i, k], rows["size"][i, k] = offset, size
            digests[i, k] = np.frombuffer(digest, np.uint8)
    return _TarContents(rows, digests, classes, splits)


def _tar_faults(task: _ShardTask, contents: _TarContents) -> list[str]:
    """Check that a tar is what the manifest and the index say of it."""
    shard, keys = task.shard, [f"{key:08d}" for key in contents.rows["key"]]
    checks = {
        f"{len(keys)} samples, {shard.samples} expected": len(keys) == shard.samples,
        "other keys than the manifest states": [shard.first_key, shard.last_key] == [*keys[:1], *keys[-1:]]
        or (shard.first_key is None and not keys),
        "other classes than the manifest states": contents.classes == Counter(shard.classes),
        f"samples of {' and '.join(sorted(contents.splits))}": contents.splits <= {task.split},
    }
    if task.rows is not None:
        stated = task.rows.copy()
        stated["shard"] = 0
        checks["members are not where the index says"] = np.array_equal(stated, contents.rows)
    return [fault for fault, right in checks.items() if not right]


def _content_faults(name: str, split: Split, digests: Sequence[np.ndarray]) -> list[str]:
    hashes = finish.content_hashes(digests)
    return [
        f"{name}: {kind}: not the content that was written" for kind in KINDS if hashes[kind] != split.content[kind]
    ]
