"""`python -m clef.report`, as a real process."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.results.factories import Grid, result

pytestmark = pytest.mark.slow


def report(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clef.report", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small(grid: Grid) -> Grid:
    for method in ("vanilla", "clef"):
        grid.add("emotic", "emot_net", method, 0, result(27.0 + (method == "clef")))
    grid.plan()
    return grid


def test_all_grids_and_the_same_tables_without_the_cells(small: Grid, tmp_path: Path) -> None:
    done = report(tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert "EMOTIC: mAP, percent" in done.stdout
    assert "next to published systems" not in done.stdout
    folder = tmp_path / "results" / "g"
    before = contents(folder)
    small.out.rename(tmp_path / "elsewhere")
    for name in ("tables.md", "tables.csv", "tables.tex", "report.html"):
        (folder / name).unlink()
    done = report(tmp_path, "g", "--from-rows", "--all")
    assert done.returncode == 0
    assert "EMOTIC: mAP next to published systems, percent" in done.stdout
    assert contents(folder) == before
    assert "SIB-Net" in before["tables.md"].decode()


def test_a_grid_that_was_renamed_keeps_its_results_apart(small: Grid, tmp_path: Path) -> None:
    (small.out / "g").rename(small.out / "g_old")
    new = Grid(small.out)
    new.add("emotic", "emot_net", "vanilla", 0, result(33.0))
    new.plan()
    assert report(tmp_path).returncode == 0
    for name, value in (("g", "33.00"), ("g_old", "27.00")):
        folder = tmp_path / "results" / name
        assert {path.name for path in folder.iterdir()} >= {"rows.csv", "tables.md", "report.html"}
        for file in ("tables.md", "report.html"):
            assert value in (folder / file).read_text("utf-8")
        assert f"# Results of the grid `{name}`" in (folder / "tables.md").read_text("utf-8")


def test_a_grid_that_cannot_be_built_stops_no_other(small: Grid, tmp_path: Path) -> None:
    shutil.copytree(small.out / "g", small.out / "a")
    for path in (small.out / "a").glob("*/result.json"):
        path.unlink()
    plan = (small.out / "a" / "plan.json").read_text()
    (small.out / "a" / "plan.json").write_text(plan.replace('"dataset": "emotic"', '"dataset": "moved"'))
    (small.out / "b").mkdir()
    (small.out / "b" / "plan.json").write_text("{")
    done = report(tmp_path)
    assert done.returncode == 6, "the worst of 2 and 6"
    assert "error: a: dataset 'moved': unknown" in done.stderr
    assert "\nb: runs/b/plan.json: not a plan" in done.stderr
    assert (tmp_path / "results" / "g" / "report.html").exists()


def test_what_can_go_wrong_is_said(tmp_path: Path) -> None:
    nothing = report(tmp_path)
    assert (nothing.returncode, nothing.stderr) == (
        6,
        "error: runs: no grid has a plan here; run one first (launch/grid.py), or add --runs FOLDER\n",
    )
    unknown = report(tmp_path, "paper")
    assert (unknown.returncode, "runs/paper/plan.json: no plan here" in unknown.stderr) == (6, True)
    rows = report(tmp_path, "paper", "--from-rows")
    assert (rows.returncode, "results/paper/cells.json: no such file; gather the grid first" in rows.stderr) == (
        6,
        True,
    )
    assert report(tmp_path, "--from-rows").returncode == 2


def test_two_grids_are_set_side_by_side(small: Grid, tmp_path: Path) -> None:
    assert report(tmp_path, "g").returncode == 0
    done = report(tmp_path, "--compare", "g", "g")
    assert done.returncode == 0
    assert "+0.00" in done.stdout
    assert "# Results of the grid `g` next to `g`" in (tmp_path / "results" / "g" / "beside-g.md").read_text()
    other = report(tmp_path, "--compare", "g", "other")
    assert (other.returncode, "results/other/cells.json: no such file" in other.stderr) == (6, True)
    assert report(tmp_path, "g", "--compare", "g", "g").returncode == 2
    assert report(tmp_path, "g", "--from-rows", "--no-images").returncode == 0
