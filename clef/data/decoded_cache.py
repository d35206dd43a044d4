"""A cache of decoded images on a node's own disk, shared by all processes and jobs there (`runtime.cache: node`).

A table holds the images of one member kind of a split at one size: their pixels, N,H,W,C, and a flag for each image
that is there. Its name says what it holds, and ends with a hash of the content. So a set of shards that was made again
gets new tables, and the old ones are removed.

The process that decodes an image first writes it, before anything random happens to it. Its flag is set only once the
pixels have reached the disk, so what is flagged is whole, even if a process is killed. No image is locked: two
processes that write the same one write the same bytes. Imports no torch.
"""

import errno
import fcntl
import hashlib
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clef import io
from clef.config import AnyInput, DepthConfig, InputConfig, InputName, RuntimeConfig
from clef.config.inputs import Resizing
from clef.data import decode
from clef.data.manifest import MEMBER_OF_INPUT, Manifest
from clef.data.shards import SplitShards
from clef.errors import SetupError, raise_if_system_error

PIXELS, FLAGS, USERS = "pixels", "flags", "users.lock"
"""The files of a table. Every process that uses the table shares the lock on the last."""
_PRESENT = b"\1"
"""The flag of an image that is there."""
TableKey = tuple[str, Resizing]
"""Member kind, and how it is resized: which table of a split it is."""


def node_cache(runtime: RuntimeConfig) -> "NodeCache | None":
    """Return the cache that a cell uses, or None."""
    return NodeCache(runtime.scratch) if runtime.cache == "node" else None


class NodeCache:
    """The tables of this user on this node, in a folder of the scratch disk."""

    def __init__(self, scratch: str) -> None:
        parent = os.path.expandvars(scratch) or os.environ.get("SLURM_TMPDIR") or tempfile.gettempdir()
        self.folder = Path(parent).expanduser() / f"clef-{os.getuid()}"

    def reserve(self, manifest: Manifest, splits: Iterable[str], inputs: Mapping[InputName, AnyInput]) -> None:
        """Create the tables that are missing for these splits, all or none. SetupError where there is no room."""
        specs = [spec for split in splits for spec in table_specs(manifest, split, inputs).values()]
        with self._locked():
            self._create_missing(specs)

    def tables(self, shards: SplitShards, inputs: Mapping[InputName, AnyInput]) -> "dict[TableKey, CacheTable]":
        """Return the tables of a split, opened. An open table is not removed by other processes."""
        specs = table_specs(shards.manifest, shards.name, inputs)
        with self._locked():
            self._create_missing(specs.values())
            return {key: CacheTable(self.folder / spec.name, spec.shape) for key, spec in specs.items()}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the cache's lock: only one process at a time creates or removes tables."""
        _make_private(self.folder)
        lock = self.folder / "lock"
        os.close(os.open(lock, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with io.lock(lock):
            yield

    def _create_missing(self, specs: "Iterable[TableSpec]") -> None:
        missing = [spec for spec in specs if not self._is_whole(spec)]
        if not missing:
            return
        self._remove_stale(missing)
        needed, free = sum(sum(spec.file_sizes.values()) for spec in missing), shutil.disk_usage(self.folder).free
        if needed > free:
            raise self._no_room(needed, free)
        for spec in missing:
            self._create(spec)

    def _is_whole(self, spec: "TableSpec") -> bool:
        """Return whether the table exists, with files of the right size. One that is damaged is removed."""
        folder = self.folder / spec.name
        if not folder.exists():
            return False
        sizes = {name: (folder / name).stat().st_size if (folder / name).exists() else -1 for name in spec.file_sizes}
        if sizes == spec.file_sizes and (folder / USERS).exists():
            return True
        if io.is_locked(folder / USERS):
            raise SetupError(f"{folder}: damaged, and in use; end the jobs that use it, and remove it")
        shutil.rmtree(folder)
        return False

    def _remove_stale(self, missing: "Iterable[TableSpec]") -> None:
        """Remove tables that these replace, unless in use, and what a killed process left half made."""
        replaced = {spec.title for spec in missing}
        for path in self.folder.iterdir():
            stale = path.name.rpartition("-")[0] in replaced and not io.is_locked(path / USERS)
            if stale or path.name.endswith(".tmp"):
                shutil.rmtree(path)

    def _create(self, spec: "TableSpec") -> None:
        """Create an empty table with its disk space allocated; it gets its name last."""
        temporary = self.folder / f"{spec.name}.tmp"
        temporary.mkdir(mode=0o700)
        try:
            for name, size in {USERS: 0, **spec.file_sizes}.items():
                with open(temporary / name, "xb", opener=_open_private) as file:
                    if size:
                        os.posix_fallocate(file.fileno(), 0, size)
            temporary.rename(self.folder / spec.name)
        except OSError as error:
            shutil.rmtree(temporary)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise_if_system_error(error, temporary)
            free = shutil.disk_usage(self.folder).free
            raise self._no_room(sum(spec.file_sizes.values()), free, f" ({error.strerror})") from None

    def _no_room(self, needed: int, free: int, why: str = "") -> SetupError:
        return SetupError(
            f"{self.folder}: the node cache needs {_format_bytes(needed)} more, {_format_bytes(free)} are free{why}; "
            f"free some space there, name a folder of another disk with runtime.scratch, or set runtime.cache=none"
        )


@dataclass(frozen=True)
class TableSpec:
    """What a table holds."""

    dataset: str
    split: str
    kind: str
    how: Resizing
    channels: int
    samples: int
    content: str
    """The manifest's hash of all members of this kind in the split."""

    @property
    def title(self) -> str:
        """Return its name without the hash: a new table replaces those of the same title."""
        kind = self.kind.partition(".")[0]
        way = "" if self.how == Resizing(self.how.size) else f"-{self.how.interpolation}-{self.how.fit}"
        return f"{self.dataset}-{self.split}-{kind}-{self.how.size[0]}x{self.how.size[1]}{way}"

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        identity = f"{self.content} {self.samples} {tuple(self.how)} {self.channels} {decode.VERSION}"
        return f"{self.title}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return N,H,W,C of its pixels."""
        return self.samples, *self.how.size, self.channels

    @property
    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of each of its files."""
        return {PIXELS: math.prod(self.shape), FLAGS: self.samples}


def table_specs(manifest: Manifest, split: str, inputs: Mapping[InputName, AnyInput]) -> dict[TableKey, TableSpec]:
    """Return the tables that these inputs of a split are read from, one for each member and way to resize it."""
    part = manifest.split(split)
    specs = {}
    for name, config in inputs.items():
        if isinstance(config, InputConfig | DepthConfig):
            kind, channels = MEMBER_OF_INPUT[name], 3 if isinstance(config, InputConfig) else 1
            specs[kind, config.resizing] = TableSpec(
                manifest.dataset, split, kind, config.resizing, channels, part.samples, part.content[kind]
            )
    return specs


class CacheTable:
    """A table opened by a process. A forked worker inherits its open files; a spawned one opens its own."""

    def __init__(self, folder: Path, shape: tuple[int, int, int, int]) -> None:
        self.folder, self.shape = folder, shape
        self._image_bytes = math.prod(shape[1:])
        self._unflagged: list[int] = []
        self._opened: dict[str, BinaryIO] = {}
        self._file(USERS)

    def read(self, index: int, out: np.ndarray) -> bool:
        """Read the image of a sample into `out`, H,W,C. Returns False when it is not there yet."""
        if os.pread(self._file(FLAGS), 1, index) != _PRESENT:
            return False
        if os.preadv(self._file(PIXELS), [out.data], index * self._image_bytes) != self._image_bytes:
            raise SetupError(f"{self.folder}: cut short while in use; end the jobs that use it, and remove it")
        return True

    def write(self, index: int, pixels: np.ndarray) -> None:
        """Write the image of a sample, H,W,C. Others see it after `commit`."""
        if os.pwrite(self._file(PIXELS), pixels.data, index * self._image_bytes) != self._image_bytes:
            raise SetupError(f"{self.folder}: a picture could not be written; is the disk full?")
        self._unflagged.append(index)

    def commit(self) -> None:
        """Bring to disk what was written, then flag it. It takes milliseconds: call it once for many images."""
        if self._unflagged:
            os.fdatasync(self._file(PIXELS))
            for index in self._unflagged:
                os.pwrite(self._file(FLAGS), _PRESENT, index)
            self._unflagged.clear()

    def __getstate__(self) -> dict[str, object]:
        """Return what is pickled: no open files."""
        return self.__dict__ | {"_opened": {}, "_unflagged": []}

    def _file(self, name: str) -> int:
        if not self._opened:
            self._opened = {file: (self.folder / file).open("r+b", buffering=0) for file in (PIXELS, FLAGS, USERS)}
            fcntl.flock(self._opened[USERS], fcntl.LOCK_SH)
        return self._opened[name].fileno()


def _make_private(folder: Path) -> None:
    """Create the folder, for this user alone. SetupError where that fails, or where it is someone else's."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise SetupError(
            f"{folder}: {error.strerror}; name a folder of this node that you may write with runtime.scratch, or set "
            f"runtime.cache=none"
        ) from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise SetupError(
            f"{folder}: must be a folder owned by you with mode 700 (chmod 700); or name another folder with "
            f"runtime.scratch"
        )


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _format_bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
