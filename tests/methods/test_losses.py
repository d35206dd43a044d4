"""Every loss term against numbers worked out by hand, and against a slow reference written from the equations."""

import math

import numpy as np
import pytest
import torch

from clef.methods import losses

LN = math.log


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def random_case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 5, generator=generator) * 4, (torch.rand(6, 5, generator=generator) < 0.3).float()


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, LN(3.0)], [0.0, 0.0]])
    # -log 3/4 and -log 1/2, halved
    assert losses.cross_entropy(logits, torch.tensor([1, 0])).item() == pytest.approx((LN(4 / 3) + LN(2)) / 2)


def test_bce_by_hand_is_a_sum_over_classes_and_a_mean_over_the_batch() -> None:
    logits = torch.tensor([[LN(3.0), 0.0], [0.0, 0.0]])
    target = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert losses.bce(logits, target).item() == pytest.approx((LN(4 / 3) + LN(2) + 2 * LN(2)) / 2)


def test_weighted_l2_by_hand() -> None:
    # Class 0 has two positives, class 1 one, class 2 none: weights 1/ln 3.2, 1/ln 2.2, 1e-4. All probabilities are 1/2.
    target = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    expected = 0.25 * (1 / LN(3.2) + 1 / LN(2.2) + 1e-4)
    assert losses.weighted_l2(torch.zeros(2, 3), target).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_weighted_l2_against_the_equation(seed: int) -> None:
    logits, target = random_case(seed)
    expected = 0.0
    for b in range(6):
        for k in range(5):
            count = sum(float(target[i, k]) for i in range(6))
            weight = 1 / LN(1.2 + count) if count else 1e-4
            expected += weight * (sigmoid(float(logits[b, k])) - float(target[b, k])) ** 2 / 6
    assert losses.weighted_l2(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_vad_by_hand_masks_the_unknown() -> None:
    predicted = torch.tensor([[5.0, 5.0, 5.0], [1.0, 2.0, 3.0]], requires_grad=True)
    target = torch.tensor([[5.5, 8.0, math.nan], [math.nan, math.nan, math.nan]])
    # 0.5 * 0.5^2 within the threshold, 3 - 0.5 beyond it; the rest is unknown
    loss = losses.vad(predicted, target)
    assert loss.item() == pytest.approx((0.125 + 2.5) / 2)
    loss.backward()
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [[pytest.approx(-0.25), pytest.approx(-0.5), 0.0], [0.0, 0.0, 0.0]]


def test_categorical_kl_by_hand() -> None:
    factual, counterfactual = torch.tensor([[0.0, LN(3.0)]]), torch.tensor([[0.0, 0.0]])
    expected = 0.25 * LN(0.25 / 0.5) + 0.75 * LN(0.75 / 0.5)
    assert losses.categorical_kl(factual, counterfactual).item() == pytest.approx(expected)


def test_bernoulli_kl_by_hand_sums_over_classes() -> None:
    factual, counterfactual = torch.tensor([[LN(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    expected = 0.75 * LN(0.75 / 0.5) + 0.25 * LN(0.25 / 0.5)
    assert losses.bernoulli_kl(factual, counterfactual).item() == pytest.approx(expected)


@pytest.mark.parametrize("kl", [losses.categorical_kl, losses.bernoulli_kl])
def test_kl_is_never_negative_and_zero_only_for_equals(kl) -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (0.01, 1.0, 30.0, 200.0):
        a, b = (torch.randn(64, 26, generator=generator, dtype=torch.float64) * scale for _ in range(2))
        assert kl(a, b).item() > 0
        assert kl(a, a).item() == pytest.approx(0, abs=1e-12)
        assert np.isfinite(kl(a.float(), b.float()).item())
