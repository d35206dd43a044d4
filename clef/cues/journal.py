"""A cue file as it grows: lines are only ever added, so that a run that was killed goes on where it was."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from clef import io
from clef.cues import files as cue_files
from clef.cues.files import CueName
from clef.errors import DataError


class Journal:
    """The findings so far: `values` by key, and `add` for more."""

    def __init__(self, file: IO[str], values: dict[str, Any]) -> None:
        self._file, self.values = file, values

    def add(self, findings: Mapping[str, Any]) -> None:
        """Append findings, a line each, in one write."""
        self._file.write("".join(cue_files.line(key, value) for key, value in findings.items()))
        self._file.flush()
        self.values.update(findings)


@contextmanager
def opened(path: Path, cue: CueName, extractor: str, version: str) -> Iterator[Journal]:
    """The cue file at `path`, new or to be continued.

    What a kill left of a last line is dropped. DataError when another extractor or version began the file, when a
    line is damaged, or while another process writes it.
    """
    busy = DataError(f"{path}: another process is writing it; let it end, or stop it")
    with io.lock(path.with_name(f".{path.name}.lock"), lambda: busy):
        if not _has_head(path):
            io.write(path, cue_files.head(cue, extractor, version))
        known = cue_files.read(path)
        if (known.extractor, known.version) != (extractor, version):
            raise DataError(
                f"{path}: made by {known.made_by}, this is {f'{extractor} {version}'.strip()}; a file has one maker. "
                f"Go on with that one, or remove the file and start again"
            )
        with path.open("a", encoding="utf-8") as file:
            yield Journal(file, known.values)
            os.fsync(file.fileno())


def _has_head(path: Path) -> bool:
    """Cut off a last line without an end; False when nothing is left, or there was nothing."""
    if not path.is_file():
        return False
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        whole = end - len(_last_line(file, end))
        if whole < end:
            file.truncate(whole)
    return whole > 0


def _last_line(file: IO[bytes], end: int, block: int = 1 << 20) -> bytes:
    """What stands behind the last line break."""
    tail = b""
    while end > 0 and b"\n" not in tail:
        start = max(0, end - block)
        file.seek(start)
        tail = file.read(end - start) + tail
        end = start
    return tail.rpartition(b"\n")[2]
