"""A local launcher that is interrupted, beside which another one is started, and whose cells are cancelled."""

import json
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from clef.cells import records
from tests import faults
from tests.faults import Fault
from tests.launch import tiny_grid

pytestmark = pytest.mark.slow

FIRST, SECOND = "caer_s_demo-caer_net-vanilla-s0", "caer_s_demo-caer_net-vanilla-s1"


def until(fits: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not fits():
        assert time.monotonic() < end
        time.sleep(0.2)


def state(base: Path, name: str) -> dict[str, object]:
    return next((records.read_json(path) for path in (base / "runs/two").glob(f"{name}-*/state.json")), {})


def processes(base: Path) -> dict[str, str]:
    """The processes in whose command lines the folder of this test is named: each one's state (T: stopped)."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if os.fsencode(base) in path.read_bytes():
                found[path.parent.name] = path.with_name("stat").read_text().rpartition(")")[2].split()[0]
    return found


def test_two_launchers_a_cancelled_cell_and_ctrl_c(shards: Path, tmp_path: Path) -> None:
    # Time to look at it, and to disturb it: minutes, unless it is told to leave.
    slow = [Fault("slow", step, seconds=3) for step in range(3, 41)]
    grid = tiny_grid.write(
        tmp_path / "two.yaml",
        {"set": {"epochs": 10, "runtime": {"log_every": 1, "num_workers": 0}}},
        datasets=["caer_s_demo"], backbones=["caer_net"], methods=["vanilla"], seeds=[0, 1],
    )  # fmt: skip
    places = ["--grid", grid, "--shards", shards, "--out", tmp_path / "runs", "--results", tmp_path / "results"]
    command = [sys.executable, tiny_grid.ROOT / "launch/grid.py", "--local", "2", *places]
    with (tmp_path / "said").open("w") as said:
        launcher = subprocess.Popen(
            command, cwd=tmp_path, stdout=said, stderr=said, start_new_session=True,
            env=faults.environment(tmp_path / "faults", *slow),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in a background
        )  # fmt: skip
    try:
        until(lambda: all(state(tmp_path, name).get("step") for name in (FIRST, SECOND)))
        other = tiny_grid.launch(grid, shards, tmp_path, "--local", "2")
        assert other.returncode == 0, other.stderr
        assert "nothing to train: 0 cells are done, 2 are queued or running" in other.stdout
        cancelled = tiny_grid.launch(grid, shards, tmp_path, "--cancel", "*-s0", "--yes")
        assert cancelled.returncode == 0, cancelled.stderr
        until(lambda: state(tmp_path, FIRST).get("state") == "preempted")
        os.killpg(launcher.pid, signal.SIGINT)  # a terminal sends it to all processes of the launcher's group
        assert launcher.wait(60) == 130
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
    words = (tmp_path / "said").read_text()
    assert "Traceback" not in words
    assert "which save themselves first" in words
    assert processes(tmp_path) == {}
    looked = tiny_grid.launch(grid, shards, tmp_path, "--status", "--json")
    assert json.loads(looked.stdout)["counts"] == {"preempted": 1, "cancelled": 1}

    again = tiny_grid.launch(grid, shards, tmp_path, "--local", "2")
    assert again.returncode == 0, again.stderr
    assert "failed, cancelled or starting from such a cell: 1" in again.stdout
    assert set(tiny_grid.results(tmp_path, "two")) == {SECOND}
    log = tiny_grid.results(tmp_path, "two")[SECOND].with_name("log.jsonl")
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines() if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))

    debugged = tiny_grid.launch(grid, shards, tmp_path, "--debug", "--retry-failed", "--cells", "*-s0")
    assert debugged.returncode == 0, debugged.stderr
    assert f"in this process: {FIRST}" in debugged.stdout
    assert "continues after step" in debugged.stderr
    assert set(tiny_grid.results(tmp_path, "two")) == {FIRST, SECOND}


@contextmanager
def shell(base: Path, environment: dict[str, str]) -> Iterator[Callable[[bytes], int]]:
    """An interactive shell on a terminal: a function that types. The terminal closes with the block."""
    ours, terminal = os.openpty()
    command = ["setsid", "--ctty", "bash", "--norc", "--noprofile", "-i"]
    bash = subprocess.Popen(
        command, cwd=base, stdin=terminal, stdout=terminal, stderr=terminal,
        env={**environment, "HISTFILE": ""},
    )  # fmt: skip
    os.close(terminal)

    closing = threading.Event()

    def read() -> None:  # a terminal that nobody reads would block those who write to it
        with (base / "screen").open("wb", buffering=0) as screen:
            while not closing.is_set():
                if select.select([ours], [], [], 0.1)[0]:
                    screen.write(os.read(ours, 1 << 12))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield lambda typed: os.write(ours, typed)
    finally:
        closing.set()
        reader.join()
        os.close(ours)
        bash.wait(60)


def test_a_grid_is_stopped_and_continued_in_a_terminal_that_then_closes(shards: Path, tmp_path: Path) -> None:
    slow = [Fault("slow", step, seconds=0.4) for step in range(3, 400)]
    grid = tiny_grid.write(
        tmp_path / "two.yaml",
        {"set": {"epochs": 100, "runtime": {"log_every": 1, "num_workers": 0, "watchdog": 4}}},
        datasets=["caer_s_demo"], backbones=["caer_net"], methods=["vanilla"], seeds=[0],
    )  # fmt: skip
    places = ["--grid", grid, "--shards", shards, "--out", tmp_path / "runs", "--results", tmp_path / "results"]
    command = [sys.executable, tiny_grid.ROOT / "launch/grid.py", "--local", "1", *places]

    def step() -> int:
        return int(str(state(tmp_path, FIRST).get("step") or 0))

    with shell(tmp_path, faults.environment(tmp_path / "faults", *slow)) as typed:
        typed(shlex.join(map(str, command)).encode() + b"\n")
        until(lambda: step() > 2)
        typed(b"\x1a")  # Ctrl-Z
        until(lambda: len(processes(tmp_path)) > 2 and set(processes(tmp_path).values()) == {"T"})
        before = step()
        time.sleep(5)  # longer than the watchdog waits
        typed(b"fg\n")
        until(lambda: step() > before + 3)
    until(lambda: not processes(tmp_path))
    assert state(tmp_path, FIRST)["state"] == "preempted"
    reason = str(state(tmp_path, FIRST)["reason"])
    assert reason.startswith("preempted by SIGHUP")
    assert "saved after step" in reason
