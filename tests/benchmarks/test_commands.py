"""The commands from end to end on tiny datasets: what they write, print and refuse. No rate is judged."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import common, loading
from benchmarks.__main__ import main
from benchmarks.loading import CACHE, CEILING, JPEG
from clef.errors import run_command

ROOT = Path(__file__).parents[2]
STAGES = {"read", "decode", "decode+squash", "augment", "collate"}


def run_benchmark(*arguments: object, cwd: Path) -> str:
    """Run a command and return all that it printed."""
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert "Traceback" not in printed
    return printed


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that was made and kept, and what measuring it wrote and printed."""
    folder = tmp_path_factory.mktemp("bench")
    printed = run_benchmark(
        "loading", "--people", 30, "--image-size", "320x240", "--samples", 16, "--batch", 8, "--workers", 1,
        "--rounds", 1, "--no-peers", "--stage-seconds", 0.05, "--keep", folder / "set",
        "--json", folder / "loading.json", cwd=folder,
    )  # fmt: skip
    (folder / "printed").write_text(printed)
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_loading_measures_every_stage_and_the_whole_loader(measured: Path) -> None:
    report = read(measured / "loading.json")
    assert set(report["stages"]["one_process"]) == STAGES
    assert set(report["stages"]["all_processes"]) > STAGES
    assert all(rate > 0 for rates in report["stages"].values() for rate in rates.values())
    assert set(report["passes"]) == {CEILING, JPEG, CACHE}
    for values in report["passes"].values():
        assert len(values["rates"]) == 1
        assert values["low"] == values["median"] == values["high"] == values["rates"][0] > 0
    rates = {name: values["rates"][0] for name, values in report["passes"].items()}
    assert [(verdict["what"], verdict["ratio"]["median"]) for verdict in report["verdicts"]] == [
        (f"{JPEG} / {CEILING}", pytest.approx(rates[JPEG] / rates[CEILING])),
        (f"{CACHE} / {JPEG}", pytest.approx(rates[CACHE] / rates[JPEG])),
    ]
    assert [verdict["met"] for verdict in report["verdicts"]] == [
        rates[JPEG] >= 0.9 * rates[CEILING],
        rates[CACHE] >= 3 * rates[JPEG],
    ]


@pytest.mark.slow
def test_loading_reports_what_its_rates_depend_on(measured: Path) -> None:
    report, printed = read(measured / "loading.json"), " ".join((measured / "printed").read_text().split())
    assert report["machine"]["cores"] >= 1
    assert {"torch", "numpy", "webdataset"} <= set(report["machine"]["versions"])
    assert report["data"]["source_image"] == [320, 240]
    assert set(report["data"]["bytes_per_member"]) == {"context.jpg", "scene.jpg", "body.jpg"}
    assert report["setting"]["inputs"]["body"] == {"size": [128, 128], "flip": True}
    assert report["jpegs_per_person"] == {CEILING: 3, JPEG: 3, CACHE: 0}
    assert report["bottleneck"] in printed
    assert "page cache warm" in printed
    assert f"written: {measured / 'loading.json'}" in printed


@pytest.mark.slow
def test_loading_measures_ones_own_dataset(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # The test above has the real processes, each of which imports torch.
    monkeypatch.setattr(
        common, "in_processes", lambda calls: nullcontext({name: partial(*call) for name, call in calls.items()})
    )
    card, shards = measured / "set" / "photographs.yaml", measured / "set" / "shards"
    arguments = ["--dataset", card, "--shards", shards, "--samples", 8, "--batch", 8, "--workers", 1, "--rounds", 1]
    arguments += ["--stage-seconds", 0.05, "--no-peers", "--backbone", "caer_net", "--method", "vanilla"]
    assert loading.main(list(map(str, arguments))) == 0
    assert "written: results/bench/loading.json" in capsys.readouterr().out
    report = read(tmp_path / "results" / "bench" / "loading.json")
    assert set(report["setting"]["inputs"]) == {"face", "scene_without_face"}


@pytest.mark.slow
def test_sharding_compares_the_sharder_with_its_ceiling(tmp_path: Path) -> None:
    size = ("--people", 8, "--image-size", "160x120")
    run_benchmark("sharding", *size, "--rounds", 1, "--json", "s.json", cwd=tmp_path)
    report = read(tmp_path / "s.json")
    assert list(report["passes"]) == ["ceiling (1)", "sharder (1)", "ceiling (2)", "sharder (2)"]
    assert len(report["verdicts"]) == 3
    assert report["data"]["storage"]["frame"] == 256


@pytest.mark.slow
def test_training_measures_both_loops_in_turns(tmp_path: Path) -> None:
    path = tmp_path / "training.json"
    printed = run_benchmark("training", "--rounds", 2, "--steps", 3, "--json", path, cwd=tmp_path)
    report = read(path)
    loops = report["microseconds_a_step"]
    assert loops["plain"]["median"] > 0
    assert len(loops["overhead"]["rounds"]) == 2
    assert loops["overhead"]["median"] == pytest.approx(sum(loops["overhead"]["rounds"]) / 2)
    assert report["met"] == (loops["overhead"]["median"] <= report["target"])
    assert "ours − plain" in printed
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_grid_measures_planning_and_status(tmp_path: Path) -> None:
    path = tmp_path / "grid.json"
    printed = run_benchmark("grid", "--cells", 60, "--rounds", 1, "--json", path, cwd=tmp_path)
    report = read(path)
    assert report["cells"] == 60
    assert set(report["measured"]) == {"plan", "prepare", "status", "gather"}
    memory = [values["memory"]["median"] for values in report["measured"].values()]
    assert all(0 < megabytes < 250 for megabytes in memory), "torch is not imported"
    assert "planned and shown" in printed


@pytest.mark.slow
def test_cells_are_compared_with_a_hand_written_training(tmp_path: Path) -> None:
    size = ("--size", "demo", "--scale", 0.02, "--rounds", 1, "--cells", 1)
    printed = run_benchmark("cells", *size, "--json", "cells.json", cwd=tmp_path)
    [(name, measured)] = read(tmp_path / "cells.json")["sizes"].items()
    assert (name, measured["people"]) == ("demo", {"train": 52, "val": 7, "test": 18, "test_shift": 18})
    ours, plain = (measured["seconds"][name]["median"] for name in ("ours", "hand-written"))
    assert measured["ratio"]["median"] == pytest.approx(ours / plain)
    assert measured["cells_an_hour"]["median"] > 0
    shares = [share for stage in measured["stages"].values() for share in stage.values()]
    assert sum(shares) == pytest.approx(1)
    assert measured["stages"]["forward, backward"]["products"] > 0
    assert "ours / hand-written" in printed
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("loading", "--shards", "here"), 2, "--dataset: missing"),
        (("loading", "--workers", "0"), 2, "at least 1 is expected"),
        (("loading", "--image-size", "10x10"), 2, "WIDTHxHEIGHT"),
        (("sharding", "--rounds", "none"), 2, "invalid"),
        (("loading", "--dataset", "emotik"), 2, "emotic"),
        (("walk",), 2, "invalid choice"),
        ((), 2, "COMMAND"),
        (("loading", "--dataset", "emotic"), 4, "python -m clef.shard --dataset emotic"),
    ],
)
def test_wrong_or_missing_arguments_are_refused(
    arguments: tuple[str, ...],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit) as exit_info:  # in this process, because each new one would import torch
        run_command(main)
    assert exit_info.value.code == code
    assert message in capsys.readouterr().err
