"""Where cells are, from folders and from what squeue and sacct were seen to print (recorded on Slurm 22.05)."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from clef import io
from clef.cells import records
from clef.cells.plan_file import PlannedRun, write_plan
from clef.data import manifest as manifests
from clef.errors import CellError, SetupError
from launch import grid as command
from launch import ledger, slurm_answer, slurm_commands, status, status_view
from launch.slurm_commands import Job
from tests.launch.status_grid import SQUEUE, Slurm, details, planned, states, submitted

SACCT = """2|CANCELLED|None assigned|0|clef-x-00000002
3|CANCELLED by 0|None assigned|0|clef-x-00000003
1_1|FAILED|node1|0|clef-x-00000001
12|TIMEOUT|node1|61|clef-t
13_0|CANCELLED by 0|node1|6|clef-y
13_[1,5-6,8-9%1]|CANCELLED by 0|None assigned|0|clef-y
"""


# ---- what Slurm prints ----


def test_squeue_is_read_by_job_and_by_array_task(slurm: Slurm) -> None:
    found = slurm_commands.query_jobs({"1", "2", "12", "14"})
    assert slurm.called("squeue") == ["--noheader --array --states=all --format=%F|%K|%T|%r|%N|%M|%j --jobs 1,12,14,2"]
    assert set(found) == {"1_0", "1_1", "1_2", "1_3", "1_4", "1_7", "2", "12", "14"}
    assert found["1_4"] == Job("RUNNING", "None", "node2", "clef-x-00000001", 25 * 3600 + 72)
    assert found["1_4"].running
    assert [found[key].ending for key in ("12", "14", "1_1")] == [
        "TIMEOUT (TimeLimit)", "NODE_FAIL (NodeDown)", "FAILED (NonZeroExitCode)"
    ]  # fmt: skip
    assert [found[key].cancelled for key in ("1_3", "2", "12")] == [True, False, False]


def test_sacct_is_read_with_who_cancelled_and_with_tasks_that_never_began(slurm: Slurm) -> None:
    slurm.says("sacct", SACCT)
    found = slurm_commands.query_accounting({"1", "2", "3", "12", "13"})
    assert found is not None
    assert [key for key in found if key.startswith("13")] == ["13_0", "13_1", "13_5", "13_6", "13_8", "13_9"]
    assert found["13_6"].ending == found["3"].ending == "CANCELLED (by root)"
    assert [found[key].cancelled for key in ("13_9", "3", "2")] == [True, True, False], "2 was dropped by Slurm itself"
    assert found["12"] == Job("TIMEOUT", "", "node1", "clef-t", 61)


def test_no_accounting_is_not_an_empty_one(slurm: Slurm) -> None:
    assert slurm_commands.query_accounting({"1"}) is None


# ---- from jobs and folders to states ----


def test_every_state_there_is(slurm: Slurm, tmp_path: Path) -> None:
    cells = ("done", "failed", "killed", "gone", "running", "starting", "waits", "timeout", "lost", "dropped", "new")
    grid = planned(tmp_path, *cells)
    submitted(grid, "1", "done", "failed", "killed", "gone", "running")
    submitted(grid, "13", *["x"] * 5, "waits")
    for job, cell in (("12", "timeout"), ("14", "lost"), ("2", "dropped")):
        submitted(grid, job, cell, array=False)
    slurm.says("squeue", SQUEUE + "21|N/A|RUNNING|None|node1|0:05|clef\n")
    submitted(grid, "21", "starting", array=False)
    records.write_json(grid / "done" / records.RESULT, {"val": 1})
    records.write_state(grid / "failed", "failed", reason="non-finite loss")
    for cell in ("killed", "gone", "running", "timeout"):
        records.write_state(grid / cell, "running", step=1, steps=2)
    assert states(grid) == {
        "done": "done", "failed": "failed", "killed": "died", "gone": "cancelled", "running": "running",
        "starting": "starting", "waits": "queued", "timeout": "died", "lost": "died", "dropped": "new", "new": "new",
    }  # fmt: skip
    errors = {cell: details(grid, cell).error for cell in ("failed", "killed", "gone", "timeout", "lost", "running")}
    assert errors == {
        "failed": "non-finite loss", "killed": "FAILED (NonZeroExitCode)", "gone": "CANCELLED",
        "timeout": "TIMEOUT (TimeLimit)", "lost": "NODE_FAIL (NodeDown)", "running": None,
    }  # fmt: skip
    assert details(grid, "running").node == "node2"
    assert len(slurm.called("squeue")) == 1, "one question, however many look"


def test_a_cells_own_end_is_newer_than_an_answer_that_its_job_runs(slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "failed", "cancelled", "preempted")
    slurm.says("squeue", "".join(f"2{i}|N/A|RUNNING|None|node1|0:05|clef\n" for i in range(3)))
    for i, cell in enumerate(("failed", "cancelled", "preempted")):
        submitted(grid, f"2{i}", cell, array=False)
        records.write_state(grid / cell, cell, reason="x")
    records.write_json(grid / "cancelled" / records.CANCELLED, {"by": "me"})
    assert states(grid) == {"failed": "failed", "cancelled": "cancelled", "preempted": "starting"}


def test_our_words_for_jobs_that_slurm_forgot_are_not_shown(slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "c")
    submitted(grid, "99", "c", array=False)
    records.write_state(grid / "c", "running")
    assert details(grid, "c").error == "Slurm no longer knows its job"


def test_the_newest_job_of_a_cell_counts(slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "c")
    submitted(grid, "3", "c", array=False, created="2026-01-01")
    assert states(grid) == {"c": "cancelled"}
    submitted(grid, "12", "c", array=False, created="2026-01-02")
    submitted(grid, "14", "c", array=False, created="2026-01-03", dropped=True)
    assert states(grid) == {"c": "queued"}, "Slurm has not been asked about it yet"
    (grid / slurm_answer.ANSWER_FILE).unlink()
    assert states(grid) == {"c": "died"}


def test_what_ended_is_remembered_when_slurm_has_forgotten(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_answer, "QUERY_INTERVAL_S", 0.0)
    grid = planned(tmp_path, "runs", "cut", "unseen")
    submitted(grid, "1", *["x"] * 3, "cut", "runs")
    submitted(grid, "3", "unseen", array=False)
    slurm.says("squeue", "\n".join(line for line in SQUEUE.splitlines() if line.startswith("1|")) + "\n")
    assert states(grid) == {"runs": "starting", "cut": "cancelled", "unseen": "new"}
    slurm.says("squeue", "")
    slurm.says("sacct", SACCT)
    found = slurm_answer.query_slurm(grid, {"1_3", "1_4", "3"}, interval=0.0)
    assert {key: job.state for key, job in found.jobs.items() if key in ("1_3", "1_4", "3")} == {
        "1_3": "CANCELLED", "1_4": slurm_commands.FORGOTTEN, "3": "CANCELLED"
    }  # fmt: skip
    assert [arguments.rpartition("--jobs=")[2] for arguments in slurm.called("sacct")] == ["3", "1,3"], (
        "of what squeue has forgotten"
    )


def test_a_task_that_vanished_before_it_began_was_cancelled_and_one_that_began_has_died(
    slurm: Slurm, tmp_path: Path
) -> None:
    grid = planned(tmp_path, "a", "b")
    submitted(grid, "1", *["x"] * 5, "a", "b")  # 1_5 and 1_6: nobody knows them, but their array is known
    (grid / "slurm/tag").mkdir(parents=True)
    (grid / "slurm/tag/1_6_0_log.out").write_text("")
    assert states(grid) == {"a": "cancelled", "b": "died", "x": "starting"}
    status.note_cancelled(grid, status.find_cancelled(grid))
    assert [(grid / cell / records.CANCELLED).exists() for cell in "ab"] == [True, False]


def test_a_slurm_that_does_not_answer_is_said_and_not_asked_again_at_once(slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "running", "silent")
    submitted(grid, "1", *["x"] * 4, "running")
    submitted(grid, "30", "silent", array=False)
    assert states(grid)["running"] == "starting"
    old = json.loads((grid / slurm_answer.ANSWER_FILE).read_text())
    (grid / slurm_answer.ANSWER_FILE).write_text(json.dumps(old | {"tried": old["tried"] - 3700}))
    slurm.says("squeue", "Unable to contact slurm controller", code=1)
    for _ in range(3):
        grid_status = status.read_status(grid / "plan.json")
        assert "Unable to contact" in str(grid_status.slurm.problem)
        assert grid_status.slurm.answered == old["answered"]
        assert [cell.state for cell in grid_status.cells] == ["starting", "new"]
    assert len(slurm.called("squeue")) == 2


def test_a_grid_that_was_never_submitted_needs_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    grid = planned(tmp_path, "a")
    assert states(grid) == {"a": "new"}
    assert status.read_status(grid / "plan.json").slurm.problem is None
    with pytest.raises(CellError, match="no plan here"):
        status.read_status(tmp_path / "other/plan.json")


def test_a_running_cell_without_a_word_is_stuck(slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "c")
    submitted(grid, "1", *["x"] * 4, "c")  # has run for a day
    records.write_state(grid / "c", "running", step=10, steps=40, left_s=90.0)
    (grid / "c" / records.LOG).write_text("{}\n")
    assert not details(grid, "c").stuck
    assert 0 < (details(grid, "c").left_s or 0) <= 90
    ago = time.time() - 20 * 60
    for name in (records.STATE, records.LOG):
        os.utime(grid / "c" / name, (ago, ago))
    cell = details(grid, "c")
    assert cell.stuck
    assert cell.quiet_s == pytest.approx(1200, abs=30)
    assert not details(grid, "c", stuck=30.0).stuck
    text = SQUEUE.replace("1-01:01:12", "2:00")
    slurm.says("squeue", text)
    (grid / slurm_answer.ANSWER_FILE).unlink()
    assert not details(grid, "c").stuck, "it was queued again, and its job has just begun"


# ---- local launchers, and cancelling ----


def test_the_cells_of_a_launcher_that_lives_are_queued_and_of_one_that_died_not(tmp_path: Path) -> None:
    grid = planned(tmp_path, "a", "b", "c")
    records.write_state(grid / "b", "running")
    with ledger.claim_cells(grid, ["a", "b"]) as ended, io.lock(grid / "b" / records.LOCK):
        assert states(grid) == {"a": "queued", "b": "running", "c": "new"}
        assert ledger.claimed_cells(grid) == {"a", "b"}
        ended("a")
        assert states(grid) == {"a": "new", "b": "running", "c": "new"}
    assert states(grid) == {"a": "new", "b": "died", "c": "new"}
    assert ledger.claimed_cells(grid) == set()


def test_an_older_job_says_nothing_of_a_cell_that_was_trained_here_since(slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "c")
    submitted(grid, "3", "c", array=False)
    with ledger.claim_cells(grid, ["c"]):
        pass
    records.write_state(grid / "c", "preempted", reason="SIGINT")
    assert states(grid) == {"c": "preempted"}


def test_the_jobs_that_blocked_cells_wait_for_are_told(slurm: Slurm, tmp_path: Path) -> None:
    write_plan(tmp_path / "runs", "g", [PlannedRun("cell", "d", "b", "m", 0, None, "no shards")])
    grid = tmp_path / "runs/g"
    facts: Any = {"array": False, "shards": str(tmp_path / "shards/mine")}
    submitted(grid, "20", kind="shards", created="2025", **facts)  # an older try, which failed
    submitted(grid, "21", kind="shards", **facts)
    submitted(grid, "22", kind="launch", **facts)
    slurm.says(
        "squeue", "20|N/A|FAILED|None|n1|0:01|c\n21|N/A|RUNNING|None|n1|2:05|c\n22|N/A|PENDING|Dependency||0:00|c\n"
    )
    plan = grid / "plan.json"
    grid_status = status.read_status(plan)
    assert grid_status.counts == {"blocked": 1}
    assert not grid_status.is_over
    assert [status_view.describe_sharding_job(job) for job in grid_status.sharding] == [
        "job 21, which makes the shards of mine, runs on n1, for 2 min so far",
        "job 22, which submits the cells of mine, waits (Dependency)",
    ]
    (grid / slurm_answer.ANSWER_FILE).unlink()
    slurm.says("squeue", "21|N/A|FAILED|NonZeroExitCode|n1|2:06|c\n22|N/A|CANCELLED|DependencyNeverSatisfied||0:00|c\n")
    log = grid / "slurm/t21/21_0_log.err"
    log.parent.mkdir(parents=True)
    log.write_text("error: no image in train\nsrun: error: n1: task 0: Exited with exit code 3\n")
    grid_status = status.read_status(plan)
    assert grid_status.is_over
    assert [status_view.describe_sharding_job(job) for job in grid_status.sharding] == [
        "job 21, which makes the shards of mine, has ended: FAILED (NonZeroExitCode); error: no image in train",
        "job 22, which submits the cells of mine, has ended: CANCELLED (DependencyNeverSatisfied)",
    ]


def test_a_job_that_slurm_was_not_asked_about_yet_is_waited_for(slurm: Slurm, tmp_path: Path) -> None:
    write_plan(tmp_path / "runs", "g", [PlannedRun("cell", "d", "b", "m", 0, None, "no shards")])
    grid = tmp_path / "runs/g"
    facts: Any = {"kind": "shards", "array": False, "shards": str(tmp_path / "shards/mine")}
    submitted(grid, "12", **facts)
    assert status.read_status(grid / "plan.json").is_over, "it has timed out"
    submitted(grid, "30", created="2026-01-02", **facts)
    grid_status = status.read_status(grid / "plan.json")
    assert [status_view.describe_sharding_job(job) for job in grid_status.sharding] == [
        "job 30, which makes the shards of mine, waits"
    ]
    assert not grid_status.is_over
    assert len(slurm.called("squeue")) == 1


def test_a_job_that_slurm_forgot_is_told_only_where_its_set_is_not_there(slurm: Slurm, tmp_path: Path) -> None:
    write_plan(tmp_path / "runs", "g", [PlannedRun("cell", "d", "b", "m", 0, None, "no weights")])
    for job, kind in (("31", "shards"), ("32", "launch")):
        submitted(tmp_path / "runs/g", job, kind=kind, array=False, shards=str(tmp_path / "shards/mine"))
    [told] = status.read_status(tmp_path / "runs/g/plan.json").sharding
    assert status_view.describe_sharding_job(told).endswith("shards of mine, has ended: Slurm no longer knows its job")


def test_a_set_that_is_there_needs_no_job(slurm: Slurm, tmp_path: Path) -> None:
    write_plan(tmp_path / "runs", "g", [PlannedRun("cell", "d", "b", "m", 0, None, "no weights")])
    made = tmp_path / "shards/mine"
    submitted(tmp_path / "runs/g", "21", kind="shards", array=False, shards=str(made))
    records.write_json(manifests.path_of(made), {})
    assert status.read_status(tmp_path / "runs/g/plan.json").is_over
    assert slurm.called("squeue") == []


def test_cancel_asks_scancel_for_just_the_cells_that_are_alive(slurm: Slurm, tmp_path: Path, capsys: Any) -> None:
    grid = planned(tmp_path, "a-done", "a-failed", "a-x", "a-y", "a-runs", "b")
    submitted(grid, "1", *(f"a-{name}" for name in ("done", "failed", "x", "y", "runs")))
    submitted(grid, "13", *["x"] * 5, "b")
    records.write_json(grid / "a-done" / records.RESULT, {})
    assert command.cancel(grid / "plan.json", "a-*", yes=True) == 0
    assert slurm.called("scancel") == ["--quiet 1_4"]
    assert [path.parent.name for path in grid.glob("*/cancelled.json")] == ["a-runs"]
    assert records.state_of(grid / "a-runs") == "cancelled"
    assert "cancelled: 1 cell; --retry-failed" in capsys.readouterr().out
    assert command.cancel(grid / "plan.json", "b", yes=True) == 0
    assert states(grid)["b"] == "cancelled", "though Slurm's last answer was that it waits"


def test_nothing_is_noted_when_scancel_fails(slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "c")
    submitted(grid, "1", *["x"] * 4, "c")
    slurm.says("scancel", "scancel: error: Kill job error on job id 1: Access/permission denied", code=1)
    with pytest.raises(SetupError, match=r"scancel: .*permission denied; no cell is marked"):
        command.cancel(grid / "plan.json", "*", yes=True)
    assert not (grid / "c" / records.CANCELLED).exists()


def test_cells_of_one_task_have_states_of_their_own_and_are_cancelled_one_by_one(slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "killed", "after-it", "second", "runs", "next", "last")
    cells = ["x"] * 6 + ["killed", "after-it", "second"] + ["y"] * 3 + ["runs", "next", "last"]
    submitted(grid, "1", *cells, per_task=3)
    for cell in ("killed", "runs"):
        records.write_state(grid / cell, "running")
    expected = {
        "killed": "died",
        "after-it": "new",
        "second": "new",
        "runs": "running",
        "next": "queued",
        "last": "queued",
    }
    assert states(grid) == expected
    assert details(grid, "next").error == "waits for its turn in job 1_4"
    assert command.cancel(grid / "plan.json", "next", yes=True) == 0
    assert slurm.called("scancel") == [], "its task trains others"
    assert states(grid) == expected | {"next": "cancelled"}
    assert command.cancel(grid / "plan.json", "*", yes=True) == 0
    assert [call.split()[-1] for call in slurm.called("scancel")] == ["1_4"]
