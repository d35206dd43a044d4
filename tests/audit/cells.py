"""Tiny trained cells, trained once for all tests that look at them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clef import cell
from clef.overrides import merge
from tests.conftest import TINY, TINY_METHOD
from tests.engine.trained_cell import train

Cells = Callable[..., Path]
BACKBONES = TINY | {"agents": merge(TINY["emoticon"], {"backbone": {"third": "agents"}})}
"""And EmotiCon with the graph of agents in place of the depth map."""
del BACKBONES["agents"]["inputs"]["depth"]


@pytest.fixture(scope="session")
def cells(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """`cells("caer_s_demo", "emot_net", "clef")`: the folder of that cell, below runs/single."""
    home = tmp_path_factory.mktemp("audited")
    made: dict[tuple[str, ...], Path] = {}

    def trained(*names: str) -> Path:
        if names not in made:
            dataset, backbone, method = names
            places = {"shards": str(shards), "out": str(home / "runs"), "features": str(home / "cache"), "workers": 0}
            base = {"dataset": dataset, "epochs": 2, "batch_size": 16, "runtime": places, "optimizer": {"lr": 0.05}}
            made[names] = train(cell.resolve(merge(base, BACKBONES[backbone], TINY_METHOD[method])))
        return made[names]

    return trained
