"""CLEF against a slow float64 reference written from the paper's equations, and by hand where hands suffice."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clef.config import ClefConfig, ContextBranchConfig, LossConfig
from clef.methods.clef import Clef, tie
from clef.methods.vanilla import Vanilla
from clef.models import Backbone, BackboneOutput


class Fixed(nn.Module):
    """A stand-in for a network: it returns what it is given."""

    def __init__(self, logits: Tensor, vad: Tensor | None = None) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())
        self.vad = None if vad is None else nn.Parameter(vad.clone())


class FixedBackbone(Fixed):
    def forward(self, batch: dict[str, Any]) -> BackboneOutput:
        return BackboneOutput(self.logits, self.vad)


class FixedBranch(Fixed):
    def forward(self, images: Tensor) -> Tensor:
        return self.logits


def case(seed: int, classes: int = 4, batch: int = 5) -> tuple[Tensor, Tensor, float]:
    generator = torch.Generator().manual_seed(seed)
    y_c, y_e = (torch.randn(batch, classes, generator=generator) * 2 for _ in range(2))
    return y_c, y_e, float(torch.randn((), generator=generator))


def clef(y_c: Tensor, y_e: Tensor, star: float, loss: LossConfig, vad: Tensor | None = None) -> Clef:
    config = ClefConfig(context_branch=ContextBranchConfig(network="resnet18", width=0.0625, weights="none"))
    backbone: Backbone = FixedBackbone(y_e, vad)  # type: ignore[assignment]
    method = Clef(config, backbone, loss, y_c.shape[1], lambda encoder, network: None)
    method.context_branch = FixedBranch(y_c)  # type: ignore[assignment]
    method.counterfactual.data.fill_(star)
    return method


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > -700 else x


def reference(y_c: Tensor, y_e: Tensor, star: float, target: Tensor, single: bool) -> tuple[dict[str, float], list]:
    """Equations 8 to 15, number by number in float64, with the documented readings for several labels."""
    batch, classes = y_c.shape
    factual, counter, kl, scores = 0.0, 0.0, 0.0, []
    for b in range(batch):
        z = [float(y_c[b, k]) + float(y_e[b, k]) for k in range(classes)]
        z_star = [float(y_c[b, k]) + star for k in range(classes)]
        phi, phi_star = [log_sigmoid(v) for v in z], [log_sigmoid(v) for v in z_star]
        scores.append([a - b_ for a, b_ in zip(phi, phi_star, strict=True)])
        if single:
            p, q = softmax(phi), softmax(phi_star)
            factual -= math.log(p[int(target[b])])
            counter -= math.log(q[int(target[b])])
            kl += sum(a * math.log(a / c) for a, c in zip(p, q, strict=True))
        else:
            for k in range(classes):
                p_k, q_k, y = math.exp(phi[k]), math.exp(phi_star[k]), float(target[b, k])
                factual -= y * math.log(p_k) + (1 - y) * math.log(1 - p_k)
                counter -= y * math.log(q_k) + (1 - y) * math.log(1 - q_k)
                kl += p_k * math.log(p_k / q_k) + (1 - p_k) * math.log((1 - p_k) / (1 - q_k))
    terms = {"factual": factual / batch, "counterfactual": counter / batch, "kl": kl / batch}
    return terms, scores


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


SINGLE, MULTI = LossConfig(categories="cross_entropy"), LossConfig(categories="bce")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("single", [True, False])
def test_losses_and_scores_equal_the_equations(seed: int, single: bool) -> None:
    y_c, y_e, star = case(seed)
    generator = torch.Generator().manual_seed(seed + 100)
    target = torch.randint(4, (5,), generator=generator) if single else torch.rand(5, 4, generator=generator).round()
    prediction = clef(y_c, y_e, star, SINGLE if single else MULTI)({"context": y_c, "target": target})
    terms, scores = reference(y_c, y_e, star, target, single)
    assert {name: value.item() for name, value in prediction.losses.items()} == pytest.approx(terms, rel=1e-5)
    torch.testing.assert_close(prediction.scores, torch.tensor(scores, dtype=torch.float32), atol=2e-6, rtol=1e-5)


def test_tie_by_hand() -> None:
    # sigmoid(ln 3) = 3/4 and sigmoid(0) = 1/2: log(3/4) - log(1/2) = log(3/2)
    y_c, y_e, star = torch.tensor([[1.0]]), torch.tensor([[math.log(3) - 1]]), torch.tensor(-1.0)
    assert tie(y_c, y_e, star).item() == pytest.approx(math.log(1.5), rel=1e-6)


def test_the_limits_of_tie() -> None:
    y_e, star = torch.tensor([[2.0, -3.0]]), torch.tensor(0.5)
    low, high = torch.full((1, 2), -60.0), torch.full((1, 2), 60.0)
    torch.testing.assert_close(tie(low, y_e, star), y_e - star, atol=1e-5, rtol=0)
    torch.testing.assert_close(tie(high, y_e, star), torch.zeros(1, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_tie_has_the_sign_of_what_the_subject_adds(seed: int) -> None:
    y_c, y_e, star = case(seed)
    assert torch.equal(tie(y_c, y_e, torch.tensor(star)).sign(), (y_e - star).sign())


def test_multi_label_probabilities_are_not_capped() -> None:
    # log sigmoid(z) fed as a logit would cap p at one half: a sure, right prediction would still cost log 2 a class.
    sure = torch.full((2, 3), 20.0)
    prediction = clef(sure, sure, 0.0, MULTI)({"context": sure, "target": torch.ones(2, 3)})
    assert prediction.losses["factual"].item() < 1e-6


def gradients(method: nn.Module, loss: Tensor) -> set[str]:
    method.zero_grad()
    loss.backward(retain_graph=True)
    return {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


@pytest.mark.parametrize("single", [True, False])
def test_gradients_reach_exactly_what_they_should(single: bool) -> None:
    y_c, y_e, star = case(0)
    target = torch.tensor([0, 1, 2, 3, 0]) if single else torch.eye(5, 4)
    method = clef(y_c, y_e, star, SINGLE if single else MULTI)
    terms = method({"context": y_c, "target": target}).losses
    branch, backbone, counterfactual = "context_branch.logits", "backbone.logits", "counterfactual"
    assert gradients(method, terms["factual"]) == {branch, backbone}
    assert gradients(method, terms["counterfactual"]) == {branch, counterfactual}
    assert gradients(method, terms["kl"]) == {counterfactual}


def test_vad_belongs_to_the_backbone_and_comes_once() -> None:
    y_c, y_e, star = case(1)
    vad = torch.full((5, 3), 5.0)
    loss = LossConfig(categories="weighted_l2", categories_weight=0.5, vad_weight=0.5)
    batch = {"context": y_c, "target": torch.eye(5, 4), "vad": torch.full((5, 3), 7.0)}
    terms = clef(y_c, y_e, star, loss, vad)(batch).losses
    assert terms["vad"].item() == pytest.approx(0.5 * 3 * 1.5)
    assert set(terms) == {"factual", "counterfactual", "kl", "vad"}


def test_y_star_is_one_number_without_weight_decay_at_the_base_rate() -> None:
    y_c, y_e, _ = case(2)
    method = clef(y_c, y_e, 0.0, SINGLE)
    groups = method.parameter_groups(weight_decay=0.1)
    star = next(group for group in groups if method.counterfactual is group["params"][0])
    assert method.counterfactual.shape == ()
    assert (star["weight_decay"], star["lr_multiplier"]) == (0.0, 1.0)
    assert sum(len(group["params"]) for group in groups) == len(list(method.parameters()))


def test_everything_is_float32_under_bf16_autocast() -> None:
    # Scores rounded to bfloat16 would tie, and ties corrupt average precision.
    y_c, y_e, star = case(3)
    method = clef(y_c, y_e, star, SINGLE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = method({"context": y_c, "target": torch.zeros(5, dtype=torch.long)})
    assert prediction.scores.dtype == torch.float32
    torch.testing.assert_close(prediction.scores, tie(y_c, y_e, torch.tensor(star)), atol=1e-6, rtol=0)


def test_vanilla_scores_are_logits_and_the_loss_is_the_recipes() -> None:
    _, y_e, _ = case(4)
    backbone: Backbone = FixedBackbone(y_e)  # type: ignore[assignment]
    prediction = Vanilla(backbone, LossConfig(categories="bce", categories_weight=0.5))({"target": torch.eye(5, 4)})
    assert torch.equal(prediction.scores, y_e)
    expected = nn.functional.binary_cross_entropy_with_logits(y_e, torch.eye(5, 4)).item() * 4 * 0.5
    assert prediction.losses["categories"].item() == pytest.approx(expected, rel=1e-6)
