"""A grid's folder for each test."""

from pathlib import Path

import pytest

from tests.results.factories import Grid


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path / "runs")
