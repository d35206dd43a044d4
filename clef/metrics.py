"""What is computed from predictions: CLEF's effects, probabilities, metrics, and calibration. NumPy only, no torch.

`METRICS` is the one table of metrics. A dataset's card names one of them as its headline; all metrics of the card's
task are reported. To add a metric, add an entry to the table. All metrics are in percent.

`arrays` are the predictions of a split or batch as `clef.engine.evaluation` returns them: `scores` N,K, `target` N (one
label) or N,K (several), and the logits that the method has: `Y_e` of its backbone, `Y_c` of its context branch, and
`Y_e*`, what stands for `Y_e` where the subject isn't seen. K is the number of classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from clef.errors import CellError

if TYPE_CHECKING:
    from clef.config import CellConfig

Arrays = Mapping[str, np.ndarray]


# Effects and probabilities


def log_sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return log sigmoid without overflow, exact where the sigmoid itself would round to 0 or 1."""
    return -np.logaddexp(0, -logits.astype(float))


def factual(arrays: Arrays) -> np.ndarray:
    """Return the logits N,K of the factual prediction: as the method states them, else Y_c + Y_e, or what there is."""
    if "factual" in arrays:
        return arrays["factual"]
    branches = [arrays[name] for name in ("Y_c", "Y_e") if name in arrays]
    return np.sum(branches, axis=0) if branches else arrays["scores"]


def counterfactual(arrays: Arrays) -> np.ndarray | None:
    """Return the logits N,K of the prediction without a subject, Y_c + Y_e*; None unless CLEF fuses by a sum."""
    if "Y_e*" not in arrays or "factual" in arrays:
        return None
    result: np.ndarray = arrays.get("Y_c", 0) + arrays["Y_e*"]
    return result


def stated_logits(arrays: Arrays) -> np.ndarray:
    """Return the logits N,K that state a method's probabilities: CLEF's factual prediction, any other's scores."""
    return factual(arrays) if "Y_e*" in arrays else arrays["scores"]


def effects(arrays: Arrays) -> dict[str, np.ndarray]:
    """Return TE, NDE and TIE = TE - NDE, each N,K, as CLEF defines them (equations 5-9); {} unless it fuses by a sum.

    The paper never needs the reference Y_{c*,e*}, where neither subject nor context is seen. Here it is
    log sigmoid(Y_e*): a branch that sees nothing adds nothing.
    """
    without_subject = counterfactual(arrays)
    if without_subject is None:
        return {}
    seen, unseen = log_sigmoid(factual(arrays)), log_sigmoid(without_subject)
    reference = log_sigmoid(arrays["Y_e*"])
    return {"TE": seen - reference, "NDE": unseen - reference, "TIE": seen - unseen}


def probabilities(config: "CellConfig", logits: np.ndarray) -> np.ndarray | None:
    """Return the probabilities N,K that a cell's method gives for logits; None for a method that gives none."""
    if config.activation in _SOFTMAX_INPUTS:
        from scipy.special import softmax  # slow to import

        return np.asarray(softmax(_SOFTMAX_INPUTS[config.activation](logits), axis=-1))
    if config.activation == "sigmoid":
        return np.exp(log_sigmoid(logits))
    return np.clip(logits, 0, 1) if config.activation == "linear" else None


def log_probabilities(config: "CellConfig", logits: np.ndarray) -> np.ndarray | None:
    """Return the logarithms of `probabilities`, exact near 0 and 1; None for linear outputs too: many are 0."""
    if config.activation in _SOFTMAX_INPUTS:
        from scipy.special import log_softmax  # slow to import

        return np.asarray(log_softmax(_SOFTMAX_INPUTS[config.activation](logits), axis=-1))
    return log_sigmoid(logits) if config.activation == "sigmoid" else None


_SOFTMAX_INPUTS: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": lambda logits: logits.astype(float),
    "softmax_of_log_sigmoid": log_sigmoid,
}
"""What the softmax takes, by `CellConfig.activation`."""


# Average precision
#
# Three conventions are in use. They differ by points on the same scores, and papers seldom say which they mean. In all
# of them equal scores are one step of the ranking, and a class without a positive has no average precision (NaN).


def average_precision(scores: np.ndarray, target: np.ndarray, convention: str = "") -> np.ndarray:
    """Return the AP of each class in percent, K, by a convention of `CONVENTIONS`. Scores and target are N,K."""
    area = CONVENTIONS[convention]
    curves = [ranking_curve(scores[:, k], target[:, k] > 0) for k in range(target.shape[1])]
    return np.array([100 * area(hits, seen) if hits[-1] else np.nan for hits, seen in curves])


def ranking_curve(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many positives (`hits`) and how many samples (`seen`) have at least each score, highest score first.

    Scores and `positive` (bool) are N; both results have one entry for each distinct score.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    return np.cumsum(positive[order])[ends], ends + 1


def step_area(hits: np.ndarray, seen: np.ndarray) -> float:
    """Return the sum of the precision at each step times the recall that the step adds: scikit-learn's definition."""
    return float((np.diff(hits, prepend=0) * (hits / seen)).sum() / hits[-1])


def voc_area(hits: np.ndarray, seen: np.ndarray) -> float:
    """Return the area below the envelope of precision (Pascal VOC from 2010 on)."""
    return float((np.diff(hits, prepend=0) * _envelope(hits, seen)).sum() / hits[-1])


def voc_eleven_points(hits: np.ndarray, seen: np.ndarray) -> float:
    """Return the mean of the envelope at recalls 0, 0.1 ... 1 (Pascal VOC 2007, and EMOTIC's official code).

    Recalls are compared as integers: 3 of 10 positives do reach a recall of 0.3, which floating point denies.
    """
    first = np.searchsorted(10 * hits, np.arange(11) * hits[-1])
    return float(_envelope(hits, seen)[first].mean())


def _envelope(hits: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return, at each step, the best precision at that recall or a higher one."""
    return np.maximum.accumulate((hits / seen)[::-1])[::-1]


CONVENTIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "": step_area,
    " VOC": voc_area,
    " VOC 11-point": voc_eleven_points,
}
"""The conventions of average precision, by what follows `AP` or `mAP` in a metric's name."""


def resampled_average_precision(
    scores: np.ndarray, positive: np.ndarray, group: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Return the AP of one class (`step_area`, as a fraction) in each of R resamples; NaN in one without a positive.

    Scores, `positive` (bool) and `group` (each sample's number) are N. `counts`, groups,R: how often each group was
    drawn. Only steps of the ranking that hold a positive matter. So samples are counted from one such step to the next,
    by the product of a sparse matrix, steps x groups, with `counts`.
    """
    from scipy.sparse import csr_array  # slow to import

    order = np.argsort(-scores, kind="stable")
    hit, groups = positive[order], group[order]
    step = np.cumsum(np.append(False, np.diff(scores[order]) != 0))
    kept = np.unique(step[hit])
    interval = np.searchsorted(kept, step)

    def count(chosen: np.ndarray) -> np.ndarray:
        ones = np.ones(int(chosen.sum()), np.float32)
        matrix = csr_array((ones, (interval[chosen], groups[chosen])), shape=(len(kept), len(counts)))
        return np.asarray(matrix @ counts)

    hits, seen = count(hit), count(interval < len(kept)).cumsum(axis=0)
    with np.errstate(invalid="ignore"):
        precision = np.where(seen > 0, hits.cumsum(axis=0) / seen, 0)
        return np.asarray((hits * precision).sum(axis=0, dtype=float) / hits.sum(axis=0, dtype=float))


def _resampled_map(scores: np.ndarray, target: np.ndarray, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return mAP in each resample: a mean over the classes that have a positive among those drawn."""
    positive = target > 0
    classes = np.flatnonzero(positive.any(0))
    values = np.stack([resampled_average_precision(scores[:, k], positive[:, k], group, counts) for k in classes])
    present = (~np.isnan(values)).sum(axis=0)
    with np.errstate(invalid="ignore"):  # NaN where nobody with any label was drawn
        return np.asarray(100 * np.nansum(values, axis=0) / present)


def _prevalence(target: np.ndarray) -> np.ndarray:
    """Return the share of samples that have each class, in percent, K."""
    return 100 * target.sum(0).astype(int) / len(target)


def _mean_prevalence(target: np.ndarray, classes: int) -> float:
    """Return the mean prevalence of the classes that have a positive, in percent: what mAP is without knowledge."""
    prevalence = target.mean(0)
    return float(100 * prevalence[prevalence > 0].mean())


def label_ranking_precision(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return how high each sample's labels rank among the classes, N: label ranking average precision, 1 is best.

    Scores are N,K, `truth` N,K bool. With one label it is 1 / rank; equal scores share the lower rank; without a label
    it is 1. scikit-learn has the mean over samples only, and calling it for each sample takes minutes on CAER-S.
    """
    at_least = scores[:, None, :] >= scores[:, :, None]  # N,K,K: for each class, which classes score as high
    precision = (at_least & truth[:, None, :]).sum(2) / at_least.sum(2)
    labels = truth.sum(1)
    return np.where(labels > 0, (precision * truth).sum(1) / np.maximum(labels, 1), 1.0)


# Accuracy and F1


def confusion_matrix(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return how often each class (rows) was predicted as each class (columns), K,K. Scores are N,K, target N."""
    classes = scores.shape[1]
    return np.bincount(target * classes + scores.argmax(1), minlength=classes * classes).reshape(classes, classes)


def accuracy(scores: np.ndarray, target: np.ndarray) -> float:
    """Return the share of samples whose highest score is the target's, in percent."""
    return float(100 * (scores.argmax(1) == target).mean())


def recall(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return each class's accuracy in percent, K; NaN for a class without a sample."""
    matrix = confusion_matrix(scores, target)
    with np.errstate(invalid="ignore"):
        return np.asarray(100 * matrix.diagonal() / matrix.sum(1))


def f1(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return each class's F1 in percent, K; NaN for a class without a sample."""
    matrix = confusion_matrix(scores, target)
    positives = matrix.sum(1)
    with np.errstate(invalid="ignore"):
        return np.where(positives > 0, 200 * matrix.diagonal() / (matrix.sum(0) + positives), np.nan)


def _resampled_accuracy(scores: np.ndarray, target: np.ndarray, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the accuracy in each resample."""
    hits = np.bincount(group, scores.argmax(1) == target, minlength=len(counts))
    sizes = np.bincount(group, minlength=len(counts))
    return np.asarray(100 * (hits @ counts) / (sizes @ counts))


def _mean_of_classes(by_class: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., float]:
    """Return a metric of a split: the mean of `by_class` over the classes that have one."""

    def mean(scores: np.ndarray, target: np.ndarray) -> float:
        values = by_class(scores, target)
        return float(values[~np.isnan(values)].mean())

    return mean


# The table of metrics


@dataclass(frozen=True)
class Metric:
    """A metric of a split and of each of its classes, in percent. Scores are N,K, target N,K or N."""

    name: str
    class_metric: str
    """What the number of one class is called. Metrics that share this name share `by_class`, too."""
    task: Literal["multi_label", "single_label"]
    by_class: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Of scores and target: each class's number, K; NaN where a class has no sample."""
    overall: Callable[[np.ndarray, np.ndarray], float]
    """Of scores and target: the number of all classes."""
    chance: Callable[[np.ndarray, int], float] | None = None
    """Of target and K: what scores that know nothing reach; None where that isn't known."""
    chance_by_class: Callable[[np.ndarray, int], np.ndarray] | None = None
    """The same for each class, K."""
    resampled: Callable[..., np.ndarray] | None = None
    """Of scores, target, group and counts, as in `resampled_average_precision`: the number in each resample. It is a
    faster way to compute what `overall` gives on the repeated samples; without it that is done."""
    of_parts: bool = True
    """Whether the parts of a prediction (factual, Y_e, Y_c) are reported with it, too."""


def _map(convention: str, resampled: Callable[..., np.ndarray] | None = None) -> Metric:
    """Return mean average precision by a convention."""

    def by_class(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
        return average_precision(scores, target, convention)

    return Metric(
        f"mAP{convention}", f"AP{convention}", "multi_label", by_class, _mean_of_classes(by_class),
        _mean_prevalence, lambda target, classes: _prevalence(target), resampled, of_parts=not convention,
    )  # fmt: skip


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _map("", _resampled_map),
        _map(" VOC"),
        _map(" VOC 11-point"),
        Metric(
            "accuracy", "accuracy", "single_label", recall, accuracy,
            lambda target, classes: 100 / classes, lambda target, classes: np.full(classes, 100 / classes),
            _resampled_accuracy,
        ),
        Metric("macro F1", "F1", "single_label", f1, _mean_of_classes(f1)),
    )
}  # fmt: skip
"""Every metric, by its name. Any of them can be a card's headline (`metric: NAME`)."""
USUAL = {"multi_label": "mAP", "single_label": "accuracy"}
"""The headline metric of a card that names none, by its task."""


def find_metric(target: np.ndarray, name: str | None) -> Metric:
    """Return the metric called `name`; None: the usual one for such a target, N or N,K."""
    return METRICS[name or USUAL["multi_label" if target.ndim == 2 else "single_label"]]


def headline_score(scores: np.ndarray, target: np.ndarray, metric: str | None = None) -> float:
    """Return the metric called `metric` (None: the usual one of the task); NaN where it has no value.

    Raises CellError for scores that are not finite, and where nobody has a label.
    """
    if not np.isfinite(scores).all():
        raise CellError("some scores are not finite: no metric is computed from them")
    check_labels(target)
    return find_metric(target, metric).overall(scores, target)


def check_labels(target: np.ndarray) -> None:
    """Raise CellError where the target N or N,K holds no label at all."""
    if not (target.any() if target.ndim == 2 else len(target)):
        raise CellError("nobody has any label: no metric is computed")


def or_none(value: float | None) -> float | None:
    """Return a number, with None for NaN: it has no value."""
    return None if value is None or np.isnan(value) else value


def format_score(value: float | None) -> str:
    """Return a metric with two digits, as commands print it."""
    return "undefined" if value is None else f"{value:.2f}"


def per_class(
    scores: np.ndarray, target: np.ndarray, classes: list[str], metric: str | None = None
) -> dict[str, float]:
    """Return the metric of each class that has one, by the class's name."""
    values = find_metric(target, metric).by_class(scores, target)
    return {name: float(value) for name, value in zip(classes, values, strict=True) if not np.isnan(value)}


def chance(target: np.ndarray, classes: int, metric: str | None = None) -> float | None:
    """Return what scores that know nothing reach, in percent; None where that isn't known for the metric."""
    compute = find_metric(target, metric).chance
    return compute(target, classes) if compute else None


def prediction_parts(arrays: Arrays) -> dict[str, np.ndarray]:
    """Return what can be scored of a prediction, each N,K: `score` (what the method ranks by), Y_e, Y_c, factual."""
    parts = {"score": arrays["scores"]} | {name: arrays[name] for name in ("Y_e", "Y_c") if name in arrays}
    return parts | ({"factual": factual(arrays)} if {"Y_c", "Y_e"} <= arrays.keys() else {})


def summary(arrays: Arrays, classes: list[str], metric: str | None = None) -> dict[str, Any]:
    """Return what a cell records of a split: the metric, its chance level, each class, and each part (`variants`).

    A number that has no value is None, and a class without one is left out.
    """
    target = arrays["target"]
    parts = prediction_parts(arrays).items()
    values = {part: or_none(headline_score(scores, target, metric)) for part, scores in parts}
    return {
        "value": values.pop("score"),
        "chance": or_none(chance(target, len(classes), metric)),
        "samples": len(target),
        "per_class": per_class(arrays["scores"], target, classes, metric),
        "variants": values,
    }


def check_coverage(index: np.ndarray, samples: int) -> None:
    """Raise CellError unless predictions, by the `index` of each, cover every sample of a split exactly once."""
    counts = np.bincount(index, minlength=samples)
    if len(counts) != samples or (counts != 1).any():
        missing, twice = int((counts == 0).sum()), int((counts > 1).sum())
        raise CellError(
            f"predictions for {len(index)} of {samples} samples ({missing} missing, {twice} more than once): "
            "no metric is computed without full coverage"
        )


# Calibration

BINS = 15
"""Bins of equal width, as in Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017)."""


@dataclass(frozen=True)
class CalibrationBin:
    """One bin of stated probabilities."""

    number: int
    """From 1 on."""
    count: int
    """How many predictions are in it."""
    stated: float
    """The mean of their probabilities."""
    observed: float
    """The share of them that came true."""


def calibration_bins(probability: np.ndarray, true: np.ndarray) -> list[CalibrationBin]:
    """Return the bins that aren't empty. Both inputs are flat; `true` is 1 where the prediction came true.

    A bin includes its upper end.
    """
    bins = np.clip(np.ceil(probability * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    stated, observed = (np.bincount(bins, values, BINS) for values in (probability, true))
    return [
        CalibrationBin(i + 1, int(counts[i]), float(stated[i] / counts[i]), float(observed[i] / counts[i]))
        for i in np.flatnonzero(counts).tolist()
    ]


def calibration_error(bins: list[CalibrationBin]) -> float:
    """Return the expected calibration error in percent: |stated - observed|, averaged over all predictions."""
    total = sum(part.count for part in bins)
    return 100 * sum(part.count * abs(part.stated - part.observed) for part in bins) / total


def stated_probabilities(arrays: Arrays, config: "CellConfig") -> tuple[str, np.ndarray] | None:
    """Return the part of a prediction whose calibration is judged, and its probabilities N,K; None where it has none.

    CLEF's score is a difference of logarithms, so its factual prediction is judged, as the loss uses it.
    """
    probability = probabilities(config, stated_logits(arrays))
    if probability is None:
        return None
    if "Y_e*" not in arrays:
        return "score", probability
    return "factual" if "Y_c" in arrays else "Y_e", probability
