"""One shard: a tar, and beside it a file of its index rows. A shard counts as done only once its rows are written.

The tar is hashed, and the positions of its members noted, while it is written: nothing is read again. It isn't written
by `webdataset.TarWriter`, which does neither, and whose import takes seconds because it imports torch.
"""

import hashlib
import json
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clef import io
from clef.data.manifest import INDEX_DTYPE, KINDS
from clef.errors import raise_if_system_error


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """A shard of a split, in the folder `out`."""

    out: Path
    split: str
    number: int
    fingerprint: str
    """Says what it is made of: one with another fingerprint is made again."""
    parts: int
    """In how many parts the set is made."""

    @property
    def path(self) -> Path:
        """Return the path of the tar."""
        return self.out / f"{self.split}-{self.number:06d}.tar"

    @property
    def rows(self) -> Path:
        """Return the path of its rows, which are needed until the manifest is written."""
        return self.path.with_suffix(".rows.npz")


@dataclass(frozen=True)
class KeyedSample:
    """A sample to be written; `key` is its person's position in the source's list."""

    key: int
    members: Mapping[str, bytes]
    labels: Sequence[str]


@dataclass
class ShardCounts:
    """Counts of who was left out of a shard, or flagged, by rule; and the rule for each person who was left out."""

    notes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    unusable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ShardRows:
    """What is known of a shard that is done."""

    index: np.ndarray
    """Its rows of the index (`INDEX_DTYPE`), all with shard number 0."""
    digests: np.ndarray
    """The sha256 of each member, n,kinds,32 uint8; zeros where there is none."""
    record: dict[str, Any]
    """The rest: fingerprint, size, hash and counts."""


def write(shard: ShardFile, samples: Iterable[KeyedSample], counts: ShardCounts) -> None:
    """Write a tar of these samples, and then its rows. `counts` is read only after all samples have come."""
    index: list[tuple[int, int, list[int], list[int]]] = []
    digests: list[bytes] = []
    classes: Counter[str] = Counter()
    with io.atomic(shard.path) as file:
        tar = _TarWriter(file)
        for sample in samples:
            members = sample.members
            offsets = {kind: tar.add(f"{sample.key:08d}.{kind}", members[kind]) for kind in sorted(members)}
            sizes = [len(members[kind]) if kind in members else -1 for kind in KINDS]
            index.append((sample.key, 0, [offsets.get(kind, 0) for kind in KINDS], sizes))
            digests += [_digest(members.get(kind)) for kind in KINDS]
            classes.update(sample.labels)
        tar.close()
    record = {
        "fingerprint": shard.fingerprint,
        "parts": shard.parts,
        "bytes": tar.size,
        "sha256": tar.sha256.hexdigest(),
        "classes": classes,
        "notes": counts.notes,
        "left_out": counts.left_out,
        "unusable": counts.unusable,
    }
    table = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, len(KINDS), 32)
    with io.atomic(shard.rows) as file:
        np.savez(file, rows=np.array(index, INDEX_DTYPE), digests=table, record=np.array(json.dumps(record)))


def read_rows(shard: ShardFile) -> ShardRows | None:
    """Return what is known of a shard, or None when it is not done: missing, cut short, or made of something else."""
    try:
        with np.load(shard.rows, allow_pickle=False) as stored:
            rows = ShardRows(stored["rows"], stored["digests"], json.loads(str(stored["record"])))
        whole = rows.record["bytes"] == shard.path.stat().st_size
        return rows if whole and rows.record["fingerprint"] == shard.fingerprint else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise_if_system_error(error, shard.rows)
        return None


def _digest(member: bytes | None) -> bytes:
    return bytes(32) if member is None else hashlib.sha256(member).digest()


class _TarWriter:
    """Writes a tar in which all that could differ between two runs is fixed: time, owner and mode.

    `tarfile` makes the headers. Its own writer would neither hash what it writes nor say where it puts it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256, self.size = file, hashlib.sha256(), 0

    def add(self, name: str, content: bytes) -> int:
        """Append a member. Returns the offset at which its bytes begin."""
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = len(content), 0o444, 0
        self._put(header.tobuf())
        offset = self.size
        self._put(content)
        self._pad(tarfile.BLOCKSIZE)
        return offset

    def close(self) -> None:
        """Write the two empty blocks that end a tar, and pad it to a multiple of the record size."""
        self._put(bytes(2 * tarfile.BLOCKSIZE))
        self._pad(tarfile.RECORDSIZE)
        self._file.flush()
        if (size := os.fstat(self._file.fileno()).st_size) != self.size:
            raise OSError(f"{self._file.name}: {size} bytes are on disk, {self.size} were written")

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self.sha256.update(data)
        self.size += len(data)

    def _pad(self, unit: int) -> None:
        self._put(bytes(-self.size % unit))
