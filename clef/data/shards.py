"""One split of a set of shards, read by place: a member's bytes with one `pread`, nothing parsed, nothing scanned."""

import os
from functools import cached_property
from pathlib import Path

import numpy as np

from clef import io
from clef.data import manifest as manifests
from clef.data.manifest import KINDS, ROW, Manifest
from clef.errors import ShardError


class SplitShards:
    """Random access to the samples of a split, numbered from 0 in the order of the manifest.

    Opening it checks what is cheap to check: that every tar and the index are there, with the size the manifest
    states. A set that was cut short is an error here, never a shorter epoch (`clef.sharding.verify` reads every byte).
    """

    def __init__(self, root: Path, split: str, manifest: Manifest | None = None) -> None:
        self.root, self.name = root, split
        self.manifest = manifest or manifests.load(root)
        self.split = self.manifest.split(split)
        self._files: dict[int, int] = {}
        self._pid = os.getpid()
        for shard in self.split.shards:
            self._check(root / shard.name, shard.bytes)

    def __len__(self) -> int:
        return self.split.samples

    @cached_property
    def index(self) -> np.ndarray:
        """The rows of the binary index, mapped, not read."""
        path = self.root / self.split.index
        try:
            rows = io.load(path, mapped=True)
        except (OSError, ValueError) as error:
            raise ShardError(f"{path}: the index can't be read: {error}; {self.remedy}") from None
        if rows.dtype != ROW or rows.shape != (self.split.samples,):
            raise ShardError(f"{path}: not the index of {self.split.samples} samples; {self.remedy}")
        return rows

    def read(self, place: int, kind: str) -> bytes | None:
        """The bytes of a member of the sample at `place`, or None when it has no such member."""
        row, column = self.index[place], KINDS.index(kind)
        shard, size, offset = int(row["shard"]), int(row["size"][column]), int(row["offset"][column])
        if size < 0:
            return None
        stated = self.split.shards[shard].bytes if 0 <= shard < len(self.split.shards) else 0
        if offset < 0 or offset + size > stated:
            where = self.root / self.split.index
            raise ShardError(f"{where}: points outside the tars for sample {self.key(place)}; {self.remedy}")
        data = os.pread(self._file(shard), size, offset)
        if len(data) != size:
            raise ShardError(f"{self._path(shard)}: ends before sample {self.key(place)}; {self.remedy}")
        return data

    def key(self, place: int) -> str:
        """The WebDataset key of the sample at `place`."""
        return f"{int(self.index[place]['key']):08d}"

    def _file(self, shard: int) -> int:
        if self._pid != os.getpid():  # forked: a loader worker opens its own
            self._files, self._pid = {}, os.getpid()
        if shard not in self._files:
            self._files[shard] = os.open(self._path(shard), os.O_RDONLY | os.O_CLOEXEC)
        return self._files[shard]

    def __getstate__(self) -> dict[str, object]:
        """Without open files and the mapped index: a worker process that is spawned opens its own."""
        state = {key: value for key, value in self.__dict__.items() if key != "index"}
        return state | {"_files": {}}

    def _path(self, shard: int) -> Path:
        return self.root / self.split.shards[shard].name

    def _check(self, path: Path, size: int) -> None:
        try:
            found = path.stat().st_size
        except OSError as error:
            raise ShardError(f"{path}: {error.strerror}; {self.remedy}") from None
        if found != size:
            raise ShardError(f"{path}: {found} bytes, the manifest states {size}: damaged or cut short; {self.remedy}")

    @property
    def remedy(self) -> str:
        """What to do about damage."""
        name = self.manifest.dataset
        return f"remove {self.root} and run: python -m clef.shard --dataset {name} --out {self.root.parent}"
