"""Decisions from scores, where they move, and thirds by how typical a context is: by hand and by brute force."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from clef.audit.measures import Decider, Moves, RowMaker, chance_in_third, metric_by_third
from clef.cells.audits import find_value


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_one_label_is_decided_by_the_highest_score() -> None:
    scores = np.array([[1.0, 2, 0], [3, 1, 2]])
    assert Decider.fit(scores, np.array([0, 0]))(scores).tolist() == [1, 0]


def test_several_labels_are_decided_as_often_as_they_occur_whatever_the_scale(rng: np.random.Generator) -> None:
    scores = rng.normal(size=(50, 6))
    target = rng.random((50, 6)) < np.linspace(0, 0.7, 6)  # nobody has the first
    decided = Decider.fit(scores, target)(scores)
    assert decided.sum(0).tolist() == target.sum(0).tolist()
    for k in range(6):
        best = set(np.argsort(-scores[:, k])[: target[:, k].sum()])
        assert set(np.flatnonzero(decided[:, k])) == best
    stretched = np.exp(3 * scores) + 7
    np.testing.assert_array_equal(Decider.fit(stretched, target)(stretched), decided)


def test_which_way_decisions_move() -> None:
    first, second, target = np.array([0, 0, 1, 2, 1]), np.array([0, 1, 0, 1, 2]), np.array([0, 1, 1, 0, 2])
    moves = Moves.between(first, second, target)
    assert moves.moved.tolist() == [False, True, True, True, True]
    assert moves.to_right.tolist() == [False, True, False, False, True]
    assert moves.to_wrong.tolist() == [False, False, True, False, False]


def test_of_several_labels_every_move_is_right_or_wrong(rng: np.random.Generator) -> None:
    first, second, target = (rng.random((20, 5)) < 0.5 for _ in range(3))
    moves = Moves.between(first, second, target.astype(np.float32))
    np.testing.assert_array_equal(moves.moved, moves.to_right ^ moves.to_wrong)
    for i, k in np.ndindex(20, 5):
        assert moves.to_right[i, k] == (first[i, k] != second[i, k] and second[i, k] == target[i, k])


def test_thirds_of_one_label_by_hand() -> None:
    target = np.array([0, 0, 0, 1, 1, 1])
    prior = np.array([[0.9, 0], [0.1, 0], [0.5, 0], [0, 0.2], [0, 0.8], [0, 0.4]])
    hit = np.array([1, 0, 1, 1, 0, 0])
    scores = np.eye(2)[np.where(hit, target, 1 - target)]
    have = [target == 0, target == 1]
    found = {name: (value, people) for name, value, people in metric_by_third(scores, prior, have, several=False)}
    # typical: persons 0 and 4; middle: 2 and 5; atypical: 1 and 3
    assert found == {"typical": (50.0, 2), "middle": (50.0, 2), "atypical": (50.0, 2)}
    hits = {name: value for name, value, _ in metric_by_third(scores, -prior, have, several=False)}
    assert hits == {"typical": 50.0, "middle": 50.0, "atypical": 50.0}
    scores[1, 0] = 5  # the most atypical of class 0 comes right, too
    assert {name: value for name, value, _ in metric_by_third(scores, prior, have, several=False)}["atypical"] == 100


def test_thirds_of_several_labels_by_brute_force(rng: np.random.Generator) -> None:
    scores, prior = rng.normal(size=(40, 3)), rng.random((40, 3))
    target = rng.random((40, 3)) < 0.4
    target[:, 2] = False
    target[:2, 2] = True  # too few to be split
    found = {name: value for name, value, _ in metric_by_third(scores, prior, list(target.T), several=True)}
    for number, name in enumerate(("typical", "middle", "atypical")):
        values = []
        for k in (0, 1):
            positives = sorted(np.flatnonzero(target[:, k]), key=lambda i: -prior[i, k])
            part = np.array_split(np.array(positives), 3)[number]
            others = np.flatnonzero(~target[:, k])
            truth = np.r_[np.ones(len(part)), np.zeros(len(others))]
            values.append(100 * average_precision_score(truth, scores[np.r_[part, others], k]))
        assert found[name] == pytest.approx(np.mean(values))
    uninformed = metric_by_third(np.zeros((40, 3)), prior, list(target.T), several=True)
    chance = [chance_in_third(list(target.T))] * 3
    assert [value for _, value, _ in uninformed] == pytest.approx(chance, abs=2), "thirds differ by one person"


def test_rows_count_those_whom_a_number_rests_on() -> None:
    rows = RowMaker("test", ["a", "b", "c"], np.array([0, 0, 1]))
    effect = list(rows.effect("TIE", np.array([[1.0, 2, 3], [3, 4, 5], [5, 9, 0]])))
    assert [(row.name, row.label, row.value, row.samples) for row in effect] == [
        ("TIE", "a", 3.0, 3), ("TIE", "b", 5.0, 3), ("TIE", "c", pytest.approx(8 / 3), 3),
        ("TIE.own", "a", 2.0, 2), ("TIE.own", "b", 9.0, 1),
    ]  # fmt: skip
    share = list(rows.share("moved", np.array([True, False, True])))
    assert [(row.label, row.samples) for row in share] == [(None, 3), ("a", 2), ("b", 1)]
    assert find_value(share, "test", "moved", "a") == 50
    assert find_value(share, "test", "moved", "c") is None
