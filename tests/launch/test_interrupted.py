"""A local launcher that is interrupted, beside which another one is started, and whose cells are cancelled."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


def processes(base: Path) -> list[str]:
    """The command lines in which the folder of this test is named."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in found if str(base) in line]


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
    assert processes(tmp_path) == []
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
