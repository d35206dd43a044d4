"""One split of a set of shards, read by index: a member's bytes with one `pread`; nothing is parsed or scanned."""

import os
import resource
from functools import cached_property
from pathlib import Path

import numpy as np

from clef import io
from clef.data import manifest as manifests
from clef.data.manifest import INDEX_DTYPE, KINDS, Manifest
from clef.errors import ShardError, raise_if_system_error


class SplitShards:
    """Random access to the samples of a split, numbered from 0 in the order of the manifest.

    Opening it checks what is cheap to check: that every tar and the index exist, with the size the manifest states. A
    set that was cut short is an error here, never a shorter epoch. (`clef.sharding.verify` reads every byte.)
    """

    def __init__(self, root: Path, split: str, manifest: Manifest | None = None) -> None:
        self.root, self.name = root, split
        self.manifest = manifest or manifests.load(root)
        self.split = self.manifest.split(split)
        self._files: dict[int, _OpenFile] = {}
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
            raise_if_system_error(error, path)
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
        try:
            data = self._file(shard).read(size, offset)
        except OSError as error:
            raise_if_system_error(error, self._path(shard))
            raise ShardError(f"{self._path(shard)}: {error.strerror}; {self.remedy}") from None
        if len(data) != size:
            raise ShardError(f"{self._path(shard)}: ends before sample {self.key(index)}; {self.remedy}")
        return data

    def key(self, index: int) -> str:
        """Return the WebDataset key of the sample at `index`."""
        return f"{int(self.rows[index]['key']):08d}"

    @property
    def remedy(self) -> str:
        """Return what to do about damage, for an error's text."""
        return manifests.remedy(self.manifest.dataset)

    def __getstate__(self) -> dict[str, object]:
        """Return what is pickled: no open files and no mapped index, for a spawned worker opens its own."""
        state = {key: value for key, value in self.__dict__.items() if key != "rows"}
        return state | {"_files": {}}

    def _file(self, shard: int) -> "_OpenFile":
        file = self._files.get(shard)
        if file is None:
            while len(self._files) >= _most_open():
                del self._files[next(iter(self._files))]  # samples come in any order: no file is a better one to close
            file = self._files[shard] = _OpenFile(self._path(shard))
        return file

    def _path(self, shard: int) -> Path:
        return self.root / self.split.shards[shard].name

    def _check_size(self, path: Path, expected: int) -> None:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise_if_system_error(error, path)
            raise ShardError(f"{path}: {error.strerror}; {self.remedy}") from None
        if size != expected:
            raise ShardError(
                f"{path}: {size} bytes, the manifest states {expected}: damaged or cut short; {self.remedy}"
            )


class _OpenFile:
    """A file that is read at any offset, and closed once nobody refers to it. A forked loader worker inherits it."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, size: int, offset: int) -> bytes:
        """Return `size` bytes from `offset` on; fewer where the file ends."""
        return os.pread(self._handle, size, offset)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):  # it could be opened
            os.close(self._handle)


def _most_open() -> int:
    """Return how many tars of a split are kept open: an eighth of the files that this process may have open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, limit // 8) if limit != resource.RLIM_INFINITY else 1024
