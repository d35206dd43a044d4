"""Each number against an independent library, or against a definition written out slowly."""

import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sklearn

from clef import metrics, results
from clef.config import CellConfig, resolve
from clef.errors import CellError, ConfigError
from clef.metrics import CONVENTIONS, average_precision, ranking_curve, voc_eleven_points
from clef.results import predictions
from clef.results.predictions import Measure, measures

Values = dict[tuple[str, str, str], Measure]
BRANCH = {"network": "resnet18", "width": 0.25, "weights": "none"}


def by_name(found: list[Measure]) -> Values:
    table = {(one.metric, one.part, one.class_name): one for one in found}
    assert len(table) == len(found), "no number twice"
    return table


def several(seed: int, people: int = 60, ties: bool = True) -> dict[str, np.ndarray]:
    """Predictions with several labels; the last class has no positive."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 9, (people, 5)) / 4 if ties else rng.normal(size=(people, 5))
    target = (rng.random((people, 5)) < [0.1, 0.3, 0.5, 0.9, 0]).astype(np.float32)
    target[0, :4] = 1
    return {"scores": scores.astype(np.float32), "target": target}


def one_label(seed: int) -> dict[str, np.ndarray]:
    """Predictions with one label; the last class has no sample, but is predicted."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 4, 80)
    return {"scores": rng.normal(size=(80, 5)) + np.eye(5)[target], "target": target}


CLASSES = list("abcde")


def slow_voc(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Both of VOC's, in exact fractions, threshold by threshold."""
    total = int(positive.sum())
    points = []
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        hits = int((positive & chosen).sum())
        points.append((Fraction(hits, total), Fraction(hits, int(chosen.sum()))))

    def best(recall: Fraction) -> Fraction:
        return max(precision for reached, precision in points if reached >= recall)

    recalls = [Fraction(0), *(recall for recall, _ in points)]
    area = sum(((b - a) * best(b) for a, b in pairwise(recalls)), Fraction(0))
    return float(100 * area), float(100 * sum(best(Fraction(i, 10)) for i in range(11)) / 11)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_in_three_conventions(seed: int, ties: bool) -> None:
    arrays = several(seed, ties=ties)
    scores, target = arrays["scores"], arrays["target"]
    found = by_name(measures(arrays, CLASSES, None))
    for k, name in enumerate("abcd"):
        expected = 100 * sklearn.average_precision_score(target[:, k], scores[:, k])
        assert found["AP", "score", name].value == pytest.approx(expected)
        area, eleven = slow_voc(scores[:, k], target[:, k] > 0)
        assert found["AP VOC", "score", name].value == pytest.approx(area)
        assert found["AP VOC 11-point", "score", name].value == pytest.approx(eleven)
        assert found["AP", "score", name].chance == pytest.approx(100 * target[:, k].mean())
        assert found["AP", "score", name].positives == target[:, k].sum()
    for convention in ("", " VOC", " VOC 11-point"):
        assert (f"AP{convention}", "score", "e") not in found, "a class without a positive has none"
        mean = np.mean([found[f"AP{convention}", "score", name].value for name in "abcd"])
        assert found[f"mAP{convention}", "score", ""].value == pytest.approx(mean)
    assert found["mAP", "score", ""].chance == pytest.approx(100 * target[:, :4].mean())


def test_voc_by_the_worked_example_of_padilla_et_al() -> None:
    # "A Survey on Performance Metrics for Object-Detection Algorithms" (2020), whose 24 detections find 7 of 15
    # objects. Those that are never found stand behind a million others: their precision is as good as none.
    found = np.isin(np.arange(1, 25), [1, 3, 10, 12, 13, 14, 23])
    positive = np.concatenate([found, np.zeros(10**6, bool), np.ones(8, bool)])
    values = {
        name: average_precision(-np.arange(len(positive))[:, None], positive[:, None], name) for name in CONVENTIONS
    }
    assert values[" VOC"][0] == pytest.approx(24.56, abs=0.01), "they cut digits on the way"
    assert values[" VOC 11-point"][0] == pytest.approx(26.84, abs=0.01)


def test_scores_that_know_nothing_reach_the_prevalence_in_every_convention() -> None:
    arrays = several(0)
    arrays["scores"][:] = 1
    for convention in CONVENTIONS:
        values = average_precision(arrays["scores"], arrays["target"], convention)
        assert values[:4] == pytest.approx(100 * arrays["target"][:, :4].mean(0))
        assert np.isnan(values[4])


def test_eleven_points_lose_none_to_rounding() -> None:
    # 10 positives, of which 3 are found at once: floats have 3 / 10 below 0.30000000000000004 and lose that step.
    positive = np.array([True] * 3 + [False] * 30 + [True] * 7)
    found = voc_eleven_points(*ranking_curve(-np.arange(40.0), positive))
    assert found == pytest.approx((4 * 1 + 7 * 10 / 40) / 11)


@pytest.mark.parametrize("seed", range(3))
def test_one_label_against_scikit_learn(seed: int) -> None:
    arrays = one_label(seed)
    scores, target = arrays["scores"], arrays["target"]
    said = scores.argmax(1)
    found = by_name(measures(arrays, CLASSES, None))
    assert found["accuracy", "score", ""].value == pytest.approx(100 * sklearn.accuracy_score(target, said))
    assert found["accuracy", "score", ""].chance == 20
    f1 = sklearn.f1_score(target, said, labels=range(4), average=None)
    recall = sklearn.recall_score(target, said, labels=range(4), average=None)
    table = sklearn.confusion_matrix(target, said, labels=range(5), normalize="true")
    for k, name in enumerate("abcd"):
        assert found["F1", "score", name].value == pytest.approx(100 * f1[k])
        assert found["accuracy", "score", name].value == pytest.approx(100 * recall[k])
        assert found["accuracy", "score", name].positives == (target == k).sum()
        for j, other in enumerate(CLASSES):
            assert found["confusion", "score", f"{name} > {other}"].value == pytest.approx(100 * table[k, j])
    assert found["macro F1", "score", ""].value == pytest.approx(100 * f1.mean())
    assert not any(key[2].startswith("e") for key in found), "a class without a sample has no numbers"


def test_every_part_of_the_prediction_is_scored() -> None:
    rng = np.random.default_rng(0)
    arrays = one_label(0) | {name: rng.normal(size=(80, 5)) for name in ("Y_e", "Y_c", "Y_e*")}
    found = by_name(measures(arrays, CLASSES, None))
    for part, scores in {**arrays, "factual": arrays["Y_e"] + arrays["Y_c"]}.items():
        if part in ("Y_e", "Y_c", "factual"):
            expected = 100 * sklearn.accuracy_score(arrays["target"], scores.argmax(1))
            assert found["accuracy", part, ""].value == pytest.approx(expected)
    assert {key[1] for key in found} == {"score", "Y_e", "Y_c", "factual"}


def test_errors_of_vad_are_over_what_is_known() -> None:
    rng = np.random.default_rng(0)
    vad = {"vad": rng.random((60, 3)) * 9 + 1, "vad_target": rng.integers(1, 11, (60, 3)).astype(float)}
    vad["vad_target"][:7] = np.nan
    vad["vad_target"][20, 1] = np.nan
    found = by_name(measures(several(0) | vad, CLASSES, None))
    known = ~np.isnan(vad["vad_target"])
    expected = sklearn.mean_absolute_error(vad["vad_target"][known], vad["vad"][known])
    assert found["VAD error", "vad", ""].value == pytest.approx(expected)
    arousal = np.abs(vad["vad"] - vad["vad_target"])[known[:, 1], 1].mean()
    assert found["VAD error", "vad", "Arousal"].value == pytest.approx(arousal)
    assert found["VAD error", "vad", "Arousal"].positives == 52


def slow_error(probability: np.ndarray, true: np.ndarray) -> float:
    total = 0.0
    for i in range(15):
        inside = (probability > i / 15) & (probability <= (i + 1) / 15) | ((probability == 0) & (i == 0))
        if inside.any():
            total += inside.mean() * abs(probability[inside].mean() - true[inside].mean())
    return 100 * total


def config(dataset: str, **method: object) -> CellConfig:
    return resolve.resolve({"dataset": dataset, "backbone": "caer_net", "method": method})


def test_calibration_of_several_labels_and_its_bins_against_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    arrays = several(3, 400, ties=False)
    found = by_name(measures(arrays, CLASSES, config("emotic", name="vanilla")))
    probability = 1 / (1 + np.exp(-arrays["scores"].astype(float)))
    flat, true = probability.ravel(), arrays["target"].ravel()
    assert found["ECE", "score", ""].value == pytest.approx(slow_error(flat, true))
    assert found["ECE", "score", "b"].value == pytest.approx(slow_error(probability[:, 1], arrays["target"][:, 1]))
    observed, stated = calibration_curve(true, flat, n_bins=15)
    shown = [key[2] for key in found if key[0] == "reliability, stated"]
    assert [found["reliability, stated", "score", one].value for one in shown] == pytest.approx(100 * stated)
    assert [found["reliability, observed", "score", one].value for one in shown] == pytest.approx(100 * observed)
    assert sum(found["reliability, stated", "score", one].positives or 0 for one in shown) == 2000


def test_calibration_of_one_label_is_that_of_the_class_decided_for() -> None:
    arrays = one_label(0)
    found = by_name(measures(arrays, CLASSES, config("caer_s", name="vanilla")))
    powers = np.exp(arrays["scores"])
    probability = powers / powers.sum(1, keepdims=True)
    right = probability.argmax(1) == arrays["target"]
    assert found["ECE", "score", ""].value == pytest.approx(slow_error(probability.max(1), right))


def test_calibration_by_the_examples_in_torchmetrics_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "BINS", 3)
    probability = np.array([[0.25, 0.20, 0.55], [0.55, 0.05, 0.40], [0.10, 0.30, 0.60], [0.90, 0.05, 0.05]])
    one = {"scores": np.log(probability), "target": np.array([0, 1, 2, 0])}
    found = by_name(measures(one, list("abc"), config("caer_s", name="vanilla")))
    assert found["ECE", "score", ""].value == pytest.approx(20.00)
    monkeypatch.setattr(metrics, "BINS", 2)
    stated = np.array([[0.25, 0.25, 0.55, 0.75, 0.75]]).T
    several = {"scores": np.log(stated / (1 - stated)), "target": np.array([[0, 0, 1, 1, 1]]).T}
    found = by_name(measures(several, ["a"], config("emotic", name="vanilla")))
    assert found["ECE", "score", ""].value == pytest.approx(29.00)


def test_clef_is_judged_by_its_factual_prediction_as_its_loss_takes_it() -> None:
    rng = np.random.default_rng(1)
    logits = {"Y_e": rng.normal(size=(80, 5)), "Y_c": rng.normal(size=(80, 5)), "Y_e*": np.zeros((80, 5))}
    sigmoid = 1 / (1 + np.exp(-logits["Y_e"] - logits["Y_c"]))
    one, many = one_label(1) | logits, several(1, 80) | logits
    literal = metrics.stated_probabilities(one, config("caer_s", name="clef", context_branch=BRANCH))
    summed = metrics.stated_probabilities(one, config("caer_s", name="clef", context_branch=BRANCH, single_label="sum"))
    labels = metrics.stated_probabilities(many, config("emotic", name="clef", context_branch=BRANCH))
    assert literal
    assert summed
    assert labels
    assert {literal[0], summed[0], labels[0]} == {"factual"}
    np.testing.assert_allclose(literal[1], sigmoid / sigmoid.sum(1, keepdims=True))
    powers = np.exp(logits["Y_e"] + logits["Y_c"])
    np.testing.assert_allclose(summed[1], powers / powers.sum(1, keepdims=True))
    np.testing.assert_allclose(labels[1], sigmoid)


def test_a_method_with_two_parts_that_is_not_clef_is_judged_by_its_scores() -> None:
    arrays = one_label(0)
    arrays |= {"Y_e": arrays["scores"], "Y_c": np.random.default_rng(2).normal(size=(80, 5))}
    part, probability = metrics.stated_probabilities(arrays, config("caer_s", name="vanilla")) or ("", None)
    assert part == "score"
    powers = np.exp(arrays["scores"])
    np.testing.assert_allclose(probability, powers / powers.sum(1, keepdims=True))
    found = by_name(measures(arrays, CLASSES, config("caer_s", name="vanilla")))
    assert {part for metric, part, _ in found if metric == "ECE"} == {"score"}


def test_metrics_that_share_the_name_of_a_class_give_its_number_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def median(scores: np.ndarray, target: np.ndarray) -> float:
        return float(np.nanmedian(average_precision(scores, target)))

    again = metrics.Metric("median AP", "AP", "multi_label", average_precision, median)
    monkeypatch.setitem(metrics.METRICS, "median AP", again)
    arrays = several(0)
    for headline in (None, "median AP"):
        found = measures(arrays, CLASSES, None, headline)
        assert found[0].metric == (headline or "mAP")
        values = by_name(found)
        assert [values["AP", "score", name].value for name in "abcd"] == pytest.approx(
            average_precision(arrays["scores"], arrays["target"])[:4].tolist()
        )


def test_what_is_no_probability_is_not_called_calibrated() -> None:
    mine = {"name": "tests.methods.fakes:Mine"}
    assert metrics.stated_probabilities(one_label(0), config("caer_s", **mine)) is None
    says = metrics.stated_probabilities(one_label(0), config("caer_s", **mine, probabilities=True))
    assert says
    assert says[0] == "score"
    np.testing.assert_allclose(says[1].sum(1), 1)
    regresses = {"dataset": "emotic", "backbone": "emot_net", "method": {"name": "vanilla", "output": "linear"}}
    linear = metrics.stated_probabilities(several(0), resolve.resolve(regresses))
    assert linear
    np.testing.assert_array_equal(linear[1], np.clip(several(0)["scores"], 0, 1))


# ---- scores of a user's own ----

KINDS: dict[str, Any] = {
    "arrays": np.asarray,
    "lists": lambda values: np.asarray(values).tolist(),
    "frames": lambda values: pd.DataFrame(np.asarray(values)) if np.ndim(values) == 2 else pd.Series(values),
    "tensors": lambda values: torch.tensor(np.asarray(values)),
    "tensors that are trained": lambda values: torch.tensor(
        np.asarray(values), dtype=torch.float64, requires_grad=True
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [several, one_label])
def test_scores_of_ones_own_give_what_a_cell_gets(kind: str, make: Any) -> None:
    arrays = make(0)
    found = results.measures(KINDS[kind](arrays["scores"]), KINDS[kind](arrays["target"]), CLASSES)
    expected = by_name(measures(arrays, CLASSES, None))
    assert len(found) == len(expected)
    for row in found.itertuples():
        number = expected[row.metric, "score", row.class_name]
        assert row.value == pytest.approx(number.value)
        assert (row.positives is pd.NA) == (number.positives is None)


def levels(seed: int) -> dict[str, np.ndarray]:
    """Scores of a few levels, 0 among them, which every type of number holds."""
    rng = np.random.default_rng(seed)
    return {"scores": rng.integers(0, 4, (60, 5)), "target": rng.integers(0, 2, (60, 5))}


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float16", "bfloat16", "int64"])
def test_scores_of_any_type_of_number_against_scikit_learn(dtype: str) -> None:
    arrays = levels(0)
    scores = torch.tensor(arrays["scores"]).to(getattr(torch, dtype))
    found = results.measures(scores if dtype == "bfloat16" else scores.numpy(), arrays["target"])
    expected = 100 * sklearn.average_precision_score(arrays["target"], arrays["scores"])
    assert found["value"][0] == pytest.approx(expected)


def test_yes_and_no_are_scores_too() -> None:
    arrays = levels(1)
    yes = arrays["scores"] > 1
    expected = 100 * sklearn.average_precision_score(arrays["target"], yes.astype(float))
    assert results.measures(yes, arrays["target"])["value"][0] == pytest.approx(expected)


def test_bool_targets_names_and_the_first_metric() -> None:
    arrays = several(0)
    found = results.measures(arrays["scores"], arrays["target"] > 0, metric="mAP VOC")
    assert found.iloc[0][["metric", "class_name"]].tolist() == ["mAP VOC", ""]
    assert set(found["class_name"]) == {"", *"0123"}, "nobody has the last class"
    frames = (pd.DataFrame(arrays[name], columns=CLASSES) for name in ("scores", "target"))
    assert set(results.measures(*frames)["class_name"]) == {"", *"abcd"}


SCORES, LABELS = several(0)["scores"][:6].astype(float), several(0)["target"][:6].astype(float)


@pytest.mark.parametrize(
    ("scores", "target", "message"),
    [
        (LABELS, SCORES, "target: 0 or 1 is expected .* scores are 0 and 1: were the two exchanged"),
        (SCORES, LABELS * 0.5, r"target: 0 or 1 is expected for each class, not 0\.5$"),
        (SCORES, np.where(LABELS, np.nan, 0), "target: 0 or 1 is expected for each class, not nan"),
        (SCORES, [1, 2, 3, 4, 5, 5], "indices of classes, 0 to 4, are expected, not 5; do they count from 1"),
        (SCORES, [0, -1, 2, 3, 0.5, 1], r"indices of classes, 0 to 4, are expected, not -1, 0\.5$"),
        (SCORES, LABELS[:5], r"target: 6,5 .* or 6 .* is expected for scores of 6,5, not 5,5"),
        (SCORES, LABELS[:, :1], "for scores of 6,5, not 6,1"),
        (SCORES[:, 0], LABELS[:, 0], "scores: N,K is expected, .* not 6$"),
        (np.where(SCORES > 1, np.inf, SCORES), LABELS, r"scores: \d+ of 30 are not finite"),
        (SCORES, list("abcabc"), "target: an array of numbers is expected, not of <U1"),
        (SCORES, [[1], [2, 3]], "target: an array of numbers is expected"),
        (None, LABELS, "scores: an array of numbers is expected, not of object"),
        (pd.DataFrame(SCORES, columns=CLASSES), pd.DataFrame(LABELS, columns=CLASSES[::-1]), "the same columns"),
    ],
)
def test_what_is_no_scores_and_labels_is_named(scores: Any, target: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        results.measures(scores, target)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"classes": ["a", "b"]}, "classes: different names are expected, one for each of 5"),
        ({"classes": list("aabcd")}, "classes: different names are expected"),
        ({"metric": "accuracy"}, "metric 'accuracy' of a target of 6,5: unknown; valid: mAP"),
    ],
)
def test_other_names_and_metrics_are_refused(stated: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        results.measures(SCORES, LABELS, **stated)


def test_without_any_label_there_are_no_measures() -> None:
    with pytest.raises(CellError, match="nobody has any label"):
        results.measures(SCORES, LABELS * 0)


def test_the_example_of_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(import numpy.*?)```", page, re.S)
    exec(example, {})
    printed = capsys.readouterr().out
    assert {"mAP VOC 11-point", "tense", "macro F1", "0 > 1"} <= set(re.split(r"\s{2,}|\n", printed))


def test_a_file_of_predictions_with_other_targets_is_refused(tmp_path: Path) -> None:
    arrays = several(0) | {"index": np.arange(60)}
    np.savez(tmp_path / "predictions-test.npz", **(arrays | {"target": arrays["target"] * 0.3}))  # type: ignore[arg-type]
    with pytest.raises(CellError, match=r"predictions-test\.npz: target holds 0\.3, where 0 or 1 is expected"):
        predictions.load(tmp_path, "test", 60, 5)
