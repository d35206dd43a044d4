"""What becomes of a job that was told to leave. `scontrol` is a script here, and says what the real one was seen to."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from clef import io, signals
from clef.cells import attempts, records
from clef.config import RequeueConfig
from clef.engine import run, slurm_task
from clef.engine.slurm_task import Requeue
from clef.errors import Preempted, SetupError
from launch import ledger

NOW = datetime(2026, 3, 1, 12, 0)
RUNNING = {"JobState": "RUNNING", "Reason": "None", "Restarts": "1", "PreemptTime": "None"}
LATE, SOON = "2026-03-01T20:00:00", "2026-03-01T12:02:00"


@pytest.mark.parametrize(
    ("shown", "warned", "why"),
    [
        ({"EndTime": LATE, "PreemptTime": "2026-03-01T11:59:59"}, True, "preempted"),
        # Slurm brings the end forward when it preempts: not a job that ran out of time.
        ({"EndTime": SOON, "PreemptTime": "2026-03-01T11:59:59"}, True, "preempted"),
        # Preemption where the site sends no signal of the user's: SIGTERM.
        ({"EndTime": SOON, "PreemptTime": "2026-03-01T11:59:59"}, False, "preempted"),
        ({"EndTime": SOON}, True, "timeout"),
        ({"EndTime": SOON}, False, "timeout"),  # another rank was warned
        ({"EndTime": LATE}, True, "preempted"),
        ({"EndTime": "Unknown"}, True, "preempted"),
        ({"EndTime": LATE}, False, "signalled"),
        ({"JobState": "COMPLETING", "EndTime": SOON}, False, "cancelled"),
        ({"JobState": "CANCELLED", "EndTime": SOON}, True, "cancelled"),
        ({"JobState": "COMPLETING", "Restarts": "2", "EndTime": "Unknown"}, False, "requeued"),
        ({"JobState": "PENDING", "Restarts": "2", "EndTime": LATE}, True, "requeued"),
        ({"JobState": "COMPLETING", "Reason": "TimeLimit", "EndTime": SOON}, False, "timeout"),
        ({"JobState": "TIMEOUT", "Reason": "TimeLimit", "EndTime": SOON}, True, "timeout"),
        # PreemptMode=CANCEL, as Slurm 22.05 shows it: without grace, at the end of the grace, and once it is over.
        (
            {"JobState": "COMPLETING", "EndTime": "2026-03-01T12:00:00", "PreemptTime": "2026-03-01T12:00:00"},
            False,
            "preempted",
        ),
        (
            {"JobState": "COMPLETING", "EndTime": "2026-03-01T12:00:01", "PreemptTime": "2026-03-01T12:00:00"},
            True,
            "preempted",
        ),
        ({"JobState": "PREEMPTED", "EndTime": "2026-03-01T12:00:00", "PreemptTime": "None"}, False, "preempted"),
        # scancel four seconds after the grace has begun.
        (
            {"JobState": "COMPLETING", "EndTime": "2026-03-01T12:00:04", "PreemptTime": "2026-03-01T12:00:00"},
            True,
            "cancelled",
        ),
        ({"JobState": "COMPLETING", "Reason": "NodeDown", "EndTime": SOON}, False, "lost"),
        ({"JobState": "NODE_FAIL", "EndTime": SOON}, False, "lost"),
        *(
            ({"JobState": state, "EndTime": LATE}, False, "signalled")
            for state in (
                "SUSPENDED",
                "STOPPED",
                "SIGNALING",
                "RESIZING",
                "STAGE_OUT",
                "OUT_OF_MEMORY",
                "NEVER_HEARD_OF",
            )
        ),
    ],
)
def test_why_a_job_must_leave(shown: dict[str, str], warned: bool, why: str) -> None:
    assert slurm_task.classify_stop(RUNNING | shown, 1, warned, NOW) == why


def test_where_slurm_gives_no_answer_the_signal_says_it() -> None:
    assert slurm_task.classify_stop({}, 0, True, NOW) == "preempted"
    assert slurm_task.classify_stop({}, 0, False, NOW) == "signalled"


@pytest.fixture
def leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has a job leave at USR2, with an scontrol that shows this; what it was asked, and the state. `orphaned`: it
    leaves because its parent is gone."""

    def leave(
        shown: str, allowed: RequeueConfig, refuses: bool = False, again: int = 1, orphaned: bool = False
    ) -> tuple[list[str], dict]:
        (tools := tmp_path / "bin").mkdir()
        asked = tmp_path / "asked"
        refusal = "echo 'Requested operation is presently disabled' >&2; exit 1" if refuses else "true"
        script = f'#!/bin/sh\necho "$@" >>{asked}\n[ "$1" = requeue ] && {{ {refusal}; exit; }}\necho "{shown}"\n'
        (tools / "scontrol").write_text(script)
        (tools / "scontrol").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
        monkeypatch.setenv("SLURM_JOB_ID", "8")
        requeue = Requeue(tmp_path, attempts.begin(tmp_path, "7_3"), allowed)
        with signals.handling(60, lambda why: None):
            if orphaned:
                signals._stop_reasons[signals.ORPHANED] = None
            else:
                signal.raise_signal(signal.SIGUSR2)
            for _ in range(again):
                requeue("preempted by SIGUSR2", {"step": 3, "steps": 9})
        return asked.read_text().splitlines(), records.read_json(tmp_path / records.STATE)

    return leave


SHOWS = "JobId=8 JobState=RUNNING Reason=None Restarts=0 PreemptTime=2026-03-01T11:59:59 EndTime=2026-03-01T12:00:20"


def test_it_is_queued_again_once_and_its_attempt_is_counted(leaving: Any, tmp_path: Path) -> None:
    banner = "Welcome to node7! JobState=COMPLETING is not what this line says.\n"
    asked, state = leaving(banner + SHOWS, RequeueConfig(), again=2)
    assert asked == ["show job --oneliner 7_3", "requeue 7_3"]
    assert (state["state"], state["step"], state["steps"]) == ("preempted", 3, 9)
    assert state["reason"] == "preempted by SIGUSR2; queued again (preempted)"
    assert [attempt.how for attempt in attempts.read(tmp_path)] == ["preempted"]


def test_beyond_the_limit_the_cell_has_failed_and_is_not_queued(leaving: Any) -> None:
    asked, state = leaving(SHOWS, RequeueConfig(preempted=0))
    assert asked == ["show job --oneliner 7_3"]
    assert state["state"] == "failed"
    assert "runtime.requeue.preempted allows 0" in state["reason"]


def test_a_cancelled_job_is_not_queued(leaving: Any, tmp_path: Path) -> None:
    asked, state = leaving(SHOWS.replace("RUNNING", "COMPLETING"), RequeueConfig())
    assert asked == ["show job --oneliner 7_3"]
    assert (state["state"], state["reason"]) == ("cancelled", "preempted by SIGUSR2; its job was cancelled")
    assert [attempt.how for attempt in attempts.read(tmp_path)] == ["cancelled"]


def test_a_task_without_its_slurmstepd_is_queued_again_as_lost(leaving: Any, tmp_path: Path) -> None:
    """Slurm takes the job for a running one; nobody else would end it."""
    running = SHOWS.replace("2026-03-01T11:59:59", "None").replace("2026-03-01T12:00:20", "Unknown")
    asked, _ = leaving(running, RequeueConfig(lost=1), orphaned=True)
    assert asked == ["show job --oneliner 7_3", "requeue 7_3"]
    assert [attempt.how for attempt in attempts.read(tmp_path)] == ["lost"]


def test_what_slurm_refuses_is_in_the_reason(leaving: Any) -> None:
    _, state = leaving(SHOWS, RequeueConfig(), refuses=True)
    assert state["state"] == "preempted"
    assert state["reason"].endswith("not queued again: Requested operation is presently disabled")


def run_task(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A task as Slurm starts it, as far as it gets without torch."""
    code = f"from clef.engine.slurm_task import TrainCells; TrainCells()({str(folder)!r})"
    facts = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "7", "SUBMITIT_FOLDER": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | facts | environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_a_dropped_submission_leaves_at_once_without_a_trace(tmp_path: Path) -> None:
    (cell := tmp_path / "cell").mkdir()
    records.write_json(tmp_path / "submissions/clef-grid-12345678.json", {"dropped": True})
    done = run_task(cell, SLURM_JOB_NAME="clef-grid-12345678")
    assert done.returncode == Preempted.exit_code
    assert "clef-grid-12345678: the launcher has given up this submission" in done.stderr
    assert list(cell.iterdir()) == []
    assert slurm_task.SUBMISSIONS_FOLDER == ledger.SUBMISSIONS


@pytest.mark.slow
def test_a_job_whose_nodes_fail_again_and_again_is_not_started(tmp_path: Path, tiny: Any) -> None:
    from clef.cells.identity import write_config

    write_config(tmp_path, tiny(**{"runtime.requeue.lost": 2}))
    for restart in range(3):
        event = {"job": "7", "restart": restart, "how": attempts.BEGAN, "at": "x", "node": "n"}
        with (tmp_path / attempts.FILE).open("a") as file:
            file.write(json.dumps(event) + "\n")
    done = run_task(tmp_path, SLURM_RESTART_COUNT="3")
    assert done.returncode == 1
    state = records.read_json(tmp_path / records.STATE)
    assert (state["state"], state["reason"]) == (
        "failed",
        "not started again: of its job's attempts ended so far: 0 preempted, 0 timeout, 3 lost; runtime.requeue.lost "
        "allows 2",
    )
    assert attempts.read(tmp_path)[-1].how == "failed"


def test_signals_that_come_before_torch_count(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in signals.WATCHED}
    try:
        signals.install_handlers()
        signal.raise_signal(signal.SIGUSR2)
        with signals.handling(60, lambda why: None):
            assert signals.stop_reasons() == ["SIGUSR2"]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


HOLDS = """
import sys, time
from pathlib import Path
from clef import io
with io.lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_the_lock_is_waited_for_as_long_as_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "LOCK_POLL_SECONDS", 0.01)
    lock = tmp_path / records.LOCK
    other = subprocess.Popen([sys.executable, "-c", HOLDS, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout
    assert other.stdin
    assert other.stdout.readline() == b"held\n"
    records.write_json(tmp_path / records.STATE, {"state": "running", "pid": 12, "host": "node1"})
    with ExitStack() as stack, pytest.raises(run.CellLocked, match=r"another process \(12 on node1\) trains this cell"):
        run.acquire_cell_lock(stack, tmp_path, patience=0)
    with signals.handling(60, lambda why: None), ExitStack() as stack:
        signal.raise_signal(signal.SIGUSR2)
        with pytest.raises(Preempted, match="while another process trained this cell"):
            run.acquire_cell_lock(stack, tmp_path, patience=600)
    assert records.read_json(tmp_path / records.STATE)["state"] == "running", "it is the other's to write"
    # It ends while we wait between two looks.
    monkeypatch.setattr(
        run.time, "sleep", lambda seconds: other.communicate(b"\n") if seconds == run.LOCK_POLL_SECONDS else None
    )
    with ExitStack() as stack:
        run.acquire_cell_lock(stack, tmp_path, patience=600)
        assert io.is_locked(lock)
    assert capsys.readouterr().err.count("waiting for it to end, 10 minutes at most") == 2


def test_a_cell_that_may_not_be_written_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, needed, **_: os.stat(path).st_mode & needed == needed)
    tmp_path.chmod(0o755)
    with pytest.raises(SetupError, match=rf"{tmp_path}: you may not write to it.*belongs to \w+, who can allow it"):
        run.run_cell(tmp_path)
    assert not list(tmp_path.iterdir())
