"""A cell whose encoders a library builds, from its settings to its result."""

from collections.abc import Callable
from typing import Any

import pytest
from safetensors.torch import load_file

from clef.cells import records
from clef.config import CellConfig, resolve
from tests.engine.factories import train_cell

SMALL = {"size": [32, 32], "flip": False}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["clef", "ccim"])
def test_a_cell_of_named_encoders_trains_and_keeps_none_of_the_frozen_ones(
    tiny: Callable[..., CellConfig], method: str
) -> None:
    frozen = {"network": "timm:test_resnet", "width": 1.0, "weights": "none", "trainable": False}
    named = {key: frozen[key] for key in ("network", "width", "weights")}
    settings: dict[str, Any] = {
        "backbone.encoders": {"body": frozen, "context": frozen | {"trainable": True, "lr_multiplier": 0.1}},
        "inputs": {"body": SMALL, "context": SMALL},
        "backbone.fusion.name": "gated",
    }
    if method == "clef":
        settings["method.context_branch"] = named | {"trainable": False}
    else:
        settings["method.dictionary"] = named | {"input": {"size": [32, 32]}}
    folder = train_cell(tiny(backbone="encoders", method=method, **settings))
    result = records.read_json(folder / "result.json")
    assert set(result["splits"]) == {"test", "test_shift"}
    config = resolve.from_yaml(folder / "config.yaml")
    assert config.backbone.streams["body"].dim == 96
    assert config.inputs.body.mean == (0.5, 0.5, 0.5), "timm's, not the recipe's"
    assert config.inputs.body.interpolation == "bilinear"
    state = load_file(folder / "checkpoints/best.safetensors")
    assert any(key.startswith("backbone.encoders.context.") for key in state), "the trainable one"
    assert not [key for key in state if key.startswith(("backbone.encoders.body", "context_branch.encoder"))]
    role = "context_branch" if method == "clef" else "dictionary"
    assert result["random_init"] == sorted(["body", "context", role])
