"""TE, NDE, TIE and probabilities of predictions as written down: by hand, and against the method itself."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clef import metrics
from clef.config import CellConfig, CustomMethodConfig
from clef.methods.clef import tie

Make = Callable[..., CellConfig]
RNG = np.random.default_rng(0)


def arrays(rows: int = 5, classes: int = 4) -> dict[str, np.ndarray]:
    names = ("scores", "Y_e", "Y_c", "Y_e*")
    return {name: RNG.normal(0, 3, (rows, classes)).astype(np.float32) for name in names}


def test_by_hand() -> None:
    one = {
        "scores": np.zeros((1, 1)),
        "Y_c": np.array([[0.0]]),
        "Y_e": np.array([[math.log(3)]]),
        "Y_e*": np.zeros((1, 1)),
    }
    found = metrics.effects(one)  # sigmoid(log 3) = 3/4, sigmoid(0) = 1/2
    assert {name: float(value[0, 0]) for name, value in found.items()} == pytest.approx(
        {"TE": math.log(3 / 4) - math.log(1 / 2), "NDE": 0, "TIE": math.log(3 / 4) - math.log(1 / 2)}
    )


def test_tie_is_the_methods_own_and_what_is_left_of_te_without_nde() -> None:
    some = arrays()
    found = metrics.effects(some)
    own = tie(*(torch.from_numpy(some[name]) for name in ("Y_c", "Y_e", "Y_e*")))
    np.testing.assert_allclose(found["TIE"], own.numpy(), atol=1e-5)
    np.testing.assert_allclose(found["TE"], found["NDE"] + found["TIE"], atol=1e-12)


def test_methods_without_a_counterfactual_have_no_effects() -> None:
    some = arrays()
    assert metrics.effects({"scores": some["scores"], "Y_e": some["Y_e"]}) == {}
    assert metrics.counterfactual({"Y_c": some["Y_c"], "scores": some["Y_c"]}) is None
    np.testing.assert_array_equal(metrics.factual({"scores": some["scores"], "Y_e": some["Y_e"]}), some["Y_e"])


def test_without_a_branch_nothing_is_direct() -> None:
    some = arrays()
    del some["Y_c"]
    found = metrics.effects(some)
    assert not found["NDE"].any()
    np.testing.assert_array_equal(found["TE"], found["TIE"])


def test_far_logits_stay_finite() -> None:
    values = metrics.log_sigmoid(np.array([-1e4, 0, 1e4]))
    assert values.tolist() == pytest.approx([-1e4, -math.log(2), 0])


@pytest.mark.parametrize(
    ("dataset", "method", "settings", "expected"),
    [
        ("caer_s_demo", "vanilla", {}, lambda z: F.log_softmax(z, 1)),
        ("caer_s_demo", "clef", {}, lambda z: F.log_softmax(F.logsigmoid(z), 1)),
        ("caer_s_demo", "clef", {"method.single_label": "sum"}, lambda z: F.log_softmax(z, 1)),
        ("emotic_demo", "vanilla", {}, F.logsigmoid),
        ("emotic_demo", "clef", {}, F.logsigmoid),
        ("emotic_demo", "clef", {"method.multi_label": "softmax"}, lambda z: F.log_softmax(F.logsigmoid(z), 1)),
    ],
)
def test_probabilities_are_what_the_loss_takes_logits_for(
    tiny: Make, dataset: str, method: str, settings: dict, expected: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    logits, config = arrays()["Y_e"], tiny(dataset, method=method, **settings)
    log = expected(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(metrics.log_probabilities(config, logits), log, atol=1e-5)
    np.testing.assert_allclose(metrics.probabilities(config, logits), np.exp(log), atol=1e-6)


def test_linear_outputs_are_probabilities_as_they_are_without_logarithms(tiny: Make) -> None:
    config = tiny("emotic_demo", method="vanilla", **{"method.output": "linear"})
    logits = np.array([[0.8, 0, -0.3, 1.2]])
    assert metrics.probabilities(config, logits).tolist() == [[0.8, 0, 0, 1]]  # type: ignore[union-attr]
    assert metrics.log_probabilities(config, logits) is None


def test_a_method_of_ones_own_states_probabilities_where_it_says_so(tiny: Make) -> None:
    logits, vanilla = arrays()["Y_e"], tiny(method="vanilla")
    silent = vanilla.model_copy(update={"method": CustomMethodConfig(name="mine:Own")})
    assert metrics.probabilities(silent, logits) is None
    assert metrics.log_probabilities(silent, logits) is None
    says = vanilla.model_copy(update={"method": CustomMethodConfig(name="mine:Own", probabilities=True)})
    np.testing.assert_array_equal(metrics.probabilities(says, logits), metrics.probabilities(vanilla, logits))
