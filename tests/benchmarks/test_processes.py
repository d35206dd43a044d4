"""Contenders apart: each in its own process, which starts others as the platform does; errors come through."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.common import in_processes
from clef.errors import SetupError
from tests.processes import is_running, wait_for

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def pid() -> float:
    return os.getpid()


def forks() -> float:
    return float(multiprocessing.get_start_method() == "fork")


def refuse() -> float:
    raise SetupError("no room")


def vanish() -> float:
    os._exit(9)


def test_contenders_end_with_a_command_that_is_killed() -> None:
    text = (
        "import time; from benchmarks.common import in_processes; from tests.benchmarks.test_processes import pid\n"
        "with in_processes({'a': (pid,)}) as runs:\n    print(int(runs['a']()), flush=True)\n    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, cwd=ROOT) as command:
        assert command.stdout
        contender = command.stdout.readline().strip()
        command.kill()
    wait_for("the contender's end", lambda: not is_running(contender), 60)


def test_each_stays_in_a_process_of_its_own() -> None:
    with in_processes({"a": (pid,), "b": (pid,)}) as runs:
        found = [runs["a"](), runs["b"](), runs["a"]()]
    assert found[0] == found[2]
    assert len({*found, os.getpid()}) == 3


def test_further_processes_start_as_they_would_here() -> None:
    with in_processes({"a": (forks,)}) as runs:
        assert runs["a"]() == forks()


def test_errors_come_through_and_a_killed_process_is_named() -> None:
    with in_processes({"a": (refuse,), "b": (vanish,)}) as runs:
        with pytest.raises(SetupError, match="no room"):
            runs["a"]()
        with pytest.raises(SetupError, match="b: its process was killed"):
            runs["b"]()
