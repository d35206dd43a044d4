"""Sign flips, Holm's correction and the fewest seeds, against every pattern, closed testing, and scipy."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clef.errors import CellError
from clef.results.significance import fewest_seeds, holm, lowest_p, sign_flip, verdict_of


def slow_sign_flip(differences: list[float]) -> float:
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    sums = [abs(sum(sign * value for sign, value in zip(signs, differences, strict=True))) for signs in patterns]
    return sum(total >= sums[0] * (1 - 1e-12) for total in sums) / len(patterns)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-9, 9).map(lambda value: round(value, 2)), min_size=1, max_size=8))
def test_sign_flip_is_the_share_of_all_patterns(differences: list[float]) -> None:
    assert sign_flip(differences) == pytest.approx(slow_sign_flip(differences))


def test_sign_flip_by_hand_and_when_all_agree() -> None:
    assert sign_flip([1.0, 2.0, 3.0]) == 2 / 8
    assert sign_flip([-1.0, 2.0, 3.0]) == 4 / 8
    assert sign_flip([0.0, 0.0]) == 1
    for seeds in range(1, 9):
        assert sign_flip([1.5] * seeds) == lowest_p(seeds)


@pytest.mark.parametrize("seeds", [1, 3, 7])
def test_a_difference_that_is_no_number_gives_no_p(seeds: int) -> None:
    with pytest.raises(CellError, match="not all finite"):
        sign_flip([1.0] * (seeds - 1) + [math.nan])


def test_ranks_give_wilcoxons_p() -> None:
    signs = np.array([1, 2, 3, -4, 5, 6, 7, 8.0])
    assert sign_flip(signs.tolist()) == pytest.approx(stats.wilcoxon(signs, mode="exact").pvalue)


def closed_testing(values: list[float]) -> list[float]:
    """Holm's correction as what it is: a hypothesis falls when every set that holds it falls by Bonferroni."""
    places = range(len(values))
    sets = [chosen for size in range(1, len(values) + 1) for chosen in itertools.combinations(places, size)]
    return [max(min(1.0, len(s) * min(values[j] for j in s)) for s in sets if i in s) for i in places]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(0, 3))
def test_holm_is_closed_testing_and_what_has_no_number_counts_as_one(values: list[float], absent: int) -> None:
    expected = closed_testing(values + [1.0] * absent)[: len(values)]
    assert holm(values, len(values) + absent) == pytest.approx(expected)


def test_the_fewest_seeds_for_one_and_for_ten_comparisons() -> None:
    assert (fewest_seeds(1), fewest_seeds(10), fewest_seeds(20)) == (6, 9, 10)
    for comparisons in range(1, 40):
        seeds = fewest_seeds(comparisons)
        clear = [sign_flip([1.0] * seeds)] + [1.0] * (comparisons - 1)
        assert holm(clear, comparisons)[0] <= 0.05
        assert holm([lowest_p(seeds - 1)] + [1.0] * (comparisons - 1), comparisons)[0] > 0.05


@given(st.integers(1, 20), st.integers(1, 60), st.floats(0, 1))
def test_with_too_few_seeds_the_word_is_never_said(seeds: int, comparisons: int, corrected: float) -> None:
    said = verdict_of(corrected, seeds, comparisons)
    assert ("significan" in said) == (seeds >= fewest_seeds(comparisons))
    if seeds >= fewest_seeds(comparisons):
        assert (said == "significant") == (corrected <= 0.05)
