"""A grid on this machine, end to end: what fails is named, the rest finishes, and running it again mends it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clef.cells import records
from clef.config import CellConfig
from launch import local, plan
from launch.job_output import output_files
from launch.plan import PlannedCell
from tests.faults import Fault, environment
from tests.launch import tiny_grid

FAILS = "emotic_demo-caer_net-vanilla-s0"
WORK = {"caer_s_demo-caer_net-vanilla-s0", "caer_s_demo-caer_net-vanilla-s1"}


@pytest.mark.slow
def test_a_failed_cell_stops_no_other_and_only_it_is_run_again(shards: Path, tmp_path: Path) -> None:
    grid = tiny_grid.write(
        tmp_path / "small.yaml",
        backbones=["caer_net"],
        methods=["vanilla"],
        seeds=[0, 1],
        exclude=[{"dataset": "emotic_demo", "seed": 1}],
    )
    (tmp_path / "shards").mkdir()
    tar = tiny_grid.cut_short(shards, tmp_path / "shards", "emotic_demo")
    tables = tmp_path / "results/small/tables.md"

    # Of a notebook or another launcher around this one: no cell waits for these ranks.
    ranks = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    first = tiny_grid.launch(grid, tmp_path / "shards", tmp_path, "--local", "2", environment=os.environ | ranks)
    assert first.returncode == 6, first.stderr
    assert "1 of 3 cells failed" in first.stderr
    trained = tiny_grid.change_times(tmp_path, "small")
    assert set(trained) == WORK
    why = f"- no number from {FAILS}: failed: {tar}: {tar.stat().st_size} bytes, the manifest states"
    assert why in tables.read_text()

    shutil.copyfile(shards / "emotic_demo" / tar.name, tar)
    plain = tiny_grid.launch(grid, tmp_path / "shards", tmp_path, "--local", "2")
    assert plain.returncode == 0, plain.stderr
    assert "failed, cancelled or starting from such a cell: 1, left as they are; --retry-failed" in plain.stdout
    assert "nothing to train: 2 cells are done" in plain.stdout
    assert why in tables.read_text()

    second = tiny_grid.launch(grid, tmp_path / "shards", tmp_path, "--local", "2", "--retry-failed")
    assert second.returncode == 0, second.stderr
    assert "[1/1]" in second.stderr
    assert "no number" not in tables.read_text()
    mended = tiny_grid.change_times(tmp_path, "small")
    assert {name: mended[name] for name in WORK} == trained
    assert set(mended) == {FAILS, *WORK}

    third = tiny_grid.launch(grid, tmp_path / "shards", tmp_path, "--local", "2")
    assert third.returncode == 0, third.stderr
    assert "nothing to train: 3 cells are done" in third.stdout
    assert "CAER-Net" in third.stdout
    assert tiny_grid.change_times(tmp_path, "small") == mended


def job_that_said(text: str | None) -> Any:
    return SimpleNamespace(stderr=lambda: text)


def test_a_process_that_was_killed_is_said_to_have_died_with_its_last_words(tmp_path: Path) -> None:
    records.write_state(tmp_path, "running", step=3, steps=9)
    assert local.final_state(job_that_said("step 3/9\nfree(): invalid size\n\n"), tmp_path) == "died"
    state = records.read_json(tmp_path / records.STATE)
    reason = "its process ended without a result; its last line: free(): invalid size"
    assert (state["state"], state["reason"], state["step"]) == ("died", reason, 3)


def test_a_process_that_said_nothing_has_died_too(tmp_path: Path) -> None:
    assert local.final_state(job_that_said(None), tmp_path) == "died"
    assert records.read_json(tmp_path / records.STATE)["reason"] == "its process ended without a result"


def test_how_a_cell_ended_is_its_own_word(tmp_path: Path) -> None:
    records.write_state(tmp_path, "preempted", reason="SIGTERM")
    assert local.final_state(job_that_said("a warning"), tmp_path) == "preempted"
    records.write_json(tmp_path / records.RESULT, {"val": 1.0})
    assert local.final_state(job_that_said("a warning"), tmp_path) == "done"


@pytest.mark.parametrize(
    ("printed", "slots"),
    [
        ("GPU 0: NVIDIA H200 (UUID: GPU-1)\nGPU 1: NVIDIA H200 (UUID: GPU-2)\nGPU 2: NVIDIA H200 (UUID: GPU-3)\n", 3),
        ("GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 3g.71gb  Device 0: (UUID: MIG-1)\n  MIG 3g.71gb  Device 1: (x)\n", 1),
        (
            "Welcome!\nNVIDIA-SMI has failed because it couldn't communicate with the driver.\nMake sure of it.\n",
            1,
        ),
    ],
)
def test_only_the_gpus_that_nvidia_smi_lists_count(
    printed: str, slots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "printed.txt").write_text(printed)
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n/bin/cat {tmp_path}/printed.txt\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    cell: Any = SimpleNamespace(config=SimpleNamespace(resources=SimpleNamespace(gpus=1, cells_per_gpu=1)))
    assert local.machine_slots([cell]) == slots


def test_gpus_are_those_that_the_user_left_visible(
    tiny: Callable[..., CellConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = PlannedCell(tiny(**{"resources.gpus": 2}), tmp_path / "cell", "new")
    given: list[str] = []
    monkeypatch.setattr(local, "prepare_cell", lambda cell, threads: "cell")
    monkeypatch.setattr(
        local.submitit.LocalExecutor, "submit", lambda self, *_: given.append(",".join(self.parameters["visible_gpus"]))
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5, GPU-1f,7")
    assert local.machine_slots([cell]) == 2
    for slot in (0, 1):
        local._start_worker(local._Pack([cell], {tmp_path / "cell": cell}), tmp_path, slot, 1, "python")
    assert given == ["4,5", "GPU-1f,7"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.machine_slots([cell]) == local.cores()


def test_processes_share_cells_of_the_same_resources_and_one_cell_of_a_gpu(
    tiny: Callable[..., CellConfig], tmp_path: Path
) -> None:
    def planned(name: str, **resources: int) -> PlannedCell:
        settings = {f"resources.{key}": value for key, value in ({"gpus": 0} | resources).items()}
        return PlannedCell(tiny(**settings), tmp_path / name, "new")

    shared = [planned(f"shared-{i}", cells_per_task=3) for i in range(8)]
    waiting = [planned("alone"), *shared[:4], planned("other", cells_per_task=3, memory_gb=1), *shared[4:]]
    packs: list[local._Pack] = []

    def taken() -> list[str]:
        pack = local._next_pack(waiting, packs, 2, lambda cell, state: None)
        assert pack is not None
        pack.workers += 1
        return [cell.folder.name for cell in pack.cells if cell.folder]

    assert taken() == ["alone"]
    assert taken() == [f"shared-{i}" for i in range(6)], "three for each of two slots"
    assert taken() == [f"shared-{i}" for i in range(6)], "the second process shares them"
    packs[1].unsettled = dict(list(packs[1].unsettled.items())[:2])
    assert taken() == ["other"], "two cells are left for two processes"
    assert taken() == ["shared-6", "shared-7"]
    assert waiting == []


@pytest.mark.slow
def test_cells_share_processes_and_one_that_fails_or_dies_stops_no_other(
    tiny: Callable[..., CellConfig], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [
        tiny(
            backbone=backbone, method=method, seed=seed,
            **{"resources": {"gpus": 0, "cells_per_task": 8}, "runtime.lock_minutes": 0},
        )
        for backbone, method, seed in (
            ("caer_net", "vanilla", 0), ("emot_net", "vanilla", 1), ("emot_net", "clef", 2), ("emot_net", "ccim", 3),
            ("caer_net", "clef", 4),
        )
    ]  # fmt: skip
    configs[1] = configs[1].model_copy(update={"optimizer": configs[1].optimizer.model_copy(update={"lr": 1e30})})
    cells = plan.make_plan("packed", configs).cells
    monkeypatch.setenv("PYTHONPATH", environment(tmp_path / "faults", Fault("kill", 3, seed=3))["PYTHONPATH"])
    ended: list[str] = []
    states = local.train_cells(list(cells), tmp_path / "runs/packed", 2, lambda states: None, ended.append)
    assert [states[cell.folder] for cell in cells] == ["done", "failed", "done", "died", "done"]  # type: ignore[index]
    assert sorted(ended) == sorted(cell.folder.name for cell in cells if cell.folder)
    logs = list((tmp_path / "runs/packed/local").glob("*/*_log.err"))
    assert 2 <= len(logs) <= 3, "two processes, and perhaps one in place of that which was killed"
    last = output_files(tmp_path / "runs/packed", ended[-1], None)
    assert any(f"{ended[-1].rpartition('-')[0]}: " in path.read_text() for path in last)
