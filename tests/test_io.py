"""JSON that every other program reads, and locks that others hold."""

import errno
import fcntl
import json
import math
import multiprocessing
import os
import stat
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from clef import io
from clef.cells import records


def strictly(text: str) -> Any:
    """What JSON says, NaN and Infinity not being words of it (RFC 8259, section 6)."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("indent", [None, 1])
def test_numbers_without_a_value_are_null(indent: int | None) -> None:
    content = {"a": [1, math.nan, (math.inf, "NaN")], "b": {"c": -math.inf, "d": 0.1}, "e": np.float64("nan")}
    expected = {"a": [1, None, [None, "NaN"]], "b": {"c": None, "d": 0.1}, "e": None}
    assert strictly(io.to_json(content, indent)) == expected


def test_finite_content_is_written_as_json_writes_it() -> None:
    content = {"ü": [0.1, 1e300, None, True]}
    assert io.to_json(content) == json.dumps(content, indent=1, ensure_ascii=False)


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EROFS])
def test_a_lock_is_seen_by_those_who_may_only_read(
    refusal: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def read_only(path: Path, flags: int, *more: int) -> int:
        if flags & os.O_RDWR:
            raise OSError(refusal, os.strerror(refusal), str(path))
        return opened(path, flags, *more)

    with io.lock(tmp_path / "lock"):
        monkeypatch.setattr(os, "open", read_only)
        assert io.is_locked(tmp_path / "lock")
    assert not io.is_locked(tmp_path / "lock")
    assert not io.is_locked(tmp_path / "none")


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_lock_that_cannot_be_tried_may_be_held(refusal: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise OSError(refusal, os.strerror(refusal), str(path))

    records.write_state(tmp_path, "running")
    monkeypatch.setattr(os, "open", refuse)
    assert io.is_locked(tmp_path / "lock")
    assert records.state_of(tmp_path) == "running"


def test_a_file_system_that_flushes_no_folders_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFS before Linux 4.17 and VirtualBox's shared folders answer EINVAL; a failing device is still an error."""

    def refuse(code: int) -> None:
        def fsync(handle: int) -> None:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fsync)

    refuse(errno.EINVAL)
    io.flush_folder(tmp_path)
    refuse(errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        io.flush_folder(tmp_path)


def _remove_while_held(folder: Path, times: int) -> None:
    for _ in range(times):
        with io.lock(folder / "lock"):
            os.close(os.open(folder / "held", os.O_CREAT | os.O_EXCL))  # fails if another process is in here
            (folder / "held").unlink()
            with (folder / "turns").open("a") as file:
                file.write(".")
            (folder / "lock").unlink()


@pytest.mark.slow
def test_a_lock_whose_file_is_removed_by_its_holder_is_never_held_twice(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_remove_while_held, args=(tmp_path, 200)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "turns").read_text() == "." * 800


def test_a_lock_file_that_was_removed_while_it_was_waited_for_is_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock, calls = tmp_path / "lock", fcntl.flock, list[int]()

    def removed_before_the_first(file: IO[bytes], kind: int) -> None:
        if not calls:
            path.unlink()
        calls.append(kind)
        flock(file, kind)

    monkeypatch.setattr(fcntl, "flock", removed_before_the_first)
    with io.lock(path):
        assert len(calls) == 2
        assert io.is_locked(path)
