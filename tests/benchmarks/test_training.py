"""`python -m benchmarks.__main__ train` from end to end. No duration is judged."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.test_commands import bench


def test_train_measures_both_loops_in_turns(tmp_path: Path) -> None:
    said = bench("train", "--pairs", 2, "--steps", 3, "--json", tmp_path / "train.json", cwd=tmp_path)
    found = json.loads((tmp_path / "train.json").read_text())
    loops = found["microseconds_a_step"]
    assert loops["bare"]["median"] > 0
    assert len(loops["overhead"]["rounds"]) == 2
    assert loops["overhead"]["median"] == pytest.approx(sum(loops["overhead"]["rounds"]) / 2)
    assert found["met"] == (loops["overhead"]["median"] <= found["bar"])
    assert "ours − bare" in said
    assert not (tmp_path / "runs").exists()
