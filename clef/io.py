"""Files that are whole or not there: written under a temporary name, flushed to disk, renamed.

NumPy's files, where others may have made or damaged them. Imports no torch.
"""

import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from clef.errors import ClefError, SetupError


@contextmanager
def atomic(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` only once the block has ended well.

    `durable`: on disk by then. A record that is written anew every few seconds need not be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Machines that share a folder have processes of one number.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Write a whole small file atomically."""
    with atomic(path, durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def flush(folder: Path) -> None:
    """Bring to disk which files a folder holds; their content is flushed by whoever writes them."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The file's sha256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: BinaryIO) -> str:  # Python 3.10
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


@contextmanager
def lock(
    path: Path,
    busy: Callable[[], ClefError] | None = None,
    shared: bool = False,
    waiting: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold the lock file at `path`, alone or (`shared`) with others who share it.

    When another process has it, raise `busy()`, or call `waiting()` and wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("a+") as file:  # NFS wants a file that can be read for a shared lock, written for the other
        if not _taken(file, kind):
            if busy:
                raise busy()
            if waiting:
                waiting()
            fcntl.flock(file, kind)
        yield


def _taken(file: IO[str], kind: int) -> bool:
    """Take the lock unless another process keeps it; one that only looks (`is_locked`) is gone in a moment."""
    for _ in range(10):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.1)
        except OSError as error:
            raise SetupError(
                f"{file.name}: can't be locked: {error.strerror}; the file system must know flock "
                f"(Lustre: mount it with -o flock)"
            ) from None
    return False


def is_locked(path: Path) -> bool:
    """Whether a process holds this lock."""
    try:
        with path.open("a" if path.exists() else "r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def load(file: Path | IO[bytes], mapped: bool = False) -> np.ndarray:
    """The array of a .npy file; `mapped`: not read before it is used. ValueError for whatever else it is.

    A damaged header goes through Python's tokenizer, so NumPy fails in ways that it doesn't list; an OSError stays one.
    """
    try:
        array = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"not a NumPy array: {error}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError("an archive of arrays, where one array is expected")
    return array
