"""The fixture that the tests of a grid's status share."""

from pathlib import Path

import pytest

from launch import slurm_answer
from tests.launch.status_grid import Slurm


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(slurm_answer, "QUERY_INTERVAL_S", 3600.0)  # however slow the test is, all of it is one moment
    return Slurm(folder)
