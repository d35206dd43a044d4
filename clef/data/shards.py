"""One split of a set of shards, read by index: a member's bytes with one `pread`; nothing is parsed or scanned."""

import os
from functools import cached_property
from pathlib import Path

import numpy as np

from clef import io
from clef.data import manifest as manifests
from clef.data.manifest import INDEX_DTYPE, KINDS, Manifest
from clef.errors import ShardError


class SplitShards:
    """Random access to the samples of a split, numbered from 0 in the order of the manifest.

    Opening it checks what is cheap to check: that every tar and the index exist, with the size the manifest states. A
    set that was cut short is an error here, never a shorter epoch. (`clef.sharding.verify` reads every byte.)
    """

    def __init__(self, root: Path, split: str, manifest: Manifest | None = None) -> None:
        self.root, self.name = root, split
        self.manifest = manifest or manifests.load(root)
        self.split = self.manifest.split(split)
        self._files: dict[int, int] = {}
        self._pid = os.getpid()
        for shard in self.split.shards:
            self._check_size(root / shard.name, shard.bytes)

    def __len__(self) -> int:
        return self.split.samples

    @cached_property
    def rows(self) -> np.ndarray:
        """Return the rows of the binary index (`INDEX_DTYPE`), one a sample; mapped, not read."""
        path = self.root / self.split.index
        try:
            rows = io.load_array(path, mapped=True)
        except (OSError, ValueError) as error:
            raise ShardError(f"{path}: the index can't be read: {error}; {self.remedy}") from None
        if rows.dtype != INDEX_DTYPE or rows.shape != (self.split.samples,):
            raise ShardError(f"{path}: not the index of {self.split.samples} samples; {self.remedy}")
        return rows

    def read(self, index: int, kind: str) -> bytes | None:
        """Return the bytes of a member of the sample at `index`, or None when it has no such member."""
        row, column = self.rows[index], KINDS.index(kind)
        shard, size, offset = int(row["shard"]), int(row["size"][column]), int(row["offset"][column])
        if size < 0:
            return None
        shard_bytes = self.split.shards[shard].bytes if 0 <= shard < len(self.split.shards) else 0
        if offset < 0 or offset + size > shard_bytes:
            path = self.root / self.split.index
            raise ShardError(f"{path}: points outside the tars for sample {self.key(index)}; {self.remedy}")
        data = os.pread(self._file(shard), size, offset)
        if len(data) != size:
            raise ShardError(f"{self._path(shard)}: ends before sample {self.key(index)}; {self.remedy}")
        return data

    def key(self, index: int) -> str:
        """Return the WebDataset key of the sample at `index`."""
        return f"{int(self.rows[index]['key']):08d}"

    @property
    def remedy(self) -> str:
        """Return what to do about damage, for an error's text."""
        name = self.manifest.dataset
        return f"remove {self.root} and run: python -m clef.shard --dataset {name} --out {self.root.parent}"

    def __getstate__(self) -> dict[str, object]:
        """Return what is pickled: no open files and no mapped index, for a spawned worker opens its own."""
        state = {key: value for key, value in self.__dict__.items() if key != "rows"}
        return state | {"_files": {}}

    def _file(self, shard: int) -> int:
        if self._pid != os.getpid():  # this is a forked loader worker: it opens its own
            self._files, self._pid = {}, os.getpid()
        if shard not in self._files:
            self._files[shard] = os.open(self._path(shard), os.O_RDONLY | os.O_CLOEXEC)
        return self._files[shard]

    def _path(self, shard: int) -> Path:
        return self.root / self.split.shards[shard].name

    def _check_size(self, path: Path, expected: int) -> None:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ShardError(f"{path}: {error.strerror}; {self.remedy}") from None
        if size != expected:
            raise ShardError(
                f"{path}: {size} bytes, the manifest states {expected}: damaged or cut short; {self.remedy}"
            )
