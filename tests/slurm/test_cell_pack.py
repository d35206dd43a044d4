"""Cells that share a task of a real Slurm, whose step is killed, or which is queued again: each is trained once."""

import random
import time
from pathlib import Path

import pytest

from clef import io
from clef.cells import attempts, records
from tests.launch import tiny_grid
from tests.slurm.cluster import Slurm
from tests.soak import cases

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(3600)]
CELLS = 5


@pytest.mark.parametrize("seed", cases(sample=2, full=20))
def test_what_ends_a_step_costs_the_running_cell_and_nothing_else(
    slurm: Slurm, shards: Path, tmp_path: Path, seed: int
) -> None:
    draw, name = random.Random(seed), f"pack{seed}"
    grid = tiny_grid.write(
        tmp_path / f"{name}.yaml",
        {"set": {"resources.cells_per_task": CELLS, "runtime": {"checkpoints": False, "predictions": "none"}}},
        datasets=["caer_s_demo"], backbones=["caer_net"], methods=["vanilla"], seeds=list(range(CELLS)),
    )  # fmt: skip

    def submit() -> None:
        done = tiny_grid.launch(grid, shards, tmp_path, "--partition", "gpu", "--yes", environment=slurm.environment)
        assert done.returncode == 0, done.stderr

    submit()
    cells = [next((tmp_path / "runs" / name).glob(f"*-s{number}-*")) for number in range(CELLS)]
    gather = max(slurm.jobs(f"clef-{name}"), key=lambda label: int(label.partition("_")[0]))
    [job] = set(slurm.jobs(f"clef-{name}")) - {gather}
    at = draw.randrange(CELLS)  # ended somewhere in this cell, or soon after
    slurm.wait(lambda: records.state_of(cells[at]) != "new", f"{cells[at].name} begins")
    time.sleep(draw.uniform(0, 0.5))
    is_killed = draw.random() < 0.5
    slurm.run(*(["scancel", "--signal=KILL", f"{job}.0"] if is_killed else ["scontrol", "requeue", job]))
    if is_killed:
        slurm.ended(f"clef-{name}")
        found = [records.state_of(cell) for cell in cells]
        done = found.count("done")
        assert found[:done] == ["done"] * done
        assert set(found[done : done + 1]) <= {"died", "new"}, found
        assert set(found[done + 1 :]) <= {"new"}, found
    kept = {cell: io.sha256(cell / records.RESULT) for cell in cells if (cell / records.RESULT).exists()}
    assert cells[:at] == list(kept)[:at]
    if is_killed and len(kept) < CELLS:
        submit()
    ends = slurm.ended(f"clef-{name}")
    assert [records.state_of(cell) for cell in cells] == ["done"] * CELLS, ends
    assert {cell: io.sha256(cell / records.RESULT) for cell in kept} == kept, "what was done is not trained again"
    counts = [len(attempts.read(cell)) for cell in cells]
    assert sum(counts) <= CELLS + 1, counts
    assert all(len(list(cell.iterdir())) <= 4 for cell in cells)
