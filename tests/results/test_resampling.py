"""The bootstrap: against scikit-learn with weights, against scipy, and that no image is torn apart."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, average_precision_score

from clef import metrics
from clef.data.shards import SplitShards
from clef.engine.evaluation import sample_groups
from clef.results import intervals
from clef.results.intervals import center, draw_groups, percentile_interval, resample_metric, resample_seeds


def people(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, targets of four classes (one without a positive, one with a single one), groups."""
    scores = rng.integers(0, 12, (count, 4)) / 4
    target = (rng.random((count, 4)) < [0.2, 0.6, 0, 0]).astype(np.float32)
    target[3, 3] = 1
    return scores, target, np.arange(count) // 3


@pytest.mark.parametrize("seed", range(3))
def test_map_of_a_resample_is_scikit_learns_with_so_many_of_each_person(seed: int) -> None:
    scores, target, group = people(np.random.default_rng(seed), 60)
    drawn = draw_groups(group, 40)
    found = resample_metric(scores, target, group, drawn)
    without = 0
    for r in range(40):
        weights = drawn[group, r]
        again = np.repeat(np.arange(60), weights.astype(int))  # the people themselves, again and again
        known = [k for k in range(4) if target[again, k].any()]
        without += 3 not in known
        expected = np.mean([100 * average_precision_score(target[again, k], scores[again, k]) for k in known])
        assert found[r] == pytest.approx(expected, rel=1e-5)
    assert without, "else no resample lacked a class"


def test_a_metric_without_a_fast_way_is_resampled_by_repeating_people(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, target, group = people(np.random.default_rng(0), 60)
    drawn = draw_groups(group, 20)
    fast = resample_metric(scores, target, group, drawn)
    slow = intervals.find_metric(target, "mAP")
    monkeypatch.setitem(metrics.METRICS, "mAP", replace(slow, resampled=None))
    assert resample_metric(scores, target, group, drawn) == pytest.approx(fast, rel=1e-5)


def test_accuracy_of_a_resample() -> None:
    rng = np.random.default_rng(0)
    scores, target, group = rng.normal(size=(90, 5)), rng.integers(0, 5, 90), np.arange(90) // 20
    drawn = draw_groups(group, 30)
    found = resample_metric(scores, target, group, drawn)
    for r in range(30):
        expected = 100 * accuracy_score(target, scores.argmax(1), sample_weight=drawn[group, r])
        assert found[r] == pytest.approx(expected, rel=1e-6)


def test_as_many_groups_are_drawn_as_there_are_and_the_same_ones_each_time() -> None:
    group = np.array([0, 0, 1, 2, 2, 2, 3])
    drawn = draw_groups(group, 500)
    assert drawn.shape == (4, 500)
    assert (drawn.sum(0) == 4).all()
    assert np.array_equal(drawn, draw_groups(group, 500))
    assert np.bincount(drawn.astype(int).ravel(), minlength=5) / 2000 == pytest.approx(
        stats.binom.pmf(range(5), 4, 1 / 4), abs=0.03
    )


def torn(shards: Path, group: np.ndarray) -> bool:
    """Whether any resample has the people of one image a different number of times."""
    split = SplitShards(shards / "emotic_demo", "test")
    image = [json.loads(split.read(place, "meta.json") or b"")["image_sha256"] for place in range(len(split))]
    weights = draw_groups(group, 50)[group]
    same = [np.flatnonzero(np.array(image) == one) for one in set(image)]
    return any((weights[places] != weights[places[0]]).any() for places in same)


def test_people_of_one_image_are_drawn_together_and_a_leak_is_caught(shards: Path) -> None:
    good = sample_groups(SplitShards(shards / "emotic_demo", "test"), block=1)
    assert not torn(shards, good)
    shared = int(np.flatnonzero(np.bincount(good) > 1)[0])
    leaking = good.copy()
    leaking[np.flatnonzero(good == shared)[-1]] = good.max() + 1  # one person of one image stands alone
    assert torn(shards, leaking)


def test_torn_images_would_make_numbers_look_surer_than_they_are() -> None:
    """25 people of each image, all right or all wrong together: as good as one person an image."""
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(80) < 0.6, 25)
    scores, target = np.stack([right, ~right], 1).astype(float), np.zeros(2000, int)
    together, alone = np.repeat(np.arange(80), 25), np.arange(2000)
    low, high = percentile_interval(resample_metric(scores, target, together, draw_groups(together)))
    torn_low, torn_high = percentile_interval(resample_metric(scores, target, alone, draw_groups(alone)))
    assert (high - low) / (torn_high - torn_low) == pytest.approx(5, rel=0.15)
    plain = stats.bootstrap((100.0 * right[::25],), np.mean, method="percentile", rng=1).confidence_interval
    assert (low, high) == pytest.approx((plain.low, plain.high), abs=2)


def test_over_seeds_against_scipy_and_every_resample() -> None:
    values = np.array([24.0, 25.5, 27.0, 25.0])
    low, high = percentile_interval(resample_seeds(values))
    every = np.array([np.mean(one) for one in np.array(np.meshgrid(*[values] * 4)).reshape(4, -1).T])
    assert (low, high) == pytest.approx(tuple(np.percentile(every, [2.5, 97.5])), abs=0.3)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=2).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.3)


def test_how_many_are_held_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, target, group = people(np.random.default_rng(5), 45)
    drawn = draw_groups(group, 33)
    whole = resample_metric(scores, target, group, drawn)
    monkeypatch.setattr(intervals, "_CHUNK", 7)
    assert np.array_equal(resample_metric(scores, target, group, drawn), whole)


def test_rare_classes_raise_every_resample_and_the_interval_still_lies_around_the_number() -> None:
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(400, 8)), (rng.random((400, 8)) < 0.05).astype(float)
    group = np.arange(400)
    value = np.mean([100 * average_precision_score(target[:, k], scores[:, k]) for k in range(8)])
    found = resample_metric(scores, target, group, draw_groups(group, 300))
    assert found.mean() > value + 1, "people who come twice stand side by side"
    low, high = percentile_interval(center(found, value))
    assert low < value < high
    assert high - low == pytest.approx(np.subtract(*percentile_interval(found)[::-1]))


def test_resamples_in_which_nobody_has_a_label_are_left_out(recwarn: pytest.WarningsRecorder) -> None:
    scores, target, group = np.arange(8.0).reshape(4, 2), np.zeros((4, 2)), np.arange(4)
    target[2, 1] = 1
    found = resample_metric(scores, target, group, draw_groups(group))
    assert np.isnan(found).mean() == pytest.approx((3 / 4) ** 4, abs=0.05)
    assert np.isfinite(percentile_interval(center(found, 50.0))).all()
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]
