"""The little set (tests/sharding/little.py), drawn and sharded once for each file that asks."""

from pathlib import Path

import pytest

from clef.sharding import build
from tests.sharding import little


@pytest.fixture(scope="session")
def little_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return little.draw(tmp_path_factory.mktemp("little") / "source")


@pytest.fixture(scope="session")
def little_set(little_source: Path) -> Path:
    """The shards of the little set, made in one process: not to be written to."""
    out = little_source.with_name("shards") / "little"
    build.build(little.card(), little_source, out)
    return out
