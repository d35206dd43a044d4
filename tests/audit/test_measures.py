"""The numbers of an audit from made-up predictions, against loops over people and classes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from clef.audit.interventions import Arrays, Passes, draw_donors
from clef.audit.measures import RowMaker, audit_rows, prediction_parts, swap_branch
from clef.cells.audits import find_value
from clef.config import CellConfig, CustomMethodConfig
from clef.methods.clef import tie

Make = Callable[..., CellConfig]
N, K = 12, 7
NAMES = ["a", "b", "c", "d", "e", "f", "g"]
RNG = np.random.default_rng(3)


def clef_arrays() -> Arrays:
    parts = {name: RNG.normal(0, 2, (N, K)).astype(np.float32) for name in ("Y_c", "Y_e")}
    parts["Y_e*"] = np.full((N, K), 0.3, np.float32)
    return parts | {"scores": tied(parts["Y_c"], parts["Y_e"], parts["Y_e*"]), "index": np.arange(N)}


def tied(*parts: np.ndarray) -> np.ndarray:
    return tie(*map(torch.from_numpy, parts)).numpy()


@pytest.fixture
def passes() -> Passes:
    donors = [draw_donors(N, 0, draw) for draw in range(2)]
    return Passes(clef_arrays(), clef_arrays(), clef_arrays(), clef_arrays(), donors, [clef_arrays(), clef_arrays()])


def test_a_swap_of_ones_own_branch_changes_nothing_and_anothers_what_the_branch_reaches(passes: Passes) -> None:
    before, own = prediction_parts(passes.plain), swap_branch(passes.plain, np.arange(N))
    assert before.keys() == own.keys()
    for part, scores in before.items():
        np.testing.assert_allclose(own[part], scores, atol=1e-5)
    others = swap_branch(passes.plain, passes.donors[0])
    assert [part for part in before if not np.allclose(others[part], before[part])] == ["score", "factual", "Y_c"]
    np.testing.assert_array_equal(others["Y_c"], passes.plain["Y_c"][passes.donors[0]])


def test_swaps_by_brute_force(tiny: Make, passes: Passes) -> None:
    target = RNG.integers(0, K, N)
    rows = list(audit_rows(tiny(), passes, RNG.random((N, K)), RowMaker("test", NAMES, target)))
    plain, moved, right, distance, hits = passes.plain, [], [], [], []
    for donors in passes.donors:
        for i in range(N):
            parts = plain["Y_c"][donors[i]], plain["Y_e"][i], plain["Y_e*"][i]
            score = tied(*parts)
            was, now = plain["scores"][i].argmax(), score.argmax()
            moved.append(was != now)
            right.append(was != now and now == target[i])
            hits.append(now == target[i])
            distance.append(np.abs(score - plain["scores"][i]).mean())
    assert find_value(rows, "test", "swap.branch.moved.score") == pytest.approx(100 * np.mean(moved))
    assert find_value(rows, "test", "swap.branch.to_right.score") == pytest.approx(100 * np.mean(right))
    assert find_value(rows, "test", "swap.branch.delta.score") == pytest.approx(np.mean(distance), rel=1e-4)
    assert find_value(rows, "test", "swap.branch.value.score") == pytest.approx(100 * np.mean(hits))
    every = [one["Y_e"].argmax(1) != plain["Y_e"].argmax(1) for one in passes.swaps]
    assert find_value(rows, "test", "swap.all.moved.Y_e") == pytest.approx(100 * np.mean(every))
    spread = plain["scores"].std(0)
    spreads = [np.abs(one["scores"] - plain["scores"]).mean(0) / spread for one in passes.swaps]
    assert find_value(rows, "test", "swap.all.spreads.score") == pytest.approx(np.mean(spreads), rel=1e-4)


def test_changed_decisions_and_effects_by_brute_force(tiny: Make, passes: Passes) -> None:
    target = np.arange(N) % K
    rows = list(audit_rows(tiny(), passes, RNG.random((N, K)), RowMaker("test", NAMES, target)))
    plain = passes.plain
    factual, final = (plain["Y_c"] + plain["Y_e"]).argmax(1), plain["scores"].argmax(1)
    wrong = sum(f == t != s for f, s, t in zip(factual, final, target, strict=True))
    assert find_value(rows, "test", "debiased.to_wrong") == pytest.approx(100 * wrong / N)
    own = [plain["scores"][i, 2] for i in range(N) if target[i] == 2]
    assert find_value(rows, "test", "TIE.own", "c") == pytest.approx(np.mean(own), rel=1e-4)
    z = [one["Y_c"] + one["Y_e"] for one in (plain, passes.context_only, passes.neither)]
    whole, context, nothing = (torch.log_softmax(torch.nn.functional.logsigmoid(torch.from_numpy(v)), 1) for v in z)
    nde, te = (context - nothing)[:, 0].mean(), (whole - nothing)[:, 0].mean()
    assert find_value(rows, "test", "blanked.NDE", "a") == pytest.approx(float(nde), rel=1e-4)
    assert find_value(rows, "test", "blanked.TE", "a") == pytest.approx(float(te), rel=1e-4)


def test_a_method_without_counterfactual_or_branch_has_no_such_rows(tiny: Make, passes: Passes) -> None:
    def bare(arrays: Arrays) -> Arrays:
        return {"index": arrays["index"], "scores": arrays["Y_e"], "Y_e": arrays["Y_e"]}

    few = Passes(*(bare(one) for one in (passes.plain, passes.subject_only, passes.context_only, passes.neither)),
                 passes.donors, [bare(one) for one in passes.swaps])  # fmt: skip
    rows = list(audit_rows(tiny(method="vanilla"), few, RNG.random((N, K)), RowMaker("test", NAMES, np.arange(N) % 3)))
    names = {row.name for row in rows}
    assert not names & {"TE", "NDE", "TIE", "debiased.moved", "swap.branch.moved.score", "value.factual"}
    assert names >= {"blanked.TIE", "swap.all.moved.score", "value.score", "context_only.score", "atypical.score"}


def test_the_chance_level_is_that_of_the_headline(tiny: Make, passes: Passes) -> None:
    for headline, expected in ((None, 100 / K), ("accuracy", 100 / K), ("macro F1", None)):
        maker = RowMaker("test", NAMES, np.arange(N) % K, headline)
        assert find_value(list(audit_rows(tiny(), passes, RNG.random((N, K)), maker)), "test", "chance") == expected


def test_a_branch_swap_needs_a_score_that_is_made_of_the_parts(tiny: Make, passes: Passes) -> None:
    def two_experts(arrays: Arrays) -> Arrays:
        return {name: arrays[name] for name in ("index", "Y_e", "Y_c")} | {"scores": arrays["Y_e"]}

    each = [passes.plain, passes.subject_only, passes.context_only, passes.neither]
    few = Passes(*map(two_experts, each), passes.donors, [two_experts(one) for one in passes.swaps])
    target = np.arange(N) % K
    rows = list(audit_rows(tiny(method="vanilla"), few, RNG.random((N, K)), RowMaker("test", NAMES, target)))
    names = {row.name for row in rows}
    assert not any(name.startswith("swap.branch.") for name in names), "nobody knows how the score uses Y_c"
    assert names >= {"swap.all.moved.score", "value.Y_c"}
    whole, nothing = (torch.log_softmax(torch.from_numpy(one["scores"]), 1) for one in (few.plain, few.neither))
    effect = (whole - nothing)[:, 0].mean()
    assert find_value(rows, "test", "blanked.TE", "a") == pytest.approx(float(effect), rel=1e-4)


def test_blanked_effects_need_probabilities_that_have_logarithms(tiny: Make, passes: Passes) -> None:
    linear = tiny("emotic_demo", method="vanilla", **{"method.output": "linear"})
    own = tiny(method="vanilla").model_copy(update={"method": CustomMethodConfig(name="mine:Own")})
    target = np.arange(N) % K
    for config in (linear, own):
        rows = list(audit_rows(config, passes, RNG.random((N, K)), RowMaker("test", NAMES, target)))
        assert not any(row.name.startswith("blanked.") for row in rows)
