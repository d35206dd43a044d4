"""Files: written atomically, hashed and locked; and NumPy arrays from files that may be damaged. Imports no torch.

A file that is written here is whole or absent: it is written under a temporary name, flushed to disk, and renamed.
"""

import errno
import fcntl
import hashlib
import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from clef.errors import ClefError, SetupError

if TYPE_CHECKING:
    import numpy as np


@contextmanager
def atomic(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path` only once the block has ended without an error.

    `durable`: it is on disk by then. A record that is written again every few seconds need not be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # With the host's name: on machines that share a folder, processes may have the same number.
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


def to_json(content: Any, indent: int | None = 1) -> str:
    """Return content as JSON text. A float that is NaN or infinite is null: JSON has no word for it."""
    try:
        return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite_or_none(content), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite_or_none(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite_or_none(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite_or_none(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def flush_folder(folder: Path) -> None:
    """Flush to disk which files a folder holds. Their content is flushed when they are written.

    A file system that can't do that for folders (CIFS, VirtualBox's shared folders) is left to do it in its own time.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: BinaryIO) -> str:
    """Do what `hashlib.file_digest` does, which Python 3.10 lacks."""
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
    """Hold the lock file at `path` inside the block, alone or (`shared`) together with others who share it.

    When another process holds it: raise `busy()` if that is given, else call `waiting()` and wait. Who holds the lock
    may remove its file: those who have waited for it then lock the file that is there now.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:  # NFS requires read access for a shared lock, write access for the other
            if not _try_lock(file, kind):
                if busy:
                    raise busy()
                if waiting:
                    waiting()
                fcntl.flock(file, kind)
            if _is_at(path, file):
                yield
                return


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Return whether an open file is the one at `path`: not one that was removed or replaced since it was opened."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _try_lock(file: IO[bytes], kind: int) -> bool:
    """Take the lock, or return False. It tries for a second: `is_locked` of another process holds it briefly."""
    for _ in range(10):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.1)
        except OSError as error:
            raise SetupError(
                f"{file.name}: can't be locked: {error.strerror}; the file system must support flock "
                f"(Lustre: mount it with -o flock)"
            ) from None
    return False


def is_locked(path: Path) -> bool:
    """Return whether a process holds this lock, or may hold it: a lock file that can't be opened can't be tried."""
    try:
        handle = _open_lock(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # NFS wants write access for this lock
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no file of this file system can be locked
        return False
    finally:
        os.close(handle)
    return False


def _open_lock(path: Path) -> int:
    """Open a lock file for writing, or for reading where that is all that the user may do."""
    try:
        return os.open(path, os.O_RDWR)
    except PermissionError:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY)


def load_array(file: Path | IO[bytes], mapped: bool = False) -> "np.ndarray":
    """Return the array of a .npy file.

    `mapped`: its values are read only when they are used, and a change to them stays in memory. Raises OSError when
    the file can't be read, and ValueError when it isn't one array. NumPy itself raises more kinds of errors: it gives
    the header to Python's tokenizer, which fails in many ways on a damaged one.
    """
    import numpy as np  # only here: whoever imports this file for the others need not wait

    try:
        array = np.load(file, mmap_mode="c" if mapped else None, allow_pickle=False)
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"not a NumPy array: {error}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError("an archive of arrays, where one array is expected")
    return array
