"""Metrics by hand, and refusals."""

from dataclasses import replace

import numpy as np
import pytest

from clef import metrics
from clef.errors import CellError


def test_average_precision_by_hand() -> None:
    # Ranked: hit, miss, hit. Precision at the hits: 1 and 2/3.
    scores, target = np.array([[3.0], [2.0], [1.0]]), np.array([[1.0], [0.0], [1.0]])
    assert metrics.average_precision(scores, target)[0] == pytest.approx(100 * (1 + 2 / 3) / 2)


def test_average_precision_against_a_slow_reference() -> None:
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(50, 4)), (rng.random((50, 4)) < 0.3).astype(float)
    for k in range(4):
        ranked = target[np.argsort(-scores[:, k]), k]
        hits = np.flatnonzero(ranked)
        expected = 100 * np.mean([(i + 1) / (place + 1) for i, place in enumerate(hits)])
        assert metrics.average_precision(scores, target)[k] == pytest.approx(expected)


def test_a_class_without_positives_is_left_out_of_the_mean() -> None:
    scores, target = np.array([[2.0, 0.3], [1.0, 0.1]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    assert metrics.headline_score(scores, target) == 100.0
    assert metrics.per_class(scores, target, ["a", "b"]) == {"a": 100.0}


def test_accuracy_recall_and_chance_by_hand() -> None:
    scores, target = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.7], [0.6, 0.4]]), np.array([0, 1, 1, 0])
    assert metrics.headline_score(scores, target) == 75.0
    assert metrics.per_class(scores, target, ["a", "b"]) == {"a": 100.0, "b": 50.0}
    assert metrics.chance(target, 2) == 50.0
    assert metrics.chance(np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]]), 3) == pytest.approx(37.5)


def test_the_parts_of_a_prediction_are_scored_too() -> None:
    y_c, y_e = np.array([[5.0, 0.0], [5.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 2.0]])
    arrays = {"scores": y_e, "target": np.array([0, 1]), "Y_c": y_c, "Y_e": y_e}
    summary = metrics.summary(arrays, ["a", "b"])
    assert summary["value"] == 100.0
    assert summary["variants"] == {"Y_e": 100.0, "Y_c": 50.0, "factual": 50.0}


@pytest.mark.parametrize(
    ("index", "message"),
    [([0, 1, 3], "1 missing, 0 more than once"), ([0, 1, 2, 2, 3], "0 missing, 1 more"), ([0, 1, 2, 3, 4], "5 of 4")],
)
def test_without_full_coverage_there_is_no_metric(index: list[int], message: str) -> None:
    metrics.check_coverage(np.array([3, 1, 0, 2]), 4)
    with pytest.raises(CellError, match=message):
        metrics.check_coverage(np.array(index), 4)


@pytest.mark.parametrize("target", [np.zeros((3, 2)), np.zeros((0, 2)), np.zeros(0, int)])
def test_where_nobody_has_a_label_there_is_no_metric(target: np.ndarray) -> None:
    with pytest.raises(CellError, match="nobody has any label"):
        metrics.headline_score(np.zeros((len(target), 2)), target)


def test_a_number_without_a_value_is_recorded_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    undefined = replace(
        metrics.METRICS["accuracy"], overall=lambda scores, target: np.nan, chance=lambda target, classes: np.nan
    )
    monkeypatch.setitem(metrics.METRICS, "accuracy", undefined)
    arrays = {"scores": np.eye(2), "Y_e": np.eye(2), "target": np.array([0, 0])}
    recorded = metrics.summary(arrays, ["a", "b"])
    assert recorded == {
        "value": None, "chance": None, "samples": 2, "per_class": {"a": 50.0}, "variants": {"Y_e": None}
    }  # fmt: skip


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(CellError, match="not finite"):
        metrics.headline_score(np.array([[np.nan, 1.0]]), np.array([0]))
