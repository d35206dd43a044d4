"""The launcher where the package is installed, as a wheel lays it out: without a checkout around it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch import tiny_grid

pytestmark = pytest.mark.slow

ROOT = tiny_grid.ROOT
HIDDEN = shutil.ignore_patterns("__pycache__", ".*")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `site-packages` with what pyproject.toml puts into the wheel."""
    tomllib = pytest.importorskip("tomllib", reason="in Python from 3.11 on")
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    folder = tmp_path_factory.mktemp("installed") / "site-packages"
    for package in wheel["packages"]:
        shutil.copytree(ROOT / package, folder / package, ignore=HIDDEN)
    for source, target in wheel["force-include"].items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
        copy(ROOT / source, folder / target)
    return folder


def python(installed: Path, cwd: Path, *arguments: object) -> str:
    """What Python prints in a folder far from any checkout."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


PLAN = ("--dry-run", "--profile", "generic", "--sbatch", "account=lab")


def test_shipped_grids_and_profiles_are_found(installed: Path, tmp_path: Path) -> None:
    assert "grid paper: 150 cells" in python(installed, tmp_path, "-m", "launch.grid", *PLAN)
    for name in ("demo", "configs/grids/demo.yaml"):
        said = python(installed, tmp_path, "-m", "launch.grid", *PLAN, "--grid", name)
        assert "grid demo: 30 cells" in said
        assert "a job makes them from" in said
    assert list(tmp_path.iterdir()) == []


SNAPSHOT = """
from pathlib import Path
import clef, launch
from launch import code_snapshot
print(clef.__file__)
print(launch.__file__)
print(code_snapshot.take_snapshot(Path("grid"), []))
"""


def test_jobs_run_from_a_snapshot_of_what_is_installed(installed: Path, tmp_path: Path) -> None:
    *packages, code = python(installed, tmp_path, "-c", SNAPSHOT).splitlines()
    assert packages == [f"{installed}/clef/__init__.py", f"{installed}/launch/__init__.py"]
    assert sorted(path.name for path in Path(code).iterdir()) == ["clef", "code.json", "launch"]
    *packages, again = python(Path(code), tmp_path, "-c", SNAPSHOT).splitlines()
    assert packages == [f"{code}/clef/__init__.py", f"{code}/launch/__init__.py"]
    assert again == code, "a launcher in a snapshot makes the same one"
    said = python(installed, tmp_path, Path(code) / "launch/grid.py", *PLAN, "--grid", "demo")
    assert "grid demo: 30 cells" in said
