"""Attempts of a job: what a cell's folder says of them after kills, requeues and new submissions."""

from collections import Counter
from pathlib import Path

import pytest

from clef.cells import attempts
from clef.cells.attempts import Attempt
from clef.config import RequeueConfig


def began(monkeypatch: pytest.MonkeyPatch, folder: Path, job: str, restart: int | None = None) -> Attempt:
    """An attempt as it begins in a Slurm job that was queued again so often."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURMD_NODENAME", "node1")
    if restart is None:
        monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    else:
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
    return attempts.begin(folder, job)


def test_attempts_are_counted_by_job_and_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    attempts.end(tmp_path, began(monkeypatch, tmp_path, "3_0"), "preempted")  # of an earlier submission
    attempts.end(tmp_path, began(monkeypatch, tmp_path, "7_0"), "preempted")
    began(monkeypatch, tmp_path, "7_0", 1)  # its node failed
    with (tmp_path / attempts.FILE).open("a") as file:
        file.write('{"job": "7_0", "restart": 1, "ho\n')  # cut short
    attempts.end(tmp_path, began(monkeypatch, tmp_path, "7_0", 2), "timeout")
    now = began(monkeypatch, tmp_path, "7_0", 3)
    assert now.restart == 3
    assert attempts.count_earlier_ends(tmp_path, now) == Counter(preempted=1, lost=1, timeout=1)
    assert [attempt.how for attempt in attempts.read(tmp_path)] == ["preempted", "preempted", None, "timeout", None]


def test_a_lost_attempt_may_still_say_how_it_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    orphan, now = (began(monkeypatch, tmp_path, "7", restart) for restart in (None, 1))
    assert attempts.count_earlier_ends(tmp_path, now) == Counter(lost=1)
    attempts.end(tmp_path, orphan, "done")
    assert attempts.count_earlier_ends(tmp_path, now) == Counter(done=1)


def test_without_slurm_a_job_counts_its_own_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURMD_NODENAME"):
        monkeypatch.delenv(name, raising=False)
    assert [attempts.begin(tmp_path, job).restart for job in ("10", "10", "11", "10")] == [0, 1, 0, 2]


def test_what_is_beyond_its_limit_is_said_with_all_counts() -> None:
    allowed = RequeueConfig(preempted=2, timeout=0, lost=1)
    assert attempts.exceeded_limit(Counter(preempted=2, lost=1, done=9), allowed) is None
    assert attempts.exceeded_limit(Counter(preempted=2, lost=2), allowed) == (
        "of its job's attempts ended so far: 2 preempted, 0 timeout, 2 lost; runtime.requeue.lost allows 1"
    )
    assert "runtime.requeue.timeout allows 0" in str(attempts.exceeded_limit(Counter(timeout=1), allowed))
