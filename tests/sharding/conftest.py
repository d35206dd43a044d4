"""The small set (tests/sharding/small_set.py), drawn and sharded once for each file that asks."""

from pathlib import Path

import pytest

from clef.sharding import build
from tests.sharding import small_set


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_set.draw(tmp_path_factory.mktemp("small") / "source")


@pytest.fixture(scope="session")
def small_shards(small_source: Path) -> Path:
    """The shards of the small set, made in one process: not to be written to."""
    out = small_source.with_name("shards") / "small"
    build.build(small_set.card(), small_source, out)
    return out
