"""The methods without a counterfactual: the backbone alone, and the context alone."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from clef import methods
from clef.config import CellConfig
from clef.errors import ConfigError
from clef.methods.baselines import ContextOnly, Vanilla
from tests.methods.fakes import FixedBackbone, FixedBranch, parts


def test_vanilla_scores_are_logits_and_the_loss_is_the_recipes() -> None:
    y_e = torch.randn(5, 4)
    method = Vanilla(parts(FixedBackbone(y_e), {"name": "vanilla"}, False, [1] * 4, **{"loss.categories_weight": 0.5}))
    prediction = method({"target": torch.eye(5, 4)})
    assert torch.equal(prediction.scores, y_e)
    expected = nn.functional.binary_cross_entropy_with_logits(y_e, torch.eye(5, 4)).item() * 4 * 0.5
    assert prediction.losses["categories"].item() == pytest.approx(expected, rel=1e-6)


def test_linear_output_is_for_weighted_l2_alone() -> None:
    y_e = torch.full((2, 1), 0.25)
    settings = {"method.output": "linear", "loss.categories": "weighted_l2"}
    method = Vanilla(parts(FixedBackbone(y_e), {"name": "vanilla"}, False, [1], **settings))
    loss = method({"target": torch.ones(2, 1)}).losses["categories"].item()
    assert loss == pytest.approx(0.75**2 / 1.163151, rel=1e-5)  # n = 2: 1 / ln 3.2
    with pytest.raises(ConfigError, match=r"linear needs loss\.categories"):
        parts(FixedBackbone(y_e), {"name": "vanilla"}, False, [1], **{"method.output": "linear"})


def test_the_context_alone_scores_its_own_logits_without_any_backbone() -> None:
    y_c = torch.randn(5, 4)

    def no_backbone(*_: object) -> None:
        raise AssertionError("a backbone was built that nothing reads")

    made = parts(None, {"name": "context_only"}, True, [1] * 4, **{"method.context_branch.lr_multiplier": 0.5})
    object.__setattr__(made, "make_backbone", no_backbone)
    method = ContextOnly(made)
    method.context_branch = FixedBranch(y_c)
    prediction = method({"target": torch.tensor([0, 1, 2, 3, 0])})
    assert torch.equal(prediction.scores, y_c)
    assert set(prediction.effects) == {"Y_c"}
    assert [group["lr_multiplier"] for group in method.parameter_groups(0.0)] == [0.5]


def test_new_layers_may_learn_at_another_rate_than_the_encoders(tiny: Callable[..., CellConfig]) -> None:
    config = tiny(backbone="cd_net", method="vanilla", **{"optimizer.head_lr_multiplier": 10})
    method = methods.build(config, [1] * 7, 7, lambda load: pytest.fail("a dictionary"))
    rate = {id(p): group["lr_multiplier"] for group in method.parameter_groups(0.0) for p in group["params"]}
    names = dict(method.named_parameters())
    assert len(rate) == len(names)
    encoders = {name for name, p in names.items() if rate[id(p)] == 1}
    assert {name.split(".")[1] for name in encoders} == {"face", "body", "context"}
    assert {rate[id(p)] for name, p in names.items() if name not in encoders} == {10}
