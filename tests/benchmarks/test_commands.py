"""The commands from end to end on tiny drawn sets: what they write, say and refuse. No rate is judged."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.peers import CACHE, CEILING, JPEG
from clef.errors import run_command

ROOT = Path(__file__).parents[2]
STAGES = {"read", "decode", "decode+squash", "augment", "collate"}


def bench(*arguments: object, cwd: Path) -> str:
    """Runs the command and returns all that it says."""
    command = [sys.executable, "-m", "benchmarks.__main__", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Traceback" not in said
    return said


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn set with its shards, and what measuring it wrote and said."""
    folder = tmp_path_factory.mktemp("bench")
    said = bench(
        "data", "--people", 30, "--image-size", "320x240", "--samples", 16, "--batch", 8, "--workers", 1, "--pairs", 1,
        "--no-peers", "--keep", folder / "set", "--json", folder / "data.json", cwd=folder,
    )  # fmt: skip
    (folder / "said").write_text(said)
    return folder


def written(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_data_measures_every_stage_and_the_whole_loader(kept: Path) -> None:
    found = written(kept / "data.json")
    assert set(found["stages"]["one_process"]) == STAGES
    assert set(found["stages"]["all_processes"]) > STAGES
    assert all(rate > 0 for rates in found["stages"].values() for rate in rates.values())
    assert set(found["passes"]) == {CEILING, JPEG, CACHE}
    for values in found["passes"].values():
        assert len(values["rates"]) == 1
        assert values["low"] == values["median"] == values["high"] == values["rates"][0] > 0
    rates = {name: values["rates"][0] for name, values in found["passes"].items()}
    assert [(verdict["what"], verdict["value"]["median"]) for verdict in found["verdicts"]] == [
        (f"{JPEG} / {CEILING}", pytest.approx(rates[JPEG] / rates[CEILING])),
        (f"{CACHE} / {JPEG}", pytest.approx(rates[CACHE] / rates[JPEG])),
    ]


def test_data_says_what_its_rates_rest_on(kept: Path) -> None:
    found, said = written(kept / "data.json"), " ".join((kept / "said").read_text().split())  # lines are wrapped
    assert found["machine"]["cores"] >= 1
    assert {"torch", "numpy", "webdataset"} <= set(found["machine"]["versions"])
    assert found["data"]["source_image"] == [320, 240]
    assert set(found["data"]["bytes_per_member"]) == {"context.jpg", "scene.jpg", "body.jpg"}
    assert found["setting"]["inputs"]["body"] == {"size": [128, 128], "flip": True}
    assert found["jpegs_per_person"] == {CEILING: 3, JPEG: 3, CACHE: 0}
    assert found["bottleneck"] in said
    assert "page cache warm" in said
    assert f"written: {kept / 'data.json'}" in said


def test_data_measures_a_set_of_ones_own(kept: Path) -> None:
    said = bench(
        "data", "--dataset", kept / "set" / "photographs.yaml", "--shards", kept / "set" / "shards", "--samples", 8,
        "--batch", 8, "--workers", 1, "--pairs", 1, "--no-peers", "--backbone", "caer_net", "--method", "vanilla",
        cwd=kept,
    )  # fmt: skip
    assert "written: results/bench/data.json" in said
    found = written(kept / "results" / "bench" / "data.json")
    assert set(found["setting"]["inputs"]) == {"face", "scene_without_face"}


def test_shard_compares_the_sharder_with_its_ceiling(tmp_path: Path) -> None:
    bench("shard", "--people", 8, "--image-size", "160x120", "--pairs", 1, "--json", "s.json", cwd=tmp_path)
    found = written(tmp_path / "s.json")
    assert list(found["passes"]) == [
        "ceiling (1)", "sharder (1)", "ceiling (2)", "sharder (2)"
    ]  # fmt: skip
    assert len(found["verdicts"]) == 3
    assert found["data"]["storage"]["frame"] == 256


def refused(arguments: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """The exit code of the command in this process, which saves the time to import torch."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["benchmarks.__main__", *arguments])
    with pytest.raises(SystemExit) as left:
        run_command(main)
    return left.value.code


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("data", "--shards", "here"), 2, "--dataset: missing"),
        (("data", "--workers", "0"), 2, "at least 1 is expected"),
        (("data", "--image-size", "10x10"), 2, "WIDTHxHEIGHT"),
        (("shard", "--pairs", "none"), 2, "invalid"),
        (("data", "--dataset", "emotik"), 2, "emotic"),
        (("walk",), 2, "invalid choice"),
        (("data", "--dataset", "emotic"), 4, "python -m clef.shard --dataset emotic"),
    ],
)
def test_what_is_wrong_or_missing_is_said(
    arguments: tuple[str, ...],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert refused(arguments, tmp_path, monkeypatch) == code
    assert message in capsys.readouterr().err
