"""The examples of docs/extending.md, taken from the page, run through the commands as a user would run them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.launch.tiny_grid import ROOT

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
"""The page's files by name; those inside the package have a folder."""
OUTSIDE = ("my_models.py", "my_methods.py", "my_optimizers.py", "my_grid.yaml")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder with the page's files in it."""
    for name in (name for name in FILES if "/" not in name):
        (tmp_path / name).write_text(FILES[name])
    assert {path.name for path in tmp_path.iterdir()} == set(OUTSIDE)
    return tmp_path


def run(project: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=project, env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_is_ones_own_runs_through_a_grid_from_a_copy_of_the_code(project: Path, shards: Path) -> None:
    places = ["--shards", str(shards), "--out", "runs", "--results", "results"]
    shown = run(project, str(ROOT / "launch/grid.py"), "--grid", "my_grid.yaml", "--local", "2", *places)
    results = [json.loads(path.read_text()) for path in project.glob("runs/my_grid/*/result.json")]
    made = {(result["backbone"], result["method"]) for result in results}
    backbones, methods = ("my_models:FaceAndScene", "caer_net"), ("vanilla", "Smoothed")
    assert made == {(backbone, method) for backbone in backbones for method in methods}
    assert "Smoothed" in shown
    log = next(project.glob("runs/my_grid/*FaceAndScene-Smoothed*/log.jsonl")).read_text().splitlines()
    assert set(json.loads(log[0])["losses"]) == {"categories", "penalty"}
    [code] = project.glob("runs/my_grid/code/*/code.json")
    copied = {path.name for path in code.parent.glob("my_*")}
    assert copied == {name for name in OUTSIDE if name.endswith(".py")}, "jobs run copies of all of them"
    config = yaml.safe_load(next(project.glob("runs/my_grid/*caer_net-vanilla*/config.yaml")).read_text())
    assert config["optimizer"]["name"] == "my_optimizers:Lion"


@pytest.mark.slow
def test_and_through_train(project: Path, shards: Path) -> None:
    sections = yaml.safe_load((project / "my_grid.yaml").read_text())["overrides"]
    settings = {
        "dataset": "caer_s_demo",
        "backbone": {"name": "my_models:FaceAndScene"},
        "method": {"name": "my_methods:Smoothed", "options": {"weight": 0.5}},
        "inputs": sections[1]["set"]["inputs"],
        "loss": {"categories": "cross_entropy"},
        "epochs": 1,
        "runtime": {"shards": str(shards), "num_workers": 0},
    }
    (project / "my_cell.yaml").write_text(yaml.safe_dump(settings))
    run(project, "-m", "clef.train", "--config", "my_cell.yaml")
    [result] = project.glob("runs/*/*/result.json")
    assert json.loads(result.read_text())["method"] == "Smoothed"


@pytest.mark.parametrize("name", ["my_models.py", "my_methods.py", "my_optimizers.py"])
def test_an_addition_is_short(project: Path, name: str) -> None:
    assert len((project / name).read_text().splitlines()) < 30


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """A copy of the package with the page's backbone, methods and metric inside, as the page says (but for tests)."""
    skip = shutil.ignore_patterns("__pycache__", ".*")
    for folder in ("clef", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=skip)
    shutil.copytree(ROOT / "shards", tmp_path / "shards", ignore=lambda _, names: [n for n in names if "." not in n])
    inside = {name for name in FILES if "/" in name}
    assert inside == {
        "clef/models/face_and_scene.py", "configs/backbones/face_and_scene.yaml",
        "clef/methods/smoothed.py", "configs/methods/smoothed.yaml",
        "clef/methods/two_experts.py", "configs/methods/two_experts.yaml",
    }  # fmt: skip
    for name in inside:
        (tmp_path / name).write_text(FILES[name])
    settings = "\n\n".join(re.findall(r"```python\n(class \w+Config.*?)```", PAGE, re.DOTALL))
    for name, table, before in (("backbones", "BACKBONES", ""), ("methods", "METHODS", settings + "\n\n")):
        package = "models" if name == "backbones" else name
        lines = re.findall(rf"```python\n( +.*clef\.{package}\..*\n)```", PAGE)
        head = f"{table} = {{\n"
        insert(tmp_path / f"clef/config/{name}.py", head, before + head + "".join(lines))
    [metric] = re.findall(r"```python\n(Metric\(.*\))\n```", PAGE)
    head = "    for metric in (\n"
    insert(tmp_path / "clef/metrics.py", head, f"{head}{metric},\n")
    insert(
        tmp_path / "shards/caer_s_demo.yaml", "name: caer_s_demo\n", "name: caer_s_demo\nmetric: balanced accuracy\n"
    )
    return tmp_path


def insert(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, path
    path.write_text(text.replace(old, new))


@pytest.mark.slow
def test_what_is_added_inside_the_package_takes_no_other_file(extended: Path, shards: Path) -> None:
    settings = ["epochs=1", "runtime.num_workers=0", f"runtime.shards={shards}", "backbone.width=0.0625"]
    settings += ["inputs.face.size=[24, 24]", "inputs.scene.size=[24, 24]"]
    names = ["dataset=caer_s_demo", "backbone=face_and_scene", "method=smoothed"]
    run(extended, "-m", "clef.train", *names, *settings)
    [result] = extended.glob("runs/single/caer_s_demo-face_and_scene-smoothed-s0-*/result.json")
    log = (result.parent / "log.jsonl").read_text().splitlines()
    assert set(json.loads(log[0])["losses"]) == {"categories", "penalty"}
    scores = json.loads(result.read_text())
    assert (scores["metric"], scores["splits"]["test"]["chance"]) == ("balanced accuracy", pytest.approx(100 / 7))
    branch = [
        "method.context_branch.network=resnet18",
        "method.context_branch.width=0.0625",
        "inputs.context.size=[24, 24]",
    ]
    names[-1] = "method=two_experts"
    run(extended, "-m", "clef.train", *names, *settings, *branch, "method.context_branch.weights=none")
    [result] = extended.glob("runs/single/caer_s_demo-face_and_scene-two_experts-s0-*/result.json")
    assert set(json.loads(result.read_text())["splits"]["test"]["variants"]) == {"Y_e", "Y_c", "factual"}
    code = "from clef.results.published import system_title as t; print(t('face_and_scene', 'smoothed'))"
    assert run(extended, "-c", code) == "Face and scene + smoothed\n"
    code = "from clef.config.resolve import resolve; "
    code += "resolve({'dataset': 'emotic', 'backbone': 'face_and_scene', 'method': 'smoothed', 'inputs': {'body': {}}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=extended, capture_output=True, text=True, timeout=60)
    assert "inputs.body: unknown; valid: face, scene" in done.stderr
