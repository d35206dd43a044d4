"""Every loss term against numbers worked out by hand, and against a slow reference written from the equations."""

import math

import numpy as np
import pytest
import torch

from clef.config import LossConfig
from clef.methods import method

LN = math.log


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def reduced(elements: torch.Tensor) -> float:
    """The sum over classes, and the mean over the batch."""
    return elements.sum(1).mean().item()


def random_case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 5, generator=generator) * 4, (torch.rand(6, 5, generator=generator) < 0.3).float()


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, LN(3.0)], [0.0, 0.0]])
    # -log 3/4 and -log 1/2, halved
    assert reduced(method.cross_entropy(logits, torch.tensor([1, 0]))) == pytest.approx((LN(4 / 3) + LN(2)) / 2)


def test_bce_by_hand_is_a_sum_over_classes_and_a_mean_over_the_batch() -> None:
    logits = torch.tensor([[LN(3.0), 0.0], [0.0, 0.0]])
    target = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert reduced(method.bce(logits, target)) == pytest.approx((LN(4 / 3) + LN(2) + 2 * LN(2)) / 2)


def test_weighted_l2_by_hand() -> None:
    # Class 0 has two positives, class 1 one, class 2 none: weights 1/ln 3.2, 1/ln 2.2, 1e-4. All probabilities are 1/2.
    target = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    expected = 0.25 * (1 / LN(3.2) + 1 / LN(2.2) + 1e-4)
    assert reduced(method.weighted_l2(torch.zeros(2, 3), target)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_weighted_l2_against_the_equation(seed: int) -> None:
    logits, target = random_case(seed)
    expected = 0.0
    for b in range(6):
        for k in range(5):
            count = sum(float(target[i, k]) for i in range(6))
            weight = 1 / LN(1.2 + count) if count else 1e-4
            expected += weight * (sigmoid(float(logits[b, k])) - float(target[b, k])) ** 2 / 6
    assert reduced(method.weighted_l2(logits, target)) == pytest.approx(expected, rel=1e-5)


def test_vad_by_hand_masks_the_unknown() -> None:
    predicted = torch.tensor([[5.0, 5.0, 5.0], [1.0, 2.0, 3.0]], requires_grad=True)
    target = torch.tensor([[5.5, 8.0, math.nan], [math.nan, math.nan, math.nan]])
    # 0.5 * 0.5^2 within the threshold, 3 - 0.5 beyond it; the rest is unknown
    loss = method.smooth_l1_vad(predicted, target)
    assert loss.item() == pytest.approx((0.125 + 2.5) / 2)
    loss.backward()
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [[pytest.approx(-0.25), pytest.approx(-0.5), 0.0], [0.0, 0.0, 0.0]]


def test_margin_l2_by_hand_counts_nothing_within_the_margin() -> None:
    predicted = torch.tensor([[5.0, 5.0, 5.0]])
    assert method.margin_l2_vad(predicted, torch.tensor([[5.5, 8.0, math.nan]])).item() == pytest.approx(9.0)
    assert method.margin_l2_vad(predicted, torch.tensor([[5.5, 8.0, 5.0]]), threshold=0.25).item() == pytest.approx(
        9.25
    )


@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", ["smooth_l1", "margin_l2"])
def test_vad_against_the_equations(name: str, threshold: float) -> None:
    generator = torch.Generator().manual_seed(3)
    predicted, target = (torch.rand(6, 3, generator=generator) * 9 + 1 for _ in range(2))
    target[torch.rand(6, 3, generator=generator) < 0.2] = math.nan
    expected = 0.0
    for p, t in zip(predicted.double().flatten().tolist(), target.double().flatten().tolist(), strict=True):
        error = abs(p - t)
        if math.isnan(t):
            continue
        if name == "smooth_l1":
            expected += error**2 / (2 * threshold) if error < threshold else error - threshold / 2
        elif error >= threshold:
            expected += error**2
    loss = method.vad_loss(LossConfig(categories="bce", vad=name, vad_threshold=threshold))  # type: ignore[arg-type]
    assert loss(predicted, target).item() == pytest.approx(expected / 6, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_soft_margin_against_the_equation(seed: int) -> None:
    logits, target = random_case(seed)
    expected = sum(
        math.log1p(math.exp(-(2 * float(target[b, k]) - 1) * float(logits[b, k]))) for b in range(6) for k in range(5)
    )
    assert reduced(method.soft_margin(logits, target)) == pytest.approx(expected / 6, rel=1e-5)


def test_labels_share_the_target_of_one_softmax() -> None:
    logits = torch.tensor([[LN(2.0), LN(2.0), 0.0], [0.0, 0.0, 0.0]])  # probabilities 2/5, 2/5, 1/5
    target = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = -(LN(2 / 5) + LN(1 / 5)) / 2 / 2
    assert reduced(method.shared_cross_entropy(logits, target)) == pytest.approx(expected)


def test_static_weights_count_the_training_set() -> None:
    # 100 and 10 positives in train, and none of class 2: whatever the batch holds.
    config = LossConfig(categories="weighted_l2", class_weights="static")
    loss = method.category_loss(config, torch.tensor([100, 10, 0]))
    target = torch.tensor([[1.0, 0.0, 1.0]])
    expected = 0.25 * (1 / LN(101.2) + 1 / LN(11.2) + 1e-4)
    assert reduced(loss(torch.zeros(1, 3), target)) == pytest.approx(expected, rel=1e-6)


def test_linear_outputs_are_taken_as_they_are() -> None:
    loss = method.category_loss(LossConfig(categories="weighted_l2"), torch.tensor([1]), linear=True)
    assert reduced(loss(torch.tensor([[0.25]]), torch.tensor([[1.0]]))) == pytest.approx(0.75**2 / LN(2.2))


def test_categorical_kl_by_hand() -> None:
    factual, counterfactual = torch.tensor([[0.0, LN(3.0)]]), torch.tensor([[0.0, 0.0]])
    expected = 0.25 * LN(0.25 / 0.5) + 0.75 * LN(0.75 / 0.5)
    assert method.categorical_kl(factual, counterfactual).item() == pytest.approx(expected)


def test_bernoulli_kl_by_hand_sums_over_classes() -> None:
    factual, counterfactual = torch.tensor([[LN(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    expected = 0.75 * LN(0.75 / 0.5) + 0.25 * LN(0.25 / 0.5)
    assert method.bernoulli_kl(factual, counterfactual).item() == pytest.approx(expected)


@pytest.mark.parametrize("kl", [method.categorical_kl, method.bernoulli_kl])
def test_kl_is_never_negative_and_zero_only_for_equals(kl) -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (0.01, 1.0, 30.0, 200.0):
        a, b = (torch.randn(64, 26, generator=generator, dtype=torch.float64) * scale for _ in range(2))
        assert kl(a, b).item() > 0
        assert kl(a, a).item() == pytest.approx(0, abs=1e-12)
        assert np.isfinite(kl(a.float(), b.float()).item())


def test_only_training_waits_for_other_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ranks may have different numbers of batches in evaluation: a collective there would wait for ever.
    calls: list[torch.Tensor] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", calls.append)
    logits, target = random_case(0)
    with torch.inference_mode():
        method.weighted_l2(logits, target)
    assert calls == []
    method.weighted_l2(logits, target)
    assert len(calls) == 1
