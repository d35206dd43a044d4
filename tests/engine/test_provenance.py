"""What a result says of where it comes from, held against the machine, git, the manifest and the clock."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from clef.cells import records
from clef.cells.plan_file import PlannedRun, write_plan
from clef.config import CellConfig
from clef.data import manifest as manifests
from clef.engine import provenance
from clef.results.collect import gather
from clef.results.frame import headlines
from tests.engine.factories import train_cell

Make = Callable[..., CellConfig]


def moment(text: str) -> datetime:
    """A time with its zone, which must be UTC."""
    found = datetime.fromisoformat(text)
    assert found.utcoffset() == timedelta(0)
    return found


@pytest.mark.slow
def test_a_result_says_where_it_comes_from(tiny: Make) -> None:
    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    config = tiny(method="vanilla")
    folder = train_cell(config)
    after = datetime.now(timezone.utc)
    result = records.read_json(folder / "result.json")
    found, run = result["environment"], result["run"]
    assert records.read_json(folder / "environment.json") == found
    assert found["python"] == platform.python_version()
    assert found["cpu"] in Path("/proc/cpuinfo").read_text() or found["cpu"] == platform.machine()
    assert (found["threads"], found["ranks"], found["dtype"]) == (torch.get_num_threads(), 1, "float32")
    assert shlex.split(found["command"])[0] == sys.orig_argv[0]
    for package in ("torch", "numpy", "pillow", "scipy", "safetensors", "pydantic", "opencv-python-headless"):
        assert found["packages"][package] == metadata.version(package)
    manifest = manifests.load(config.shards)
    assert (found["shards"], found["protocol"]) == (manifest.source, "leak_free")
    kinds = ("body.jpg", "meta.json", "scene.jpg")
    assert found["content"] == {f"{name}/{k}": s.content[k] for name, s in manifest.splits.items() for k in kinds}
    assert found["weights"] == {}
    assert found["earlier"] == []
    assert (found["from_step"], result["best_epoch"]) == (0, 1)
    assert before <= moment(run["started"]) <= moment(run["ended"]) <= after
    assert run["started"] == found["started"]
    assert run["wall_seconds"] == (moment(run["ended"]) - moment(run["started"])).total_seconds()
    assert run["samples_seen"] == result["steps"] * 16
    assert run["images_per_s"] == pytest.approx(run["samples_seen"] / run["wall_seconds"], abs=0.06)
    assert run["checkpoint"]["file"] == "checkpoints/best.safetensors"
    best = (folder / run["checkpoint"]["file"]).read_bytes()
    assert run["checkpoint"]["sha256"] == hashlib.sha256(best).hexdigest()


@pytest.mark.slow
def test_tables_read_it(tiny: Make) -> None:
    folder = train_cell(tiny(method="vanilla"))
    run = PlannedRun("n", "caer_s_demo", "emot_net", "vanilla", 0, folder.name)
    gathered = gather(write_plan(folder.parents[1], "single", [run]))
    assert (len(headlines(gathered.rows, "accuracy")), gathered.missing) == (4, {})
    assert gathered.rows["commit"].iloc[0] == records.code_version()["commit"]


@pytest.mark.slow
def test_a_broken_run_keeps_what_its_earlier_processes_said(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(method="vanilla")
    folder = train_cell(config, stop_after=4)
    first = records.read_json(folder / "environment.json")
    seen = moment(first["started"]).timestamp() + 100
    os.utime(folder / "log.jsonl", (seen, seen))
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    monkeypatch.setenv("SLURMD_NODENAME", "node3")
    train_cell(config, stop_after=6)
    train_cell(config)
    result = records.read_json(folder / "result.json")
    last, run = result["environment"], result["run"]
    assert [past["from_step"] for past in [*last["earlier"], last]] == [0, 4, 6]
    assert last["earlier"][0]["started"] == first["started"] == run["started"]
    assert last["earlier"][0]["code"] == first["code"]
    assert last["earlier"][0]["slurm"] is None
    assert last["slurm"] == {"job": "77", "array_job": "70", "array_task": "7", "node": "node3"}
    assert last["earlier"][1]["slurm"] == last["slurm"]
    own = (moment(run["ended"]) - moment(last["started"])).total_seconds()
    second = last["earlier"][1]
    between = (moment(second["last_seen"]) - moment(second["started"])).total_seconds()
    assert run["wall_seconds"] == pytest.approx(100 + between + own, abs=0.01), "the pauses don't count"
    assert run["samples_seen"] == result["steps"] * 16


def test_a_process_that_died_before_its_first_log_line_took_no_time(tiny: Make, tmp_path: Path) -> None:
    accelerator, config = Accelerator(cpu=True), tiny()
    manifest = manifests.load(config.shards)
    for expected in (0, 1, 2):
        recorded = provenance.session_record(tmp_path, config, manifest, accelerator)
        assert len(recorded["earlier"]) == expected
        assert all(past["last_seen"] == past["started"] for past in recorded["earlier"])
        records.write_json(tmp_path / records.ENVIRONMENT, recorded)


@pytest.fixture
def version_anew() -> Iterator[None]:
    yield
    records.code_version.cache_clear()


@pytest.mark.usefixtures("version_anew")
def test_an_edited_tree_is_told_by_the_hash_of_its_diff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> bytes:
        identity = ("-c", "user.name=n", "-c", "user.email=e")
        return subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True).stdout

    def version() -> dict[str, Any]:
        records.code_version.cache_clear()
        return records.code_version()

    (tmp_path / "__init__.py").write_text("one\n")
    (tmp_path / "picture.bin").write_bytes(bytes(range(256)))
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "m")
    monkeypatch.setattr(records, "__file__", str(tmp_path / "cells/records.py"))
    clean = version()
    assert (clean["dirty"], clean["diff"]) == (False, None)
    assert clean["commit"] == git("rev-parse", "HEAD").decode().strip()
    (tmp_path / "__init__.py").write_text("two\n")
    edited = version()
    assert (edited["dirty"], edited["commit"]) == (True, clean["commit"])
    assert edited["diff"] == hashlib.sha256(git("diff", "HEAD", "--binary")).hexdigest()
    (tmp_path / "picture.bin").write_bytes(b"\xff" * 256)
    assert version()["diff"] != edited["diff"]


def test_differences_are_those_that_may_move_a_score() -> None:
    packages = {"torch": "2.14.1", "numpy": "2"}
    one = {"packages": packages, "ranks": 2, "host": "a", "started": "x", "content": {"test/face.jpg": "0"}}
    two = {"packages": {"torch": "2.14.1", "scipy": "1"}, "ranks": 1, "host": "b", "content": {"test/face.jpg": "1"}}
    assert provenance.differences(one, one) == {}
    assert provenance.differences(one, two) == {
        "content.test/face.jpg": ["0", "1"],
        "packages.numpy": ["2", None],
        "packages.scipy": [None, "1"],
        "ranks": [2, 1],
    }
