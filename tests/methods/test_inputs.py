"""Methods that change what the backbone sees: the context gone, or another's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from clef import methods
from clef.config import CONTEXT, CellConfig, resolve
from clef.data.dataset import CellDataset
from clef.data.interventions import blank
from clef.data.loader import BatchLoader, to_device
from clef.data.shards import SplitShards
from clef.errors import ConfigError
from clef.methods.inputs import ContextSwap

Make = Callable[..., CellConfig]


def built(config: CellConfig) -> methods.Method:
    torch.manual_seed(0)
    return methods.build(config, [1] * len(config.card.classes), 7, lambda load: pytest.fail("a dictionary"))


def eight(config: CellConfig) -> dict[str, Any]:
    dataset = CellDataset(SplitShards(config.shards, "train"), config.inputs.present, seed=0, augment=False)
    [batch] = BatchLoader(dataset, [[(0, index) for index in range(0, 80, 10)]], workers=0)
    return to_device(batch, config.inputs.present, torch.device("cpu"))


@pytest.mark.parametrize("backbone", ["emot_net", "gnn_cnn", "emoticon", "encoders"])
def test_the_subject_alone_is_the_audits_subject_alone(tiny: Make, backbone: str) -> None:
    alone = built(tiny(backbone=backbone, method="subject_only")).eval()
    vanilla = built(tiny(backbone=backbone, method="vanilla")).eval()
    batch = eight(tiny(backbone=backbone, method="vanilla"))
    found = alone(batch).scores
    assert torch.equal(found, vanilla(blank(batch, CONTEXT)).scores)
    assert not torch.allclose(found, vanilla(batch).scores, atol=1e-4)
    other = {**batch, **{name: torch.flip(batch[name], [0]) for name in CONTEXT if name in batch}}
    assert torch.equal(alone(other).scores, found), "no context reaches the scores"


def test_contexts_are_swapped_in_training_alone_and_not_at_all_with_p_0(tiny: Make) -> None:
    config = tiny(backbone="emot_net", method="context_swap", **{"method.probability": 1.0})
    method, batch = built(config), eight(config)
    assert isinstance(method, ContextSwap)
    assert method.eval().intervene(batch) is batch
    method.train()
    torch.manual_seed(3)
    seen = method.intervene(batch)
    assert torch.equal(seen["body"], batch["body"])
    assert not torch.equal(seen["scene"], batch["scene"])
    rows = {tuple(row.flatten().tolist()) for row in batch["scene"]}
    assert {tuple(row.flatten().tolist()) for row in seen["scene"]} == rows, "each context goes to one person"
    method.probability = 0.0
    state = torch.get_rng_state()
    assert method.intervene(batch) is batch
    assert torch.equal(torch.get_rng_state(), state), "dropout draws what it draws in vanilla"


@pytest.mark.parametrize("p", [0.25, 0.75])
def test_so_many_lose_their_context_as_asked_for(tiny: Make, p: float) -> None:
    method = built(tiny(backbone="emot_net", method="context_swap", **{"method.probability": p, "method.mode": "drop"}))
    people = 4000
    batch = {"target": torch.zeros(people), "scene": torch.ones(people, 1), "valid": {"scene": torch.ones(people) > 0}}
    torch.manual_seed(0)
    seen = method.train().intervene(batch)
    assert torch.equal(seen["scene"][:, 0] > 0, seen["valid"]["scene"])
    assert 1 - seen["scene"].mean().item() == pytest.approx(p, abs=0.03)  # four deviations


@pytest.mark.parametrize("method", ["subject_only", "context_swap"])
def test_a_backbone_needs_inputs_of_both(method: str) -> None:
    streams = {"body": None, "face": None, "scene": None, "context": {"network": "resnet18", "weights": "none"}}
    backbone = {"name": "encoders", "encoders": streams}
    with pytest.raises(ConfigError, match="encoders reads no input of the subject alone"):
        resolve.resolve({"dataset": "emotic_demo", "backbone": backbone, "method": method})
