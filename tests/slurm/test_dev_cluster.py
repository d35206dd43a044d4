"""Grids on a real Slurm: slurmctld and two slurmd's of this machine, started by slurm/dev-cluster."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launch import ledger
from tests import faults
from tests.faults import Fault
from tests.launch import tiny_grid
from tests.slurm.cluster import Slurm, wrapped

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster(slurm: Slurm) -> dict[str, str]:
    """The environment in which Slurm's commands find a cluster of two nodes with one CPU each."""
    return slurm.environment


def jobs(cluster: Mapping[str, str], name: str) -> dict[str, dict[str, str]]:
    """What Slurm knows of each job whose name is this with a mark behind, ended ones too, by job id."""
    shown = subprocess.run(
        ["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, check=True, env=dict(cluster)
    )
    found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in shown.stdout.splitlines()]
    return {job["JobId"]: job for job in found if job.get("JobName", "").rpartition("-")[0] == name}


def wait_for_all(cluster: Mapping[str, str], name: str, seconds: float = 400) -> dict[str, str]:
    """Wait until no job of this name waits or runs. Returns how they ended, by array task (`3_0`) or job (`4`)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        known = jobs(cluster, name)
        if not {job["JobState"] for job in known.values()} & {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}:
            return {label(job): job["JobState"] for job in known.values()}
        time.sleep(0.5)
    raise AssertionError(f"still there after {seconds} s: {jobs(cluster, name)}")


def label(job: Mapping[str, str]) -> str:
    return f"{job['ArrayJobId']}_{job['ArrayTaskId']}" if "ArrayJobId" in job else job["JobId"]


def submitted(text: str) -> tuple[list[str], str]:
    """The ids of the arrays and of the gather job that the launcher reports."""
    arrays = re.search(r"^submitted \d+ cells? as \d+ job arrays?: ([\d, ]+)$", text, re.MULTILINE)
    gather = re.search(r"^gather job (\d+) ", text, re.MULTILINE)
    assert arrays, text
    assert gather, text
    return arrays[1].split(", "), gather[1]


def numbers(tables: str) -> list[list[str]]:
    """The rows of the main tables: backbone, method, seeds, and the numbers."""
    rows = [re.split(r" *\| *", line.strip("| ")) for line in tables.splitlines() if re.match(r"\| \w+-Net ", line)]
    return [row for row in rows if len(row) == 6]


def test_a_grid_is_one_array_a_gather_job_and_nothing_twice(
    cluster: dict[str, str], shards: Path, tmp_path: Path
) -> None:
    """With variables that would override what the plan states, or end every job, as sbatch reads them."""
    grid = tiny_grid.write(tmp_path / "whole.yaml")
    tables = tmp_path / "results/whole/tables.md"
    stated = {"EXPORT": "NONE", "TIMELIMIT": "2", "PARTITION": "cpu", "NO_REQUEUE": "1", "ARRAY_INX": "0-1"}
    variables = {f"SBATCH_{name}": value for name, value in stated.items()} | {"SRUN_EXPORT_ENV": "NONE"}

    first = tiny_grid.launch(grid, shards, tmp_path, "--partition", "gpu", "--yes", environment=cluster | variables)
    assert first.returncode == 0, first.stderr
    assert "8 to train, as one job array" in first.stdout
    [array], gather = submitted(first.stdout)
    known = jobs(cluster, "clef-whole")
    assert {job.get("ArrayJobId", job["JobId"]) for job in known.values()} == {array, gather}
    assert known[gather]["Dependency"].startswith(f"afterany:{array}_")
    assert {(job["NumCPUs"], job["TimeLimit"], job["Partition"], job["Requeue"]) for job in known.values()} == {
        ("1", "01:00:00", "gpu", "1")
    }

    again = tiny_grid.launch(grid, shards, tmp_path, "--partition", "gpu", "--yes", environment=cluster)
    assert again.returncode == 0, again.stderr
    assert "submitted" not in again.stdout
    done, busy = re.search(r"nothing to train: (\d) cells are done, (\d) are queued or running", again.stdout).groups()  # type: ignore[union-attr]
    assert int(done) + int(busy) == 8
    assert int(busy) > 0

    ends = wait_for_all(cluster, "clef-whole")
    assert ends == {f"{array}_{i}": "COMPLETED" for i in range(8)} | {gather: "COMPLETED"}
    trained = tiny_grid.change_times(tmp_path, "whole")
    assert len(trained) == 8
    # The run above found cells missing: only the gather job can have written these.
    written = tables.read_text()
    assert "no number from" not in written
    rows = numbers(written)
    assert len(rows) == 8
    assert all(row[2] == "1" and 0 < float(row[3]) <= 100 and 0 < float(row[4]) <= 100 for row in rows)

    last = tiny_grid.launch(grid, shards, tmp_path, "--partition", "gpu", "--yes", environment=cluster)
    assert last.returncode == 0, last.stderr
    assert "nothing to train: 8 cells are done, 0 are queued or running" in last.stdout
    assert "EMOTIC demo: mAP, percent" in last.stdout
    assert rows[0][3] in last.stdout
    assert tables.read_text() == written
    assert tiny_grid.change_times(tmp_path, "whole") == trained
    assert wait_for_all(cluster, "clef-whole") == ends


def test_cells_that_fail_are_named_with_their_reason_and_stop_no_other(
    cluster: dict[str, str], shards: Path, tmp_path: Path
) -> None:
    """One reads a tar that is cut short. One asks for a GPU: Slurm has it on its books, torch does not see it."""
    grid = tiny_grid.write(
        tmp_path / "ill.yaml",
        {"where": {"seed": 1}, "set": {"resources.gpus": 1}},
        backbones=["caer_net"],
        methods=["vanilla"],
        seeds=[0, 1],
        exclude=[{"dataset": "emotic_demo", "seed": 1}],
    )
    (tmp_path / "shards").mkdir()
    tar = tiny_grid.cut_short(shards, tmp_path / "shards", "emotic_demo")
    arguments = ("--partition", "gpu", "--yes", "--sbatch", "comment=a-word")

    first = tiny_grid.launch(grid, tmp_path / "shards", tmp_path, *arguments, environment=cluster)
    assert first.returncode == 0, first.stderr
    [array, single], gather = submitted(first.stdout)
    known = jobs(cluster, "clef-ill")
    assert known[gather]["Dependency"].split("(")[0].startswith("afterany:")
    assert array in known[gather]["Dependency"]
    assert f"afterany:{single}" in known[gather]["Dependency"]
    assert {job["Comment"] for job in known.values()} == {"a-word"}
    assert wait_for_all(cluster, "clef-ill") == {
        f"{array}_0": "FAILED", f"{array}_1": "COMPLETED", single: "FAILED", gather: "COMPLETED"
    }  # fmt: skip

    tables = (tmp_path / "results/ill/tables.md").read_text()
    expected = {
        "emotic_demo-caer_net-vanilla-s0": f"{tar}: {tar.stat().st_size} bytes",
        "caer_s_demo-caer_net-vanilla-s1": "GPUs asked for: 1; GPUs that torch sees on this node: 0",
    }
    for cell, reason in expected.items():
        assert f"no number from {cell}: failed: {reason}" in tables
    assert [(row[2], row[3] != "–") for row in numbers(tables)] == [("0", False), ("1", True)]

    plan = tiny_grid.launch(grid, tmp_path / "shards", tmp_path, "--dry-run", environment=cluster)
    assert re.search(r"emotic_demo .* 1 failed ", plan.stdout)
    assert re.search(r"caer_s_demo .* 1 done, 1 failed ", plan.stdout)
    assert plan.stdout.count("; 0 to train") == 2
    assert "failed, cancelled or starting from such a cell: 2, left as they are; --retry-failed" in plan.stdout
    plan = tiny_grid.launch(grid, tmp_path / "shards", tmp_path, "--dry-run", "--retry-failed", environment=cluster)
    assert plan.stdout.count("1 to train, as one job array") == 2


def test_what_sbatch_refuses_is_said_without_a_traceback(cluster: dict[str, str], shards: Path, tmp_path: Path) -> None:
    grid = tiny_grid.write(tmp_path / "refused.yaml")
    done = tiny_grid.launch(grid, shards, tmp_path, "--partition", "nosuch", "--yes", environment=cluster)
    assert done.returncode == 5
    assert "Invalid partition name specified" in done.stderr
    assert "Traceback" not in done.stderr
    assert jobs(cluster, "clef-refused") == {}
    plan = tiny_grid.launch(grid, shards, tmp_path, "--dry-run", environment=cluster)
    assert plan.stdout.count("1 new") == 8


def test_a_cell_that_starts_from_another_waits_for_just_that_one(
    cluster: dict[str, str], shards: Path, tmp_path: Path
) -> None:
    """Two pairs; the parent of the second fails, and only its own child is dropped."""
    grid = tiny_grid.write(
        tmp_path / "pairs.yaml",
        {"where": {"method": "vanilla", "seed": 1}, "set": {"optimizer.lr": 1e30}},
        presets={"two_stage": {"method": "clef", "set": {"method.start_from": "@vanilla"}}},
        datasets=["caer_s_demo"],
        backbones=["caer_net"],
        methods=["two_stage", "vanilla"],
        seeds=[0, 1],
    )
    done = tiny_grid.launch(grid, shards, tmp_path, "--partition", "gpu", "--yes", environment=cluster)
    assert done.returncode == 0, done.stderr
    [array, *children], gather = submitted(done.stdout)
    known = jobs(cluster, "clef-pairs")
    waits = [known[child]["Dependency"].split("(")[0] for child in children]
    assert waits == [f"afterok:{array}_0", f"afterok:{array}_1"]

    ends = wait_for_all(cluster, "clef-pairs")
    assert ends == {
        f"{array}_0": "COMPLETED", f"{array}_1": "FAILED", children[0]: "COMPLETED", children[1]: "CANCELLED",
        gather: "COMPLETED",
    }  # fmt: skip
    trained = {name.rpartition("caer_net-")[2] for name in tiny_grid.results(tmp_path, "pairs")}
    assert trained == {"vanilla-s0", "two_stage-s0"}
    table = (tmp_path / "results/pairs/tables.md").read_text()
    assert "two_stage-s1: not run: the cell that it starts from has failed" in table


def test_a_preempted_cell_is_queued_again_and_ends_as_an_undisturbed_one(
    cluster: dict[str, str], shards: Path, tmp_path: Path
) -> None:
    """Its task gets USR2 in the third step, as Slurm sends it before it preempts: it saves, and is queued again."""
    grid = tiny_grid.write(
        tmp_path / "preempted.yaml", datasets=["caer_s_demo"], backbones=["caer_net"], methods=["clef"]
    )
    signalled = faults.environment(tmp_path / "faults", Fault("kill", 3, signal="USR2"), base=cluster)
    settings = ("epochs=2", "runtime.threads=1")
    done = tiny_grid.launch(grid, shards, tmp_path, *settings, "--partition", "gpu", "--yes", environment=signalled)
    assert done.returncode == 0, done.stderr
    [array], gather = submitted(done.stdout)
    ends = wait_for_all(cluster, "clef-preempted")
    assert set(ends.values()) == {"COMPLETED"}
    known = jobs(cluster, "clef-preempted")
    assert {job: facts["Restarts"] for job, facts in known.items()} == {array: "1", gather: "0"}

    base = tmp_path / "undisturbed"
    base.mkdir()
    assert tiny_grid.launch(grid, shards, base, *settings, "--local", "1").returncode == 0
    found = [next((folder / "runs/preempted").glob("*/checkpoints/best.safetensors")) for folder in (tmp_path, base)]
    assert found[0].read_bytes() == found[1].read_bytes()
    log = found[0].parents[1] / "log.jsonl"
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines() if "loss" in line]
    assert steps == sorted(set(steps))


# ---- never twice, never lost ----

ONE_CELL = {"datasets": ["caer_s_demo"], "backbones": ["caer_net"], "methods": ["vanilla"]}
HELD = ("--partition", "gpu", "--yes", "--sbatch", "hold")
"""Jobs that never start: what is looked at is the submission alone."""


def cancel_all(cluster: Mapping[str, str], name: str) -> None:
    subprocess.run(["scancel", *jobs(cluster, name)], env=dict(cluster), check=True)
    wait_for_all(cluster, name)


def cell_jobs(tmp_path: Path, grid: str) -> list[tuple[str | None, list[str], bool]]:
    """Job, cells and fate of each submission of cells."""
    made = [entry for entry in ledger.read_submissions(tmp_path / "runs" / grid) if entry.kind == "cells"]
    return [(entry.job, entry.cells, entry.dropped) for entry in made]


def test_launchers_started_together_submit_each_cell_once(
    cluster: dict[str, str], shards: Path, tmp_path: Path
) -> None:
    grid = tiny_grid.write(tmp_path / "crowd.yaml", {"where": {"method": "clef"}, "set": {"resources.memory_gb": 2}})
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: tiny_grid.launch(grid, shards, tmp_path, *HELD, environment=cluster), range(3)))
    assert [each.returncode for each in done] == [0, 0, 0], [each.stderr for each in done]
    assert sum("submitted 8 cells as 2 job arrays" in each.stdout for each in done) == 1
    assert sum("nothing to train: 0 cells are done, 8 are queued" in each.stdout for each in done) == 2
    listed = [cell for _, cells, _ in cell_jobs(tmp_path, "crowd") for cell in cells]
    assert len(listed) == len(set(listed)) == 8
    assert len({job.get("ArrayJobId", number) for number, job in jobs(cluster, "clef-crowd").items()}) == 3
    cancel_all(cluster, "clef-crowd")


def test_a_launcher_killed_right_behind_sbatch_leaves_a_job_that_trains_and_is_found_again(
    cluster: dict[str, str], shards: Path, tmp_path: Path
) -> None:
    grid = tiny_grid.write(tmp_path / "widow.yaml", **ONE_CELL)
    dying = wrapped(cluster, tmp_path / "bin", '$real "$@" > /dev/null; kill -9 $PPID')
    arguments = ("--partition", "gpu", "--yes")
    assert tiny_grid.launch(grid, shards, tmp_path, *arguments, environment=dying).returncode == -9
    [(job, [cell], dropped)] = cell_jobs(tmp_path, "widow")
    assert (job, dropped) == (None, False)
    [number] = jobs(cluster, "clef-widow")

    plan = tiny_grid.launch(grid, shards, tmp_path, "--dry-run", environment=cluster)
    assert re.search("in all: 1 (queued|running|done)", plan.stdout), plan.stdout
    again = tiny_grid.launch(grid, shards, tmp_path, *arguments, environment=cluster)
    assert again.returncode == 0, again.stderr
    assert "submitted" not in again.stdout
    assert cell_jobs(tmp_path, "widow") == [(number, [cell], False)]
    ends = wait_for_all(cluster, "clef-widow")
    assert ends.pop(number) == "COMPLETED"
    assert set(ends.values()) <= {"COMPLETED"}
    assert set(tiny_grid.results(tmp_path, "widow")) == {"caer_s_demo-caer_net-vanilla-s0"}


def test_a_launcher_killed_before_sbatch_got_through_loses_no_cell(
    cluster: dict[str, str], shards: Path, tmp_path: Path
) -> None:
    """Its sbatch lives on, and gets through only after the next launcher has given it up."""
    grid = tiny_grid.write(tmp_path / "orphan.yaml", **ONE_CELL)
    go = tmp_path / "go"
    script = f'kill -9 $PPID; until [ -e {go} ]; do sleep 0.1; done; $real "$@" > /dev/null; touch {go}.done'
    dying = wrapped(cluster, tmp_path / "bin", script)
    assert tiny_grid.launch(grid, shards, tmp_path, *HELD, environment=dying).returncode == -9
    again = tiny_grid.launch(grid, shards, tmp_path, *HELD, environment=cluster)
    assert again.returncode == 0, again.stderr
    assert "Slurm never got that" in again.stderr
    [(first, cells, dropped), (second, same, kept)] = cell_jobs(tmp_path, "orphan")
    assert (first, dropped, kept) == (None, True, False)
    assert cells == same
    assert second in jobs(cluster, "clef-orphan")

    go.touch()
    wait_until(lambda: go.with_name("go.done").exists())
    late = set(jobs(cluster, "clef-orphan")) - {second}
    assert len(late) == 2, "the gather job, and the one that finds its record dropped"
    last = tiny_grid.launch(grid, shards, tmp_path, *HELD, environment=cluster)
    assert "nothing to train: 0 cells are done, 1 are queued" in last.stdout
    assert len(cell_jobs(tmp_path, "orphan")) == 2
    cancel_all(cluster, "clef-orphan")


def test_missing_shards_are_made_by_a_job_and_the_cells_come_behind(
    cluster: dict[str, str], sources: Path, tmp_path: Path
) -> None:
    """One set can be made, the other's source is empty: it stops nothing."""
    card = tmp_path / "mine.yaml"
    card.write_text("{extends: caer_s_demo, name: mine, generator: null}")
    grid = tiny_grid.write(tmp_path / "cut.yaml", **ONE_CELL | {"datasets": [str(card), "caer_s"]})
    (tmp_path / "empty").mkdir()
    given = [f"--source=mine={sources / 'caer_s_demo'}", f"--source=caer_s={tmp_path / 'empty'}"]
    arguments = ("--profile", "dev-cluster", "--yes", *given)
    done = tiny_grid.launch(grid, tmp_path / "made", tmp_path, *arguments, environment=cluster)
    assert done.returncode == 0, done.stderr
    assert "in all: 2 sharding" in done.stdout
    watched = tiny_grid.launch(grid, tmp_path / "made", tmp_path, "--watch", environment=cluster).stdout
    assert "which makes the shards of caer_s, has ended: FAILED" in watched
    assert watched.splitlines()[-1].endswith("1 done, 1 blocked"), "watched until the cells behind the shards ended"
    wait_for_all(cluster, "clef-cut")
    ends = {job["JobName"]: job["JobState"] for job in jobs(cluster, "clef-cut").values()}
    made = [
        (entry.kind, Path(entry.shards or "").name, ends[entry.tag])
        for entry in ledger.read_submissions(tmp_path / "runs/cut")
    ]
    assert made[:4] == [
        ("shards", "mine", "COMPLETED"), ("launch", "mine", "COMPLETED"),
        ("shards", "caer_s", "FAILED"), ("launch", "caer_s", "CANCELLED"),
    ]  # fmt: skip
    assert {kind: state for kind, _, state in made[4:] if kind in ("cells", "gather")} == {
        "cells": "COMPLETED", "gather": "COMPLETED",
    }  # fmt: skip
    assert set(tiny_grid.results(tmp_path, "cut")) == {"mine-caer_net-vanilla-s0"}
    assert "no number from caer_s-caer_net-vanilla-s0" in (tmp_path / "results/cut/tables.md").read_text()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not after {seconds} s"
        time.sleep(0.1)
