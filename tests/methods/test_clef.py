"""CLEF and its switches against a slow float64 reference written from the paper's equations, and by hand."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clef.errors import ConfigError
from clef.methods.clef import Clef, tie
from tests.methods.fakes import FixedBackbone, FixedBranch, parts

CLASSES, BATCH = 4, 5


def case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y_c, y_e = (torch.randn(BATCH, CLASSES, generator=generator) * 2 for _ in range(2))
    return y_c, y_e, torch.randn(CLASSES, generator=generator)


def target_of(seed: int, single: bool) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100)
    if single:
        return torch.randint(CLASSES, (BATCH,), generator=generator)
    return torch.rand(BATCH, CLASSES, generator=generator).round()


def clef(
    y_c: Tensor | None,
    y_e: Tensor,
    star: Tensor | float | None,
    single: bool,
    vad: Tensor | None = None,
    **switches: Any,
) -> Clef:
    settings = {f"method.{key}": value for key, value in switches.items()}
    if vad is not None:
        settings |= {"loss.categories": "weighted_l2", "loss.categories_weight": 0.5, "loss.vad_weight": 0.5}
    name = {"name": "clef"} | ({"context_branch": None} if y_c is None else {})
    method = Clef(parts(FixedBackbone(y_e, vad), name, single, [3, 1, 4, 2], **settings))
    if y_c is not None:
        method.context_branch = FixedBranch(y_c)
    if star is not None:
        method.counterfactual.data = torch.as_tensor(star, dtype=torch.float32).clone()
    return method


# The reference: equations 8 to 15, number by number.


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x > -700 else x


def softmax(values: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def distribution(z: list[float], single_label: str, softly: bool) -> list[float]:
    """What the model believes of each class: a softmax over phi (or z), or a sigmoid each."""
    if not softly:
        return [math.exp(log_sigmoid(v)) for v in z]
    return softmax([log_sigmoid(v) for v in z] if single_label == "log_sigmoid" else z)


def task(p: list[float], target: Tensor, softly: bool) -> float:
    if target.ndim == 0:
        return -math.log(p[int(target)])
    if softly:
        total = max(1.0, float(target.sum()))
        return -sum(float(y) / total * math.log(v) for y, v in zip(target, p, strict=True))
    return -sum(float(y) * math.log(v) + (1 - float(y)) * math.log(1 - v) for y, v in zip(target, p, strict=True))


def divergence(p: list[float], q: list[float], softly: bool) -> float:
    if softly:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return sum(a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b)) for a, b in zip(p, q, strict=True))


def reference(
    y_c: Tensor,
    y_e: Tensor,
    star: Tensor,
    target: Tensor,
    single_label: str,
    softly: bool,
    reverse: bool,
    weight: float,
) -> tuple[dict[str, float], list[list[float]]]:
    terms, scores = dict.fromkeys(("factual", "counterfactual", "kl"), 0.0), []
    for b in range(BATCH):
        z = [float(c) + float(e) for c, e in zip(y_c[b], y_e[b], strict=True)]
        z_star = [float(c) + float(s) for c, s in zip(y_c[b], star, strict=True)]
        scores.append([log_sigmoid(u) - log_sigmoid(v) for u, v in zip(z, z_star, strict=True)])
        p, q = distribution(z, single_label, softly), distribution(z_star, single_label, softly)
        terms["factual"] += task(p, target[b], softly) / BATCH
        terms["counterfactual"] += task(q, target[b], softly) / BATCH
        terms["kl"] += weight * (divergence(q, p, softly) if reverse else divergence(p, q, softly)) / BATCH
    return terms, scores


LABELS = {"single": (True, "sigmoid"), "multi": (False, "sigmoid"), "multi by softmax": (False, "softmax")}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("single_label", ["log_sigmoid", "sum"])
@pytest.mark.parametrize("direction", ["factual_from_counterfactual", "counterfactual_from_factual"])
@pytest.mark.parametrize("shape", ["scalar", "vector"])
def test_losses_and_scores_equal_the_equations(
    seed: int, labels: str, single_label: str, direction: str, shape: str
) -> None:
    single, multi_label = LABELS[labels]
    y_c, y_e, star = case(seed)
    star = star if shape == "vector" else star[0].expand(CLASSES)
    switches = {
        "single_label": single_label,
        "multi_label": multi_label,
        "kl.direction": direction,
        "kl.weight": 0.7,
        "counterfactual.initial": shape,
    }
    method = clef(y_c, y_e, star if shape == "vector" else star[0], single, **switches)
    target = target_of(seed, single)
    prediction = method({"target": target})
    softly, reverse = labels != "multi", direction == "counterfactual_from_factual"
    terms, scores = reference(y_c, y_e, star, target, single_label, softly, reverse, 0.7)
    assert {name: value.item() for name, value in prediction.losses.items()} == pytest.approx(terms, rel=1e-5)
    torch.testing.assert_close(prediction.scores, torch.tensor(scores, dtype=torch.float32), atol=2e-6, rtol=1e-5)


def test_without_the_context_branch_the_score_is_the_total_effect() -> None:
    _, y_e, star = case(0)
    prediction = clef(None, y_e, star[0], True)({"target": target_of(0, True)})
    expected = nn.functional.logsigmoid(y_e) - nn.functional.logsigmoid(star[0])
    torch.testing.assert_close(prediction.scores, expected, atol=1e-6, rtol=1e-5)
    assert set(prediction.effects) == {"Y_e", "Y_e*"}, "no branch, so nothing to show of it"


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
    assert torch.equal(tie(y_c, y_e, star).sign(), (y_e - star).sign())


def test_one_pass_of_each_network_gives_factual_counterfactual_and_tie() -> None:
    y_c, y_e, star = case(0)
    method = clef(y_c, y_e, star[0], True)
    passes = []
    for network in (method.backbone, method.context_branch):
        network.register_forward_hook(lambda *_: passes.append(1))
    effects = method({"target": target_of(0, True)}).effects
    assert len(passes) == 2
    assert set(effects) == {"Y_c", "Y_e", "Y_e*"}


def test_multi_label_probabilities_are_not_capped() -> None:
    # log sigmoid(z) fed as a logit would cap p at one half: a sure, right prediction would still cost log 2 a class.
    sure = torch.full((2, 3), 20.0)
    prediction = clef(sure, sure, 0.0, False)({"target": torch.ones(2, 3)})
    assert prediction.losses["factual"].item() < 1e-6


def gradients(method: nn.Module, loss: Tensor) -> set[str]:
    method.zero_grad()
    if loss.requires_grad:
        loss.backward(retain_graph=True)
    return {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


BRANCH, BACKBONE, STAR = "context_branch.logits", "backbone.logits", "counterfactual"


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("kl", ["counterfactual", "everything"])
@pytest.mark.parametrize("counterfactual", ["both", "context_branch"])
def test_gradients_reach_exactly_what_the_switches_say(single: bool, kl: str, counterfactual: str) -> None:
    y_c, y_e, star = case(0)
    switches = {"kl.trains": kl, "counterfactual_loss_trains": counterfactual}
    method = clef(y_c, y_e, star[0], single, **switches)
    terms = method({"target": target_of(1, single)}).losses
    assert gradients(method, terms["factual"]) == {BRANCH, BACKBONE}
    assert gradients(method, terms["counterfactual"]) == {BRANCH} | ({STAR} if counterfactual == "both" else set())
    assert gradients(method, terms["kl"]) == {STAR} | ({BRANCH, BACKBONE} if kl == "everything" else set())


@pytest.mark.parametrize(
    ("switches", "trained"),
    [
        ({"counterfactual.trainable": False}, {BRANCH, BACKBONE}),
        ({"kl.weight": 0.0}, {BRANCH, BACKBONE, STAR}),
        ({"kl.weight": 0.0, "counterfactual_loss_trains": "context_branch"}, {BRANCH, BACKBONE}),
        ({"start_from": "runs/x-0123456789abcdef", "backbone_trainable": False}, {BRANCH, STAR}),
        ({"start_from": "runs/x-0123456789abcdef"}, {BRANCH, BACKBONE, STAR}),
    ],
)
def test_every_parameter_that_asks_for_gradients_gets_them_and_no_other(switches: dict, trained: set[str]) -> None:
    # DDP waits for every parameter that asks for a gradient.
    y_c, y_e, star = case(2)
    method = clef(y_c, y_e, star[0], True, **switches)
    asking = {name for name, p in method.named_parameters() if p.requires_grad}
    total = torch.stack(list(method({"target": target_of(2, True)}).losses.values())).sum()
    assert asking == gradients(method, total) == trained
    grouped = [p for group in method.parameter_groups(0.1) for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in method.parameters() if p.requires_grad}


def test_a_frozen_backbone_stays_in_evaluation_mode() -> None:
    y_c, y_e, star = case(0)
    start = {"start_from": "runs/x-0123456789abcdef"}
    assert clef(y_c, y_e, star[0], True, **start).train().backbone.training
    assert not clef(y_c, y_e, star[0], True, **start, backbone_trainable=False).train().backbone.training


def test_what_cannot_be_is_refused() -> None:
    y_c, y_e, star = case(0)
    with pytest.raises(ConfigError, match="needs start_from"):
        clef(y_c, y_e, star, True, backbone_trainable=False)
    with pytest.raises(ConfigError, match="needs a context branch"):
        clef(None, y_e, star, True, counterfactual_loss_trains="context_branch")
    nothing = {"start_from": "runs/x-0123456789abcdef", "backbone_trainable": False, "counterfactual.trainable": False}
    with pytest.raises(ConfigError, match="one of them has to be trained"):
        clef(None, y_e, star, True, **nothing)


@pytest.mark.parametrize(("single", "share"), [(True, 5 / 14), (False, 5 / 12)])
def test_the_prior_is_what_train_says_of_each_class(single: bool, share: float) -> None:
    # Class 2 has 4 of 10 samples; Laplace's rule makes that 5 of 10 + 4 classes, or 5 of 10 + 2 outcomes.
    y_c, y_e, _ = case(0)
    method = clef(y_c, y_e, None, single, **{"counterfactual.initial": "prior"})
    assert method.counterfactual.sigmoid()[2].item() == pytest.approx(share)
    if single:  # the softmax of log sigmoid gives the shares back
        shares = nn.functional.logsigmoid(method.counterfactual).softmax(0)
        torch.testing.assert_close(shares, torch.tensor([4, 2, 5, 3]) / 14)
        summed = clef(y_c, y_e, None, True, **{"counterfactual.initial": "prior", "single_label": "sum"})
        torch.testing.assert_close(summed.counterfactual.softmax(0), shares)


def test_where_y_star_starts() -> None:
    y_c, y_e, _ = case(0)
    made = {kind: clef(y_c, y_e, None, True, **{"counterfactual.initial": kind}).counterfactual for kind in
            ("scalar", "vector", "random")}  # fmt: skip
    assert made["scalar"].shape == ()
    assert made["scalar"].item() == 0
    assert made["vector"].tolist() == [0.0] * CLASSES
    assert len(set(made["random"].tolist())) == CLASSES


def test_vad_belongs_to_the_backbone_and_comes_once() -> None:
    y_c, y_e, star = case(1)
    batch = {"target": torch.eye(5, 4), "vad": torch.full((5, 3), 7.0)}
    terms = clef(y_c, y_e, star[0], False, torch.full((5, 3), 5.0))(batch).losses
    assert terms["vad"].item() == pytest.approx(0.5 * 3 * 1.5)
    assert set(terms) == {"factual", "counterfactual", "kl", "vad"}


def test_y_star_is_one_number_without_weight_decay_at_the_base_rate() -> None:
    y_c, y_e, _ = case(2)
    method = clef(y_c, y_e, 0.0, True, **{"context_branch.lr_multiplier": 0.1})
    rates = {id(p): (g["weight_decay"], g["lr_multiplier"]) for g in method.parameter_groups(0.3) for p in g["params"]}
    assert method.counterfactual.shape == ()
    assert rates[id(method.counterfactual)] == (0.0, 1.0)
    assert rates[id(method.context_branch.logits)] == (0.3, 0.1)
    assert rates[id(method.backbone.logits)] == (0.3, 1.0)


def test_everything_is_float32_under_bf16_autocast() -> None:
    # Scores rounded to bfloat16 would tie, and ties corrupt average precision.
    y_c, y_e, star = case(3)
    method = clef(y_c, y_e, star[0], True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = method({"target": torch.zeros(5, dtype=torch.long)})
    assert prediction.scores.dtype == torch.float32
    torch.testing.assert_close(prediction.scores, tie(y_c, y_e, star[0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_the_kl_is_never_negative_and_always_finite(labels: str, scale: float) -> None:
    single, multi_label = LABELS[labels]
    for seed, direction in itertools.product(range(20), ("factual_from_counterfactual", "counterfactual_from_factual")):
        y_c, y_e, star = (value * scale for value in case(seed))
        method = clef(y_c, y_e, star[0], single, multi_label=multi_label, **{"kl.direction": direction})
        kl = method({"target": target_of(seed, single)}).losses["kl"].item()
        assert -1e-6 * min(scale, 1) <= kl < math.inf
