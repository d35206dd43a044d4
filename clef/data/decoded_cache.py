"""Where decoded pictures lie that all processes and jobs of a node share, on its own disk (`runtime.cache: node`).

A table (`clef.data.decoded_cache`) holds one member kind of a split at one size. Its name says what of, and ends with a hash of
the content, so a set that was made anew gets tables of its own, and the old ones go. Imports no torch.

A table of decoded pictures in the node cache: pixels N,H,W,C, and a flag for each picture that is there.

Whoever decodes a picture first writes it, before anything random happens to it. Its flag is set only once the pixels
have reached the disk, so what is flagged is whole, whoever was killed and when. No entry is locked: two processes that
write the same one write the same bytes. Imports no torch.
"""

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
from clef.config import AnyInput, DepthConfig, InputConfig, InputName, RuntimeConfig, Size
from clef.data import decode
from clef.data.manifest import SOURCE, Manifest
from clef.data.shards import SplitShards
from clef.errors import SetupError

PIXELS, FLAGS, USERS = "pixels", "flags", "users.lock"
"""The files of a table: every process that uses it shares the lock on the last."""
_WHOLE = b"\1"


class Table:
    """A table opened by a process. A forked worker inherits its files, one that is spawned opens its own."""

    def __init__(self, folder: Path, shape: tuple[int, int, int, int]) -> None:
        self.folder, self.shape = folder, shape
        self._picture = math.prod(shape[1:])
        self._unflagged: list[int] = []
        self._opened: dict[str, BinaryIO] = {}
        self._file(USERS)

    def read(self, place: int, out: np.ndarray) -> bool:
        """Read a picture into `out`, H,W,C; False when it is not there yet."""
        if os.pread(self._file(FLAGS), 1, place) != _WHOLE:
            return False
        if os.preadv(self._file(PIXELS), [out.data], place * self._picture) != self._picture:
            raise SetupError(f"{self.folder}: cut short while in use; end the jobs that use it, and remove it")
        return True

    def write(self, place: int, pixels: np.ndarray) -> None:
        """Keep a picture, H,W,C; others see it after `commit`."""
        if os.pwrite(self._file(PIXELS), pixels.data, place * self._picture) != self._picture:
            raise SetupError(f"{self.folder}: a picture could not be written; is the disk full?")
        self._unflagged.append(place)

    def commit(self) -> None:
        """Bring to the disk what was written, and flag it. Costs milliseconds: call it once for many pictures."""
        if self._unflagged:
            os.fdatasync(self._file(PIXELS))
            for place in self._unflagged:
                os.pwrite(self._file(FLAGS), _WHOLE, place)
            self._unflagged.clear()

    def __getstate__(self) -> dict[str, object]:
        """Without open files."""
        return self.__dict__ | {"_opened": {}, "_unflagged": []}

    def _file(self, name: str) -> int:
        if not self._opened:
            self._opened = {file: (self.folder / file).open("r+b", buffering=0) for file in (PIXELS, FLAGS, USERS)}
            fcntl.flock(self._opened[USERS], fcntl.LOCK_SH)
        return self._opened[name].fileno()


Key = tuple[str, Size]
"""A member kind and a size: what a table is known by within a split."""


@dataclass(frozen=True)
class Entry:
    """What one table holds."""

    dataset: str
    split: str
    kind: str
    size: Size
    channels: int
    samples: int
    content: str
    """The manifest's hash of all members of this kind in the split."""

    @property
    def what(self) -> str:
        """Its name without the hash: what a newer table takes the place of."""
        kind = self.kind.partition(".")[0]
        return f"{self.dataset}-{self.split}-{kind}-{self.size[0]}x{self.size[1]}"

    @property
    def name(self) -> str:
        """The name of its folder."""
        facts = f"{self.content} {self.samples} {self.size} {self.channels} {decode.VERSION}"
        return f"{self.what}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """N,H,W,C of its pixels."""
        return self.samples, *self.size, self.channels

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of each of its files."""
        return {PIXELS: self.samples * self.size[0] * self.size[1] * self.channels, FLAGS: self.samples}


def entries(manifest: Manifest, split: str, inputs: Mapping[InputName, AnyInput]) -> dict[Key, Entry]:
    """The tables that these inputs of a split are read from; two inputs of one member and size share one."""
    part = manifest.split(split)
    found = {}
    for name, config in inputs.items():
        if isinstance(config, InputConfig | DepthConfig):
            kind, channels = SOURCE[name], 3 if isinstance(config, InputConfig) else 1
            facts = (manifest.dataset, split, kind, config.size, channels, part.samples, part.content[kind])
            found[kind, config.size] = Entry(*facts)
    return found


class NodeCache:
    """The tables of this user on this node, below a scratch folder."""

    def __init__(self, scratch: str) -> None:
        place = os.path.expandvars(scratch) or os.environ.get("SLURM_TMPDIR") or tempfile.gettempdir()
        self.folder = Path(place).expanduser() / f"clef-{os.getuid()}"

    def reserve(self, manifest: Manifest, splits: Iterable[str], inputs: Mapping[InputName, AnyInput]) -> None:
        """Make the tables that are missing for these splits, all or none. SetupError where there is no room."""
        wanted = [entry for split in splits for entry in entries(manifest, split, inputs).values()]
        with self._alone():
            self._make(wanted)

    def tables(self, shards: SplitShards, inputs: Mapping[InputName, AnyInput]) -> dict[Key, Table]:
        """The tables of a split, opened; each keeps others from removing it as long as it lives."""
        found = entries(shards.manifest, shards.name, inputs)
        with self._alone():
            self._make(found.values())
            return {key: Table(self.folder / entry.name, entry.shape) for key, entry in found.items()}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the cache's lock: only one process makes or removes tables."""
        _make_private(self.folder)
        lock = self.folder / "lock"
        os.close(os.open(lock, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with io.lock(lock):
            yield

    def _make(self, wanted: Iterable[Entry]) -> None:
        missing = [entry for entry in wanted if not self._is_whole(entry)]
        if not missing:
            return
        self._drop_stale(missing)
        needed, free = sum(sum(entry.sizes.values()) for entry in missing), shutil.disk_usage(self.folder).free
        if needed > free:
            raise self._no_room(needed, free)
        for entry in missing:
            self._create(entry)

    def _is_whole(self, entry: Entry) -> bool:
        """Whether the table is there, with files of the right size. One that is damaged is removed."""
        folder = self.folder / entry.name
        if not folder.exists():
            return False
        found = {name: (folder / name).stat().st_size if (folder / name).exists() else -1 for name in entry.sizes}
        if found == entry.sizes and (folder / USERS).exists():
            return True
        if io.is_locked(folder / USERS):
            raise SetupError(f"{folder}: damaged, and in use; end the jobs that use it, and remove it")
        shutil.rmtree(folder)
        return False

    def _drop_stale(self, missing: Iterable[Entry]) -> None:
        """Remove what these tables take the place of, unless it is in use, and what a process left half made."""
        replaced = {entry.what for entry in missing}
        for path in self.folder.iterdir():
            stale = path.name.rpartition("-")[0] in replaced and not io.is_locked(path / USERS)
            if stale or path.name.endswith(".tmp"):
                shutil.rmtree(path)

    def _create(self, entry: Entry) -> None:
        """Make an empty table, its room on the disk taken; it gets its name last."""
        temporary = self.folder / f"{entry.name}.tmp"
        temporary.mkdir(mode=0o700)
        try:
            for name, size in {USERS: 0, **entry.sizes}.items():
                with open(temporary / name, "xb", opener=_private_file) as file:
                    if size:
                        os.posix_fallocate(file.fileno(), 0, size)
            temporary.rename(self.folder / entry.name)
        except OSError as error:
            shutil.rmtree(temporary)
            free = shutil.disk_usage(self.folder).free
            raise self._no_room(sum(entry.sizes.values()), free, f" ({error.strerror})") from None

    def _no_room(self, needed: int, free: int, why: str = "") -> SetupError:
        return SetupError(
            f"{self.folder}: the node cache needs {_readable(needed)} more, {_readable(free)} are free{why}; remove "
            f"what no job uses there, name a folder of another disk with runtime.scratch, or set runtime.cache=none"
        )


def node_cache(runtime: RuntimeConfig) -> NodeCache | None:
    """The cache that a cell uses, if it uses one."""
    return NodeCache(runtime.scratch) if runtime.cache == "node" else None


def _make_private(folder: Path) -> None:
    """Make the folder, for this user alone. SetupError where it can't be had, or is someone else's."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise SetupError(
            f"{folder}: {error.strerror}; name a folder of this node that you may write with runtime.scratch, or set "
            f"runtime.cache=none"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise SetupError(
            f"{folder}: must be a folder that is yours and closed to others (mode 700); mend or remove it, or name "
            f"another place with runtime.scratch"
        )


def _private_file(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _readable(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
