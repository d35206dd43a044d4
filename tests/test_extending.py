"""The examples of docs/extending.md, taken from the page, run through the commands as a user would run them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.launch.tiny_grid import ROOT

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder with the page's files in it."""
    for name, text in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text)
    assert {path.name for path in tmp_path.iterdir()} == {"my_models.py", "my_methods.py", "my_grid.yaml"}
    return tmp_path


def run(project: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=project, env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_backbone_and_a_method_of_ones_own_run_through_a_grid(project: Path, shards: Path) -> None:
    places = ["--shards", str(shards), "--out", "runs", "--results", "results"]
    shown = run(project, str(ROOT / "launch/grid.py"), "--grid", "my_grid.yaml", "--local", "2", *places)
    results = [json.loads(path.read_text()) for path in project.glob("runs/my_grid/*/result.json")]
    made = {(result["backbone"], result["method"]) for result in results}
    backbones, methods = ("my_models:FaceAndScene", "caer_net"), ("vanilla", "Smoothed")
    assert made == {(backbone, method) for backbone in backbones for method in methods}
    assert "Smoothed" in shown
    log = next(project.glob("runs/my_grid/*FaceAndScene-Smoothed*/log.jsonl")).read_text().splitlines()
    assert set(json.loads(log[0])["losses"]) == {"categories", "penalty"}


def test_and_through_train(project: Path, shards: Path) -> None:
    sections = yaml.safe_load((project / "my_grid.yaml").read_text())["overrides"]
    settings = {
        "dataset": "caer_s_demo",
        "backbone": {"name": "my_models:FaceAndScene"},
        "method": {"name": "my_methods:Smoothed", "options": {"weight": 0.5}},
        "inputs": sections[1]["set"]["inputs"],
        "loss": {"categories": "cross_entropy"},
        "epochs": 1,
        "runtime": {"shards": str(shards), "workers": 0},
    }
    (project / "my_cell.yaml").write_text(yaml.safe_dump(settings))
    run(project, "-m", "clef.train", "--config", "my_cell.yaml")
    [result] = project.glob("runs/*/*/result.json")
    assert json.loads(result.read_text())["method"] == "Smoothed"


@pytest.mark.parametrize("name", ["my_models.py", "my_methods.py"])
def test_an_addition_is_short(project: Path, name: str) -> None:
    assert len((project / name).read_text().splitlines()) < 30
