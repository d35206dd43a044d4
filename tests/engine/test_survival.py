"""Runs that are killed or asked to stop by real signals, and go on: they end as an unbroken run does, to the bit."""

import os
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from clef.errors import HUNG, Preempted
from tests.assertions import assert_equal
from tests.engine.cell_processes import Unbroken, ends, everything, unbroken_runs
from tests.faults import Fault
from tests.processes import wait_for

# Runs are shared by the tests of this file.
pytestmark = [pytest.mark.xdist_group("survival"), pytest.mark.slow]
PREEMPTED = Preempted.exit_code


@pytest.fixture(scope="module")
def unbroken(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    return unbroken_runs(tmp_path_factory, shards)


@pytest.mark.parametrize(
    ("workers", "kill", "code"),
    [
        (0, Fault("kill", 5), -9),
        (2, Fault("kill", 5), -9),
        (0, Fault("kill", 7, signal="TERM"), PREEMPTED),
        (0, Fault("kill", 3, where="validation"), -9),
        (2, Fault("kill", 3, where="validation", signal="USR2"), PREEMPTED),
        (0, Fault("kill", 6, where="checkpoint"), -9),
        (0, Fault("kill", 3, where="checkpoint", signal="USR1"), PREEMPTED),
    ],
)
def test_broken_and_resumed_is_unbroken(unbroken: Unbroken, workers: int, kill: Fault, code: int) -> None:
    runs, whole = unbroken(1)
    out = f"{workers}-{kill.step}-{kill.where}-{kill.signal}"
    assert runs.run(out, f"runtime.num_workers={workers}", faults=[kill]) == [code], runs.said(out)
    assert not (runs.cell(out) / "result.json").exists()
    if code == PREEMPTED:
        state = runs.state(out)
        assert state["state"] == "preempted"
        assert state["reason"].startswith(f"preempted by SIG{kill.signal}, saved after step {state['step']}/")
    assert runs.run(out, "--resume", f"runtime.num_workers={workers}") == [0], runs.said(out)
    assert_equal(everything(runs.cell(out)), whole)


@pytest.mark.parametrize(("signal", "rank"), [("TERM", 0), ("USR2", 1), ("KILL", 1)])
def test_two_ranks_stop_together_though_one_alone_was_signalled(unbroken: Unbroken, signal: str, rank: int) -> None:
    runs, whole = unbroken(2)
    codes = runs.run(signal, ranks=2, faults=[Fault("kill", 7, rank=rank, signal=signal)])
    if signal == "KILL":
        assert codes[1] == -9
        assert codes[0] not in (0, None)  # it finds the other gone
    else:
        assert codes == [PREEMPTED, PREEMPTED], runs.said(signal)
        assert runs.state(signal)["step"] == 8  # the log line after the signal
    assert runs.run(signal, "--resume", ranks=2) == [0, 0], runs.said(signal)
    assert_equal(everything(runs.cell(signal)), whole)


@pytest.mark.parametrize("signal", ["INT", "HUP"])  # Ctrl-C, and a terminal that closes
def test_interrupted_at_the_terminal_is_preempted_too(unbroken: Unbroken, signal: str) -> None:
    runs, _ = unbroken(1)
    assert runs.run(signal, faults=[Fault("kill", 4, signal=signal)]) == [PREEMPTED]
    assert f"preempted by SIG{signal}, saved after step 4/" in runs.said(signal)
    assert "Traceback" not in runs.said(signal)


def test_what_is_not_saved_in_time_is_left_all_the_same(unbroken: Unbroken) -> None:
    runs, whole = unbroken(1)
    stuck = [Fault("kill", 5, signal="TERM"), Fault("hang", 5)]
    assert runs.run("grace", "runtime.grace=0.5", faults=stuck) == [PREEMPTED]
    assert runs.state("grace")["state"] == "preempted"
    assert "not saved within runtime.grace=0.5 seconds" in runs.state("grace")["reason"]
    assert runs.run("grace", "--resume") == [0]
    assert_equal(everything(runs.cell("grace")), whole)


def test_a_run_that_was_stopped_for_a_while_goes_on(unbroken: Unbroken) -> None:
    # Longer than the watchdog waits, and than a run may take to save itself.
    runs, whole = unbroken(1)
    stopped = [Fault("kill", 5, signal="STOP"), Fault("slow", 5)]
    asked = [Fault("kill", 5, signal="TERM"), Fault("slow", 5, seconds=0.5)]
    started = [
        *runs.start("stopped", "runtime.watchdog=4", faults=stopped),
        *runs.start("asked", "runtime.grace=4", faults=[*asked, *stopped]),
    ]
    wait_for("both stopped", lambda: all(state_of(process) in "TXZ" for process in started))
    time.sleep(5)
    for process in started:
        os.kill(process.pid, signal.SIGCONT)  # type: ignore[arg-type]
    assert ends(started) == [0, PREEMPTED], runs.said("stopped") + runs.said("asked")
    assert_equal(everything(runs.cell("stopped")), whole)
    assert runs.state("asked")["reason"].startswith("preempted by SIGTERM, saved after step 5/")


def state_of(process: ForkServerProcess) -> str:
    """One letter: T of a process that is stopped, Z or X of one that has ended."""
    try:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def test_the_watchdog_says_where_a_run_hangs(unbroken: Unbroken) -> None:
    runs, whole = unbroken(1)
    assert runs.run("hang", "runtime.watchdog=20", faults=[Fault("hang", 5)]) == [HUNG]
    assert runs.state("hang")["state"] == "failed"
    assert runs.state("hang")["reason"].startswith("hung: nothing moved for runtime.watchdog=20 seconds")
    stacks = (runs.cell("hang") / "hung-0.txt").read_text()
    assert "in _strike" in stacks
    assert "trainer.py" in stacks
    assert runs.run("hang", "--resume") == [0]
    assert_equal(everything(runs.cell("hang")), whole)


def test_reading_that_fails_is_an_error_and_slow_is_none(unbroken: Unbroken) -> None:
    runs, whole = unbroken(1)
    assert runs.run("io", faults=[Fault("io_error", 5)]) == [5]
    assert "Input/output error" in runs.state("io")["reason"]
    assert runs.run("io", "--resume", faults=[Fault("slow", 6, seconds=0.01)]) == [0]
    assert_equal(everything(runs.cell("io")), whole)


def test_what_two_ranks_began_one_ends(unbroken: Unbroken) -> None:
    runs, whole = unbroken(2)
    assert runs.run("fewer", "runtime.stop_after=6", ranks=2) == [0, 0]
    assert runs.run("fewer", "--resume") == [0], runs.said("fewer")
    found = everything(runs.cell("fewer"))
    assert found["checkpoint"] == whole["checkpoint"]
    assert [(line["step"], line["epoch"]) for line in found["log"]] == [
        (line["step"], line["epoch"]) for line in whole["log"]
    ]
    assert_equal(found["log"][0], whole["log"][0])  # before the break
