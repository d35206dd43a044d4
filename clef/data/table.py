"""A table of decoded pictures in the node cache: pixels N,H,W,C, and a flag for each picture that is there.

Whoever decodes a picture first writes it, before anything random happens to it. Its flag is set only once the pixels
have reached the disk, so what is flagged is whole, whoever was killed and when. No entry is locked: two processes that
write the same one write the same bytes. Imports no torch.
"""

import fcntl
import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

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
