"""A small grid on Slurm that is disturbed again and again ends as one that was left in peace: to the bit.

A case is a seed. It chooses which cell is struck by what, and in which step, and which launcher is killed right behind
its sbatch. Each case has one disturbance of each of the seven kinds.
"""

import csv
from pathlib import Path

import numpy as np
import pytest

from clef.cells.identity import write_config
from clef.cells.plan_file import write_plan
from clef.config import grid as grids
from clef.engine.run import run_cell
from clef.results.gather import gather_grid
from clef.yaml_config import merge, parse
from launch import ledger, plan
from launch.ledger import Submission
from tests.slurm.cluster import Slurm
from tests.soak import cases
from tests.soak.disturbed_grid import GRID_NAME, SETTINGS, STEPS, Cell, Disturbed, write_grid

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(1800)]
NOTHING = "nothing to train: 4 cells are done, 0 are queued or running"


@pytest.fixture(scope="module")
def peace(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the same grid was trained undisturbed, in this process."""
    base = tmp_path_factory.mktemp("peace")
    file, places = write_grid(base), {"runtime": {"shards": str(shards), "output_dir": str(base / "runs")}}
    cells = plan.make_plan(
        GRID_NAME, grids.resolve_cells(grids.load_grid(file), str(file), merge(parse(SETTINGS), places))
    ).cells
    for cell in cells:
        assert cell.folder is not None
        write_config(cell.folder, cell.config)
        assert run_cell(cell.folder)["steps"] == STEPS
    gather_grid(write_plan(base / "runs", GRID_NAME, [cell.as_run() for cell in cells]), base / "results")
    return base


@pytest.mark.parametrize("seed", cases(sample=1, full=5))
def test_disturbed_and_left_in_peace_end_alike(
    slurm: Slurm, shards: Path, peace: Path, tmp_path: Path, seed: int
) -> None:
    disturbed = Disturbed(slurm, shards, tmp_path, seed)
    disturbed.run()
    assert NOTHING in disturbed.launch()
    assert not disturbed.busy()
    assert all(made.job and not made.dropped for made in ledger.read_submissions(disturbed.runs))
    assert len(disturbed.results) == 4
    for cell, result in disturbed.results.items():
        assert cell.result == result, "its result was written again"
        assert times_tested(cell) == 1
        assert_same_training(cell, Cell(peace / "runs" / GRID_NAME / cell.folder.name))
    assert tables(tmp_path) == tables(peace)


def tables(base: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The tables, and all numbers in long form, but for which code they are of: it may be edited meanwhile."""
    folder = base / "results" / GRID_NAME
    with (folder / "rows.csv").open() as file:
        rows = [{key: row[key] for key in row if key not in ("commit", "dirty")} for row in csv.DictReader(file)]
    lines = (folder / "tables.md").read_text().splitlines()
    return [line for line in lines if "some code was edited" not in line], rows


def times_tested(cell: Cell) -> int:
    """How often a process has come to the end of its training, as far as to score the test split."""
    entries = [made for made in ledger.read_submissions(cell.folder.parent) if cell.folder.name in made.cells]
    return sum(text.count("test: accuracy") for made in entries for text in said(cell, made))


def said(cell: Cell, made: Submission) -> list[str]:
    """What a submission's job for a cell has said, all its attempts together."""
    job = made.jobs()[cell.folder.name]
    return [path.read_text() for path in ledger.job_folder(cell.folder.parent, made).glob(f"{job}_0_log.*")]


def assert_same_training(one: Cell, other: Cell) -> None:
    """Bit for bit: losses, weights and predictions."""
    assert [step for step, _ in one.losses] == list(range(1, STEPS + 1))
    assert one.losses == other.losses
    best = [cell.folder / "checkpoints/best.safetensors" for cell in (one, other)]
    assert best[0].read_bytes() == best[1].read_bytes()
    for name in ("predictions-test.npz", "predictions-test_shift.npz"):
        ours, theirs = (dict(np.load(cell.folder / name)) for cell in (one, other))
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
