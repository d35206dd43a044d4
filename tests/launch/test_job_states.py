"""What each state and reason of a job means for its cell, and Slurm's answers among lines of a site's own."""

import getpass
import os
from pathlib import Path

import pytest

from clef import io
from clef.cells import records
from clef.errors import SetupError
from launch import grid as command
from launch import ledger, slurm_answer, slurm_commands, status
from launch.plan import Plan
from launch.plan_table import print_plan
from launch.profiles import load_site
from launch.proposal import CellJobs, Proposal
from launch.slurm_commands import Job
from launch.status_view import ViewOptions, print_status
from launch.waiting import describe_waiting
from tests.launch.status_grid import SQUEUE, Slurm, details, planned, states, submitted

BANNER = (
    "### Welcome to Cluster One! | News: see the wiki ###\nbash: warning: setlocale: LC_ALL: cannot change locale\n\n"
)
SINGLE_STATES = {
    "queued": ["PENDING", "CONFIGURING", "POWER_UP_NODE", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT",
               "RESV_DEL_HOLD", "EXPEDITING"],
    "starting": ["RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT", "UPDATE_DB"],
    "died": ["BOOT_FAIL", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
             "RECONFIG_FAIL", "TIMEOUT"],
    "preempted": ["PREEMPTED"],
    "cancelled": ["CANCELLED"],
    "unknown": ["REVOKED", "OF_A_LATER_SLURM"],
}  # fmt: skip
"""What the cell of a job in this state is that has written nothing; the states of Slurm's page job_state_codes."""


def squeue_of(jobs: dict[str, str], reason: str = "None") -> str:
    """What squeue prints of plain jobs, by id."""
    return "".join(f"{job}|N/A|{state}|{reason}||0:00|clef\n" for job, state in jobs.items())


@pytest.mark.parametrize("has_begun", [False, True], ids=["silent", "begun"])
def test_each_state_is_read_for_what_it_is(slurm: Slurm, tmp_path: Path, has_begun: bool) -> None:
    expected = {slurm_state: state for state, group in SINGLE_STATES.items() for slurm_state in group}
    grid = planned(tmp_path, *expected)
    for i, cell in enumerate(expected):
        submitted(grid, str(100 + i), cell, array=False)
        if has_begun:  # an attempt that was killed
            records.write_state(grid / cell, "running")
    slurm.says("squeue", squeue_of({str(100 + i): cell for i, cell in enumerate(expected)}))
    if has_begun:  # the cell of a job that runs says itself how it goes
        expected |= dict.fromkeys(SINGLE_STATES["starting"], "running")
    assert states(grid) == expected
    assert set(status.find_cancelled(grid)) == {"CANCELLED"}
    maybe = [*SINGLE_STATES["queued"], *SINGLE_STATES["starting"], *SINGLE_STATES["unknown"]]
    assert set(ledger.query_active_jobs(grid).cells) == set(maybe), "what may run is not submitted a second time"


def test_an_unknown_state_lasts_no_longer_than_squeue_lists_the_job(slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "c")
    submitted(grid, "7", "c", array=False)
    slurm.says("squeue", squeue_of({"7": "REVOKED"}))
    [cell] = status.read_status(grid / "plan.json").cells
    assert (cell.state, cell.error) == (
        "unknown", "Slurm's word for its job is REVOKED, which isn't known here; scancel 7 ends the job"
    )  # fmt: skip
    slurm.says("squeue", "")
    slurm.says("sacct", "7|REVOKED|None assigned|0|clef\n")
    assert slurm_answer.query_slurm(grid, {"7"}, interval=0.0).jobs["7"].state == slurm_commands.FORGOTTEN
    assert states(grid) == {"c": "new"}
    assert ledger.query_active_jobs(grid).cells == {}


def test_a_job_that_only_accounting_calls_running_has_ended(slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "c")
    submitted(grid, "7", "c", array=False)
    records.write_state(grid / "c", "running")
    slurm.says("squeue", "")
    slurm.says("sacct", "7|RUNNING|node1|99999|clef\n")
    assert states(grid) == {"c": "died"}


# ---- why a job waits ----


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        *((word, None) for word in ("Resources", "Priority", "Dependency", "JobArrayTaskLimit", "BeginTime", "Licenses",
                                    "QOSMaxJobsPerUserLimit", "QOSMaxGRESPerUser", "AssocGrpGRES", "AssocGrpCpuLimit",
                                    "AssocGrpCPURunMinutesLimit", "AssocMaxJobsLimit", "SomethingNew")),
        *((word, "scontrol release 12_3") for word in ("JobHeldUser", "job requeued in held state",
                                                       "launch failed requeued held", "JobHoldMaxRequeue")),
        ("JobHeldAdmin", "an administrator"),
        *((word, "fewer resources.hours") for word in ("PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit",
                                                       "AssocMaxWallDurationPerJobLimit")),
        *((word, "other resources") for word in ("PartitionConfig", "PartitionNodeLimit", "BadConstraints",
                                                 "QOSMaxGRESPerJob", "QOSMaxMemoryPerNode", "AssocMaxCpuPerJobLimit",
                                                 "QOSMinGRES", "MaxMemPerLimit")),
        *((word, "another account") for word in ("InvalidAccount", "QOSNotAllowed", "AssocGrpGRESMinutes",
                                                 "QOSGrpCPUMinutesLimit", "AssocGrpBillingMinutes")),
        *((word, "sinfo -R") for word in ("ReqNodeNotAvail, UnavailableNodes:node1", "PartitionDown", "Reservation",
                                          "ReqNodeNotAvail, Reserved for maintenance")),
        ("DependencyNeverSatisfied", "--cancel"),
    ],
)  # fmt: skip
def test_what_to_do_is_said_where_waiting_does_not_help(reason: str, advice: str | None) -> None:
    said = describe_waiting(Job("PENDING", reason, "", ""), "12_3")
    assert said == reason if advice is None else said and said.startswith(f"{reason}: ") and advice in said


@pytest.mark.parametrize("state", ["REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"])
def test_a_held_job_is_to_be_released(state: str) -> None:
    expected = f"{state}: it is held until someone runs: scontrol release 12"
    assert describe_waiting(Job(state, "None", "", ""), "12") == expected


def test_a_job_that_was_not_considered_yet_has_no_reason() -> None:
    assert describe_waiting(Job("PENDING", "None", "", ""), "12") is None


def test_the_status_says_why_jobs_wait_also_of_cells_that_are_not_listed(
    slurm: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [f"c{i:02}" for i in range(40)]
    grid = planned(tmp_path, *cells)
    submitted(grid, "7", *cells)
    slurm.says("squeue", "".join(f"7|{i}|PENDING|PartitionTimeLimit||0:00|clef\n" for i in range(40)))
    print_status(grid / "plan.json", ViewOptions(None, False, 15.0))
    lines = " ".join(capsys.readouterr().out.split())
    assert "not listed: 40 cells" in lines
    assert "- 40 cells (c00, ...): queued: PartitionTimeLimit: it asks for more time than is allowed; cancel" in lines


@pytest.mark.parametrize("state", ["SUSPENDED", "STOPPED"])
def test_the_cell_of_a_suspended_job_is_not_stuck(state: str, slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "c")
    submitted(grid, "7", "c", array=False)
    records.write_state(grid / "c", "running")
    os.utime(grid / "c" / records.STATE, (0, 0))
    slurm.says("squeue", f"7|N/A|{state}|None|node1|9:00:00|clef\n")
    cell = details(grid, "c")
    assert (cell.state, cell.stuck) == ("running", False)
    assert cell.error == f"its job is {state}, until Slurm or someone resumes it (scontrol resume 7)"


# ---- cells that are no longer planned ----


@pytest.fixture
def edited(slurm: Slurm, tmp_path: Path) -> Path:
    """A grid whose cell c-2 runs; of an earlier plan, c-1 is queued, d-1 has ended and e-1 is done."""
    grid = planned(tmp_path, "c-2")
    submitted(grid, "7", "c-1", array=False, created="2026-01-01")
    submitted(grid, "8", "d-1", "e-1", created="2026-01-02")
    submitted(grid, "9", "c-2", array=False, created="2026-01-03")
    records.write_json(grid / "e-1" / records.RESULT, {})
    slurm.says("squeue", squeue_of({"7": "PENDING", "9": "RUNNING"}) + "8|0|TIMEOUT|TimeLimit|n|0:01|clef\n")
    return grid


def test_a_cell_that_the_plan_no_longer_has_is_shown_while_its_job_is_there(
    edited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {cell.name: cell for cell in status.read_status(edited / "plan.json").cells}
    assert {name: (cell.state, cell.planned) for name, cell in cells.items()} == {
        "c-2": ("starting", True), "c-1": ("queued", False)
    }  # fmt: skip
    print_status(edited / "plan.json", ViewOptions(None, False, 15.0))
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("grid g: 2 cells: 1 starting, 1 queued")
    assert "- c-1: queued: no longer in the plan (the grid file" in text
    assert "--cancel ends it" in text


def test_it_is_cancelled_like_any_other_and_the_question_says_so(
    edited: Path, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def confirm(question: str, _: str) -> bool:
        asked.append(question)
        return True

    monkeypatch.setattr(command, "confirm", confirm)
    assert command.cancel(edited / "plan.json", "*", yes=False) == 0
    assert asked == ["Cancel 1 starting, 1 queued: c-2, c-1 (1 no longer in the plan)?"]
    assert slurm.called("scancel") == ["--quiet 7 9"]
    assert records.read_json(edited / "c-1" / records.CANCELLED)["by"]


def test_a_plan_counts_the_jobs_of_cells_that_it_no_longer_has(
    edited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, site = Plan("g", []), load_site(None, "gpu", [])
    print_plan(plan, Proposal(plan, ledger.query_active_jobs(edited), CellJobs([], []), [], []), site)
    assert "jobs of cells that this grid no longer has: 2; --status" in capsys.readouterr().out


def test_a_local_launcher_keeps_cells_that_the_plan_no_longer_has(tmp_path: Path) -> None:
    grid = planned(tmp_path, "c-2")
    with ledger.claim_cells(grid, ["c-1"]), io.lock(grid / "c-1" / records.LOCK):
        assert states(grid) == {"c-2": "new", "c-1": "running"}
    assert states(grid) == {"c-2": "new"}


def test_jobs_that_cannot_be_asked_about_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    grid = planned(tmp_path, "a", "b")
    assert ledger.query_active_jobs(grid) == ledger.ActiveJobs()
    assert capsys.readouterr().err == ""
    submitted(grid, "7", "a", "b")
    records.write_json(grid / "a" / records.RESULT, {})
    assert ledger.query_active_jobs(grid).cells == {}
    said = capsys.readouterr().err
    assert said.startswith("warning: jobs of 1 cell without a result were submitted to Slurm, which this machine lacks")


# ---- lines of a site's own ----


def test_lines_of_a_site_are_no_jobs(slurm: Slurm) -> None:
    expected = slurm_commands.query_jobs({"1", "2", "12", "14"})
    slurm.says("squeue", BANNER + SQUEUE + "Have a nice day.\n")
    assert slurm_commands.query_jobs({"1", "2", "12", "14"}) == expected
    slurm.says("sacct", BANNER + "12|TIMEOUT|node1|61|clef|t\n")
    assert slurm_commands.query_accounting({"12"}) == {"12": Job("TIMEOUT", "", "node1", "clef|t", 61)}


def test_a_reason_with_a_bar_is_read_and_an_unreadable_line_is_not_no_job(slurm: Slurm) -> None:
    slurm.says("squeue", "7|N/A|PENDING|held by ops | see ticket||0:00|clef\n")
    assert slurm_commands.query_jobs({"7"})["7"] == Job("PENDING", "held by ops | see ticket", "", "clef")
    slurm.says("squeue", "7|N/A|running?|None|node1|0:00|clef\n")
    with pytest.raises(SetupError, match=r"a line that can't be read: '7\|N/A\|running\?"):
        slurm_commands.query_jobs({"7"})


def test_output_in_another_encoding_is_read(slurm: Slurm) -> None:
    (slurm.folder / "squeue.txt").write_bytes("Grüße vom Rechenzentrum\n".encode("latin-1") + SQUEUE.encode())
    assert slurm_commands.query_jobs({"12"})["12"].state == "TIMEOUT"


def test_tasks_in_steps_and_a_list_that_is_cut_off_are_read(slurm: Slurm) -> None:
    slurm.says(
        "sacct", "9_[0,3-7:2,10-11%4]|CANCELLED by 0|None assigned|0|c\n8_[0-2,5,...]|PENDING|None assigned|0|c\n"
    )
    found = slurm_commands.query_accounting({"8", "9"}) or {}
    assert list(found) == [*(f"9_{i}" for i in (0, 3, 5, 7, 10, 11)), *(f"8_{i}" for i in (0, 1, 2, 5))]


def test_formats_of_the_users_change_no_answer(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    monkeypatch.setenv("SLURM_BITSTR_LEN", "8")
    said = slurm.folder / "squeue"
    said.write_text('#!/bin/sh\necho "1|N/A|RUNNING|$SLURM_TIME_FORMAT $SLURM_BITSTR_LEN|n|0:01|clef"\n')
    assert slurm_commands.query_jobs({"1"})["1"].reason == "standard 0"


@pytest.mark.parametrize("printed", [BANNER + "12\n", BANNER + "12;one\n", "12\nqueue: short\n"])
def test_the_number_that_sbatch_prints_is_found_among_other_lines(slurm: Slurm, printed: str) -> None:
    slurm.says("sbatch", printed)
    assert slurm_commands.call_sbatch(Path("script"), os.environ) == "12"


def test_a_banner_of_scontrol_hides_no_setting(slurm: Slurm) -> None:
    slurm.says("scontrol", BANNER + "MaxArraySize            = 1001\n")
    slurm_commands.max_array_size.cache_clear()
    assert slurm_commands.max_array_size() == 1001
    slurm_commands.max_array_size.cache_clear()


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 12345"), OSError("No username set")])
def test_a_user_may_have_a_number_and_no_name(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nameless)
    submission = ledger.new_submission(tmp_path, "cells", ["c"])
    assert submission.by.startswith(f"user {os.getuid()}@")
