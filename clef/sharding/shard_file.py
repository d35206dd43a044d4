"""One shard on its way: a tar, and then its rows beside it. Only with its rows does a shard count as done.

The tar is hashed, and its members' places noted, as it is written: nothing is read again.
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
from clef.data.manifest import KINDS, ROW


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """A shard of a split in the folder `out`. `fingerprint` says what it is made of, `parts` how many make the set."""

    out: Path
    split: str
    number: int
    fingerprint: str
    parts: int

    @property
    def path(self) -> Path:
        """The tar."""
        return self.out / f"{self.split}-{self.number:06d}.tar"

    @property
    def rows(self) -> Path:
        """What is known of it until the manifest is written."""
        return self.path.with_suffix(".rows.npz")


@dataclass(frozen=True)
class Entry:
    """A sample on its way into a tar; `key` is its person's position in the source's list."""

    key: int
    members: Mapping[str, bytes]
    labels: Sequence[str]


@dataclass
class Tally:
    """What became of the people of a shard, besides those who were stored."""

    notes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    unusable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """What is known of a shard that is done: rows of the index, a sha256 of each member (n,kinds,32), the record."""

    index: np.ndarray
    digests: np.ndarray
    record: dict[str, Any]


def write(shard: ShardFile, entries: Iterable[Entry], tally: Tally) -> None:
    """Write a tar of these samples, and then its rows. `tally` is looked at when all entries have come."""
    index: list[tuple[int, int, list[int], list[int]]] = []
    digests: list[bytes] = []
    classes: Counter[str] = Counter()
    with io.atomic(shard.path) as file:
        tar = _Tar(file)
        for entry in entries:
            offsets = {kind: tar.add(f"{entry.key:08d}.{kind}", entry.members[kind]) for kind in sorted(entry.members)}
            sizes = [len(entry.members[kind]) if kind in offsets else -1 for kind in KINDS]
            index.append((entry.key, 0, [offsets.get(kind, 0) for kind in KINDS], sizes))
            digests += [_digest(entry.members.get(kind)) for kind in KINDS]
            classes.update(entry.labels)
        tar.close()
    record = {
        "fingerprint": shard.fingerprint,
        "parts": shard.parts,
        "bytes": tar.size,
        "sha256": tar.sha256.hexdigest(),
        "classes": classes,
        "notes": tally.notes,
        "left_out": tally.left_out,
        "unusable": tally.unusable,
    }
    table = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, len(KINDS), 32)
    with io.atomic(shard.rows) as file:
        np.savez(file, rows=np.array(index, ROW), digests=table, record=np.array(json.dumps(record)))


def read_rows(shard: ShardFile) -> Rows | None:
    """What is known of a shard, or None when it is not done: not there, cut short, or made of something else."""
    try:
        with np.load(shard.rows, allow_pickle=False) as stored:
            rows = Rows(stored["rows"], stored["digests"], json.loads(str(stored["record"])))
        whole = rows.record["bytes"] == shard.path.stat().st_size
        return rows if whole and rows.record["fingerprint"] == shard.fingerprint else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _digest(member: bytes | None) -> bytes:
    return bytes(32) if member is None else hashlib.sha256(member).digest()


class _Tar:
    """A tar in which everything that could differ between two runs is fixed: time, owner, rights.

    `tarfile` makes the headers. It would not hash what it writes, nor say where it puts it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256, self.size = file, hashlib.sha256(), 0

    def add(self, name: str, content: bytes) -> int:
        """Append a member. Returns where its bytes begin."""
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = len(content), 0o444, 0
        self._put(header.tobuf())
        offset = self.size
        self._put(content)
        self._fill(tarfile.BLOCKSIZE)
        return offset

    def close(self) -> None:
        """The two empty blocks at the end of a tar, whose length is a multiple of its record size."""
        self._put(bytes(2 * tarfile.BLOCKSIZE))
        self._fill(tarfile.RECORDSIZE)
        self._file.flush()
        if (found := os.fstat(self._file.fileno()).st_size) != self.size:
            raise OSError(f"{self._file.name}: {found} bytes are on disk, {self.size} were written")

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self.sha256.update(data)
        self.size += len(data)

    def _fill(self, unit: int) -> None:
        self._put(bytes(-self.size % unit))
