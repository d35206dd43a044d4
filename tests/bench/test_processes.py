"""Contenders apart: each in its own process, which starts others as the platform does; errors come through."""

import multiprocessing
import os

import pytest

from clef.bench.processes import apart
from clef.errors import SetupError


def pid() -> float:
    return os.getpid()


def forks() -> float:
    return float(multiprocessing.get_start_method() == "fork")


def refuse() -> float:
    raise SetupError("no room")


def vanish() -> float:
    os._exit(9)


def test_each_stays_in_a_process_of_its_own() -> None:
    with apart({"a": (pid,), "b": (pid,)}) as runs:
        found = [runs["a"](), runs["b"](), runs["a"]()]
    assert found[0] == found[2]
    assert len({*found, os.getpid()}) == 3


def test_further_processes_start_as_they_would_here() -> None:
    with apart({"a": (forks,)}) as runs:
        assert runs["a"]() == forks()


def test_errors_come_through_and_a_killed_process_is_named() -> None:
    with apart({"a": (refuse,), "b": (vanish,)}) as runs:
        with pytest.raises(SetupError, match="no room"):
            runs["a"]()
        with pytest.raises(SetupError, match="b: its process was killed"):
            runs["b"]()
