"""The debiasing methods against slow loops written from their papers' equations, and what their losses reach."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from clef.config.methods import METHODS
from clef.methods import Method, Prediction
from clef.methods.bias_reweight import BiasReweight
from clef.methods.clef import Clef
from clef.methods.learned_mixin import LearnedMixin
from clef.methods.learning_from_failure import LearningFromFailure
from clef.methods.product_of_experts import ProductOfExperts
from clef.methods.rubi import Rubi
from tests.methods.fakes import FixedBackbone, FixedBranch, parts

PEOPLE, CLASSES, DIM = 6, 4, 3
BY_NAME: dict[str, Any] = {
    "product_of_experts": ProductOfExperts, "learned_mixin": LearnedMixin, "bias_reweight": BiasReweight, "rubi": Rubi,
    "learning_from_failure": LearningFromFailure, "clef": Clef,
}  # fmt: skip


class Case:
    """A method around given logits of both networks, and its batch."""

    def __init__(self, name: str, single: bool, like: "Case | None" = None, **settings: Any) -> None:
        generator = torch.Generator().manual_seed(len(name) + single)

        def draw(*shape: int) -> Tensor:
            return 2 * torch.randn(*shape, generator=generator)

        self.single = single
        self.y_e, self.y_c, self.feature = draw(PEOPLE, CLASSES), draw(PEOPLE, CLASSES), draw(PEOPLE, DIM)
        several = (torch.rand(PEOPLE, CLASSES, generator=generator) < 0.4).float()
        self.target = torch.tensor([0, 3, 1, 1, 2, 0]) if single else several
        if like:  # another method around the same logits
            self.y_e, self.y_c, self.target = like.y_e, like.y_c, like.target
        self.backbone, self.branch = FixedBackbone(self.y_e, feature=self.feature), FixedBranch(self.y_c)
        config = {"name": name} | settings.pop("method", {})
        self.method: Method = BY_NAME[name](parts(self.backbone, config, single, [9, 5, 2, 1], **settings))
        self.method.context_branch = self.branch
        self.prediction: Prediction = self.method({"target": self.target})

    def gradients(self, *terms: str) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of the sum of some terms on the logits of the backbone and of the branch."""
        losses = self.prediction.losses
        total = torch.stack([losses[term] for term in terms or losses]).sum()
        logits = [self.backbone.logits, self.branch.logits]
        return torch.autograd.grad(total, logits, retain_graph=True, allow_unused=True)  # type: ignore[return-value]


# ---- The reference, in Python's own floats ----


def softmax(z: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in z)
    return [math.exp(v) / total for v in z]


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def losses_of(logits: list[list[float]], target: Tensor, single: bool) -> list[list[float]]:
    """Cross-entropy of each person, or binary cross-entropy of each person and class."""
    if single:
        return [[-math.log(softmax(z)[int(y)])] for z, y in zip(logits, target, strict=True)]
    return [
        [-math.log(sigmoid(v) if y else 1 - sigmoid(v)) for v, y in zip(z, ys, strict=True)]
        for z, ys in zip(logits, target.tolist(), strict=True)
    ]


def loss_of(logits: list[list[float]], target: Tensor, single: bool) -> float:
    return sum(map(sum, losses_of(logits, target, single))) / len(logits)


def loops(case: Case, combine: Any) -> list[list[float]]:
    e, c = case.y_e.double().tolist(), case.y_c.double().tolist()
    return [[combine(i, e[i][k], c[i][k]) for k in range(CLASSES)] for i in range(PEOPLE)]


def values(prediction: Prediction) -> dict[str, float]:
    return {name: term.item() for name, term in prediction.losses.items()}


BOTH = pytest.mark.parametrize("single", [True, False], ids=["one label", "several"])


@BOTH
@pytest.mark.parametrize("stop", [True, False])
def test_product_of_experts(single: bool, stop: bool) -> None:
    case = Case("product_of_experts", single, **{"method.stop_gradient": stop})
    if single:  # from the probabilities themselves: p_e p_c, normalized
        e, c = case.y_e.double().tolist(), case.y_c.double().tolist()
        product = [[math.log(p * q) for p, q in zip(softmax(e[i]), softmax(c[i]), strict=True)] for i in range(PEOPLE)]
    else:
        product = loops(case, lambda _, e, c: e + c)
    expected = {
        "product": loss_of(product, case.target, single),
        "context": loss_of(case.y_c.double().tolist(), case.target, single),
    }
    assert values(case.prediction) == pytest.approx(expected, rel=1e-5)
    assert torch.equal(case.prediction.scores, case.y_e)
    of_backbone, of_branch = case.gradients("product")
    assert of_backbone is not None
    assert (of_branch is None) == stop
    assert case.gradients("context")[0] is None


@BOTH
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_learned_mixin(single: bool, weight: float) -> None:
    case = Case("learned_mixin", single, **{"method.entropy_weight": weight})
    assert isinstance(case.method, LearnedMixin)
    w, [b] = case.method.gate.weight[0].tolist(), case.method.gate.bias.tolist()
    gate = [math.log1p(math.exp(sum(map(float.__mul__, w, h)) + b)) for h in case.feature.tolist()]
    bias = loops(case, lambda i, e, c: gate[i] * c)
    mixture = loops(case, lambda i, e, c: e + gate[i] * c)
    expected = {
        "mixture": loss_of(mixture, case.target, single),
        "context": loss_of(case.y_c.double().tolist(), case.target, single),
    }
    if weight:
        rows = [softmax(row) for row in bias] if single else [
            p for row in bias for p in ([sigmoid(v), 1 - sigmoid(v)] for v in row)
        ]  # fmt: skip
        expected["entropy"] = weight * -sum(p * math.log(p) for row in rows for p in row) / PEOPLE
    assert values(case.prediction) == pytest.approx(expected, rel=1e-4)
    assert torch.equal(case.prediction.scores, case.y_e)
    learning = [term for term in case.prediction.losses if term != "context"]
    assert case.gradients(*learning)[1] is None, "the branch learns from its own loss alone"
    total = torch.stack([case.prediction.losses[term] for term in learning]).sum()
    of_gate, of_feature = torch.autograd.grad(total, [case.method.gate.weight, case.backbone.feature])  # type: ignore[list-item]
    assert of_gate.abs().sum() > 0
    assert of_feature.abs().sum() > 0


@BOTH
def test_bias_reweight(single: bool) -> None:
    case = Case("bias_reweight", single)
    losses = losses_of(case.y_e.double().tolist(), case.target, single)
    c = case.y_c.double().tolist()
    if single:
        weights = [[1 - softmax(c[i])[int(y)]] for i, y in enumerate(case.target)]
    else:
        weights = [
            [1 - (sigmoid(v) if y else 1 - sigmoid(v)) for v, y in zip(c[i], ys, strict=True)]
            for i, ys in enumerate(case.target.tolist())
        ]
    flat = list(zip(itertools.chain(*weights), itertools.chain(*losses), strict=True))
    # sum w l / sum w (Clark et al.), with several labels times their number: a sum over classes, as all losses are.
    mean = sum(w * v for w, v in flat) / sum(w for w, _ in flat)
    expected = {"reweighted": mean * len(losses[0]), "context": loss_of(c, case.target, single)}
    assert values(case.prediction) == pytest.approx(expected, rel=1e-5)
    assert case.gradients("reweighted")[1] is None
    assert torch.equal(case.prediction.scores, case.y_e)


@BOTH
def test_bias_reweight_on_two_ranks_is_that_of_the_whole_batch(single: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Case("bias_reweight", single)
    halves = []
    for rows in (slice(0, 3), slice(3, 6)):
        half = Case("bias_reweight", single)
        half.backbone.logits.data, half.branch.logits.data = whole.y_e[rows], whole.y_c[rows]
        half.target = whole.target[rows]
        halves.append(half)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    shared: list[list[Tensor]] = []
    for half in halves:  # what each rank has to share
        shared.append([])
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: shared[-1].append(value.clone()))
        half.method({"target": half.target})
    losses = []
    for half, others in zip(halves, reversed(shared), strict=True):
        others = iter(others)
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda value, others=others: value.add_(next(others)))
        losses.append(half.method({"target": half.target}).losses["reweighted"].item())
    assert sum(losses) / 2 == pytest.approx(whole.prediction.losses["reweighted"].item(), rel=1e-5)


@BOTH
def test_rubi(single: bool) -> None:
    case = Case("rubi", single, **{"method.context_weight": 0.5})
    assert isinstance(case.method, Rubi)
    weight, bias = case.method.context_classifier.weight.tolist(), case.method.context_classifier.bias.tolist()
    c = case.y_c.double().tolist()
    alone = [[sum(map(float.__mul__, weight[k], row)) + bias[k] for k in range(CLASSES)] for row in c]
    expected = {
        "masked": loss_of(loops(case, lambda _, e, c: e * sigmoid(c)), case.target, single),
        "context": 0.5 * loss_of(alone, case.target, single),
    }
    assert values(case.prediction) == pytest.approx(expected, rel=1e-5)
    assert torch.equal(case.prediction.scores, case.y_e)
    assert None not in case.gradients("masked"), "the mask learns with the backbone"
    assert case.gradients("context")[0] is None


@BOTH
@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_learning_from_failure(single: bool, q: float) -> None:
    case = Case("learning_from_failure", single, **{"method.q": q})
    e, c = case.y_e.double().tolist(), case.y_c.double().tolist()
    of_e, of_c = losses_of(e, case.target, single), losses_of(c, case.target, single)
    hard = [[b / (b + d) * d for b, d in zip(*rows, strict=True)] for rows in zip(of_c, of_e, strict=True)]
    # A cross-entropy is -log of the true label's probability.
    general = [[(1 - math.exp(-loss) ** q) / q for loss in row] for row in of_c]
    expected = {"hard": sum(map(sum, hard)) / PEOPLE, "context": sum(map(sum, general)) / PEOPLE}
    assert values(case.prediction) == pytest.approx(expected, rel=1e-4)
    assert torch.equal(case.prediction.scores, case.y_e)
    assert case.gradients("hard")[1] is None
    assert case.gradients("context")[0] is None
    # The weights are constants: the gradient is that of the weighted losses.
    weights = torch.tensor([[b / (b + d) for b, d in zip(*rows, strict=True)] for rows in zip(of_c, of_e, strict=True)])
    logits = case.backbone.logits
    weighted = (weights * case.method.element_losses(logits, case.target)).sum(1).mean()
    torch.testing.assert_close(case.gradients("hard")[0], torch.autograd.grad(weighted, logits)[0])


@pytest.mark.parametrize(
    "name", ["product_of_experts", "learned_mixin", "bias_reweight", "rubi", "learning_from_failure"]
)
def test_the_branch_learns_at_its_own_rate_and_all_else_as_heads(name: str) -> None:
    case = Case(name, True, **{"method.context_branch.lr_multiplier": 0.25, "optimizer.head_lr_multiplier": 10})
    rates = {id(p): group["lr_multiplier"] for group in case.method.parameter_groups(0.0) for p in group["params"]}
    named = dict(case.method.named_parameters())
    # The branch was put in after the groups' rate was noted: a group for whatever is there.
    assert {key: rates[id(p)] for key, p in named.items()} == {
        key: 0.25 if key.startswith("context_branch.") else 10 for key in named
    }


# ---- CLEF's training is a product of experts ----


@pytest.mark.parametrize(("single", "reading"), [(False, "sigmoid"), (True, "sum"), (True, "log_sigmoid")])
def test_clef_trains_the_backbone_as_a_product_of_experts_does_unless_logits_are_squashed(
    single: bool, reading: str
) -> None:
    clef = Case("clef", single, **{"method.single_label" if single else "method.multi_label": reading})
    product = Case("product_of_experts", single, like=clef, **{"method.stop_gradient": False})
    stopped = Case("product_of_experts", single, like=clef, **{"method.stop_gradient": True})
    ours, theirs, sg = clef.gradients(), product.gradients(), stopped.gradients()
    same = reading != "log_sigmoid"
    assert torch.allclose(ours[0], theirs[0], atol=1e-7) == same  # type: ignore[arg-type]
    # Y_e* is 0 at first, so the counterfactual loss is the branch's own.
    assert torch.allclose(ours[1], theirs[1], atol=1e-7) == same  # type: ignore[arg-type]
    assert torch.equal(sg[0], theirs[0])  # type: ignore[arg-type]
    assert not torch.allclose(sg[1], theirs[1], atol=1e-4)  # type: ignore[arg-type]


# ---- CF-VQA's fusions ----

FUSED = {
    "sum": lambda c, e: e + c,
    "rubi": lambda c, e: e * sigmoid(c),
    "hm": lambda c, e: math.log(sigmoid(c) * sigmoid(e)),
    "product": lambda c, e: math.log(sigmoid(c) * sigmoid(e) / (1 - sigmoid(c) * sigmoid(e))),
}


@BOTH
@pytest.mark.parametrize("fusion", FUSED)
def test_fusions_against_cf_vqas_definitions(single: bool, fusion: str) -> None:
    case = Case("clef", single, **{"method.fusion": fusion, "method.counterfactual.initial": "prior"})
    assert isinstance(case.method, Clef)
    star = case.method.counterfactual.expand(CLASSES).tolist()

    def measured(c: float, y: float) -> float:
        z = FUSED[fusion](c, y)
        if fusion == "hm":  # as CF-VQA writes it: log z - log(1 + z) of the product z of sigmoids
            return math.log(math.exp(z) / (1 + math.exp(z)))
        return z if fusion == "rubi" else math.log(sigmoid(z))

    e, c = case.y_e.double().tolist(), case.y_c.double().tolist()
    tie = [[measured(c[i][k], e[i][k]) - measured(c[i][k], star[k]) for k in range(CLASSES)] for i in range(PEOPLE)]
    torch.testing.assert_close(case.prediction.scores, torch.tensor(tie), rtol=1e-4, atol=1e-5)
    taken = measured if single else lambda c, y: FUSED[fusion](c, y)
    for term, y in (("factual", e), ("counterfactual", [star] * PEOPLE)):
        logits = [[taken(c[i][k], y[i][k]) for k in range(CLASSES)] for i in range(PEOPLE)]
        assert case.prediction.losses[term].item() == pytest.approx(loss_of(logits, case.target, single), rel=1e-4)
    factual = case.prediction.effects.get("factual", case.y_c + case.y_e)
    torch.testing.assert_close(
        factual, torch.tensor(loops(case, lambda _, e, c: FUSED[fusion](c, e))), rtol=1e-4, atol=1e-5
    )


def test_fusions_are_finite_where_sigmoids_round_to_0_and_1() -> None:
    extreme = torch.tensor([[-200.0, 200.0, -200.0, 200.0]])
    other = torch.tensor([[-200.0, 200.0, 200.0, -200.0]])
    for fusion in FUSED:
        case = Case("clef", False, **{"method.fusion": fusion})
        case.backbone.logits, case.branch.logits = torch.nn.Parameter(extreme), torch.nn.Parameter(other)
        prediction = case.method({"target": torch.tensor([[0.0, 1.0, 1.0, 0.0]])})
        total = torch.stack(list(prediction.losses.values())).sum()
        gradients = torch.autograd.grad(total, [case.backbone.logits, case.branch.logits])
        assert all(torch.isfinite(t).all() for t in (prediction.scores, total, *gradients)), fusion


def test_every_method_is_tested_here_or_elsewhere() -> None:
    elsewhere = {
        "scene_adversary",
        "vanilla",
        "ccim",
        "context_only",
        "context_swap",
        "subject_only",
        "mask_confusion",
        "clef_at_test",
    }
    assert set(METHODS) == set(BY_NAME) | elsewhere
