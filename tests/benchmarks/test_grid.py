"""The benchmark of large grids, on a small one, in this process. No duration is judged."""

from pathlib import Path

import pytest

from benchmarks import grid as bench
from launch import plan_table, slurm_answer, status_view


def test_it_plans_a_grid_and_shows_its_status_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_table, "out", plan_table.out)  # both are replaced while it measures
    monkeypatch.setattr(slurm_answer, "QUERY_INTERVAL_S", slurm_answer.QUERY_INTERVAL_S)
    grid = bench._write_manifests(tmp_path, 100)
    planned = bench._plan(tmp_path, grid)
    assert planned["planned and shown"] == pytest.approx(sum(v for k, v in planned.items() if k != "planned and shown"))
    shown = bench._status(tmp_path, grid)
    assert set(shown) == {"cells, jobs and details", "table", "status"}
    counts = status_view.make_listing(
        tmp_path / "runs" / bench.NAME / "plan.json", status_view.ViewOptions(None, False, 15.0)
    ).status.counts
    assert counts == {"done": 72, "running": 2, "queued": 44, "failed": 2}
