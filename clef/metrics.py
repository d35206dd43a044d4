"""TE, NDE and TIE of predictions that are written down, and their probabilities. NumPy alone: no network is asked.

`arrays` is what `clef.engine.evaluation` gives of a split, or a batch of it: scores, and the effects Y_e, Y_c, Y_e*.

Metrics, in percent, over predictions that cover a split completely.

How far stated probabilities go with what happens: the expected calibration error and its bins. Imports no torch.

Average precision as its three conventions have it, in percent. Imports no torch.

They differ by points on the same scores, and papers seldom say which they mean. Scores that are equal are one step of
the ranking in all of them. A class without a positive has no average precision: NaN.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import log_softmax, softmax

from clef.config import CellConfig, ClefConfig, CustomMethodConfig, VanillaConfig
from clef.errors import CellError

Arrays = Mapping[str, np.ndarray]


def log_sigmoid(logits: np.ndarray) -> np.ndarray:
    """Without overflow, and exact where the sigmoid is 0 or 1."""
    return -np.logaddexp(0, -logits.astype(float))


def factual(arrays: Arrays) -> np.ndarray:
    """The logits of the factual prediction, N,K: Y_c + Y_e, or the one of them that the method has."""
    known = [arrays[name] for name in ("Y_c", "Y_e") if name in arrays]
    return np.sum(known, axis=0) if known else arrays["scores"]


def counterfactual(arrays: Arrays) -> np.ndarray | None:
    """The logits Y_c + Y_e* of the prediction without a subject, N,K; None of a method that has no such thing."""
    if "Y_e*" not in arrays:
        return None
    result: np.ndarray = arrays.get("Y_c", 0) + arrays["Y_e*"]
    return result


def effects(arrays: Arrays) -> dict[str, np.ndarray]:
    """TE, NDE and TIE = TE - NDE, each N,K, as CLEF defines them (equations 5 to 9); nothing of another method.

    The paper never needs the reference Y_{c*,e*}, where neither subject nor context is seen. It is log sigmoid(Y_e*)
    here: a branch that sees nothing adds nothing.
    """
    against = counterfactual(arrays)
    if against is None:
        return {}
    seen, unseen = log_sigmoid(factual(arrays)), log_sigmoid(against)
    nothing = log_sigmoid(arrays["Y_e*"])
    return {"TE": seen - nothing, "NDE": unseen - nothing, "TIE": seen - unseen}


def stated_by(config: CellConfig) -> Literal["softmax", "sigmoid", "linear"] | None:
    """How a cell states probabilities: by a softmax of its logits, a sigmoid of each, as they are, or not at all."""
    method = config.method
    if isinstance(method, CustomMethodConfig) and not method.probabilities:
        return None
    if isinstance(method, VanillaConfig) and method.output == "linear":
        return "linear"
    shared = isinstance(method, ClefConfig) and method.multi_label == "softmax"
    return "softmax" if shared or config.loss.categories == "cross_entropy" else "sigmoid"


def probabilities(config: CellConfig, logits: np.ndarray) -> np.ndarray | None:
    """The probabilities that a cell states by the logits of a prediction, N,K; None of a method that states none."""
    by, result = stated_by(config), None
    if by == "softmax":
        result = softmax(_softmax_input(config, logits), axis=-1)
    elif by == "sigmoid":
        result = np.exp(log_sigmoid(logits))
    elif by == "linear":
        result = np.clip(logits, 0, 1)
    return result


def log_probabilities(config: CellConfig, logits: np.ndarray) -> np.ndarray | None:
    """Their logarithms, exact where one is 0 or 1; None too of linear outputs, of which many are 0."""
    by, result = stated_by(config), None
    if by == "softmax":
        result = log_softmax(_softmax_input(config, logits), axis=-1)
    elif by == "sigmoid":
        result = log_sigmoid(logits)
    return result


def _softmax_input(config: CellConfig, logits: np.ndarray) -> np.ndarray:
    """What the loss takes the softmax of: the logits, or of CLEF, unless it says otherwise, their log sigmoid."""
    literal = isinstance(config.method, ClefConfig) and config.method.single_label == "log_sigmoid"
    return log_sigmoid(logits) if literal else logits.astype(float)


def check_coverage(index: np.ndarray, samples: int) -> None:
    """Refuse predictions that don't hold every sample of a split exactly once."""
    counts = np.bincount(index, minlength=samples)
    if len(counts) != samples or (counts != 1).any():
        missing, twice = int((counts == 0).sum()), int((counts > 1).sum())
        raise CellError(
            f"predictions for {len(index)} of {samples} samples ({missing} missing, {twice} more than once): "
            "no metric is computed without full coverage"
        )


def average_precision(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """scikit-learn's AP of each class in percent, K; NaN for a class without a positive. Both inputs are N,K."""
    from sklearn.metrics import average_precision_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = [
            100 * average_precision_score(target[:, k], scores[:, k]) if target[:, k].any() else np.nan
            for k in range(target.shape[1])
        ]
    return np.array(values)


def accuracy(scores: np.ndarray, target: np.ndarray) -> float:
    """The share of samples whose highest score is the target's, in percent. Scores N,K, target N."""
    return float(100 * (scores.argmax(1) == target).mean())


def per_class(scores: np.ndarray, target: np.ndarray, classes: list[str]) -> dict[str, float]:
    """AP (multi-label) or recall (single-label) of each class that has a sample, in percent."""
    if target.ndim == 2:
        values = average_precision(scores, target)
    else:
        hit = scores.argmax(1) == target
        values = np.array(
            [100 * hit[target == k].mean() if (target == k).any() else np.nan for k in range(len(classes))]
        )
    return {name: float(value) for name, value in zip(classes, values, strict=True) if not np.isnan(value)}


def headline(scores: np.ndarray, target: np.ndarray) -> float:
    """mAP over the classes that have a positive (multi-label, target N,K), or accuracy (single-label, target N)."""
    if not np.isfinite(scores).all():
        raise CellError("some scores are not finite: no metric is computed from them")
    if target.ndim == 2:
        return float(np.nanmean(average_precision(scores, target)))
    return accuracy(scores, target)


def chance(target: np.ndarray, classes: int) -> float:
    """What scores that know nothing reach: the mean prevalence (mAP), or one in K (accuracy), in percent."""
    if target.ndim == 2:
        prevalence = target.mean(0)
        return float(100 * prevalence[prevalence > 0].mean())
    return 100 / classes


def summary(arrays: dict[str, np.ndarray], classes: list[str]) -> dict[str, Any]:
    """All metrics of a split. `arrays` are those of a predictions file: scores, target, and the effects.

    `variants` scores the parts of CLEF's prediction too: `factual` (Y_c + Y_e), `Y_e` and `Y_c` alone.
    """
    scores, target = arrays["scores"], arrays["target"]
    variants: dict[str, float] = {name: headline(arrays[name], target) for name in ("Y_e", "Y_c") if name in arrays}
    if {"Y_c", "Y_e"} <= arrays.keys():
        variants["factual"] = headline(arrays["Y_c"] + arrays["Y_e"], target)
    return {
        "value": headline(scores, target),
        "chance": chance(target, len(classes)),
        "samples": len(target),
        "per_class": per_class(scores, target, classes),
        "variants": variants,
    }


BINS = 15
"""Of equal width, as in Guo et al. (ICML 2017)."""


@dataclass(frozen=True)
class Bin:
    """One bin of stated probabilities: how many fell in, their mean, and the share that came true."""

    number: int
    count: int
    stated: float
    observed: float


def bins(probability: np.ndarray, true: np.ndarray) -> list[Bin]:
    """The bins that hold anything. Both inputs are flat; `true` says what came true. A bin holds its upper end."""
    place = np.clip(np.ceil(probability * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    stated, observed = (np.bincount(place, values, BINS) for values in (probability, true))
    return [
        Bin(i + 1, int(counts[i]), float(stated[i] / counts[i]), float(observed[i] / counts[i]))
        for i in np.flatnonzero(counts).tolist()
    ]


def error(found: list[Bin]) -> float:
    """The expected calibration error, in percent: how far stated and observed lie apart, in the mean over samples."""
    total = sum(part.count for part in found)
    return 100 * sum(part.count * abs(part.stated - part.observed) for part in found) / total


def stated(arrays: Arrays, config: CellConfig) -> tuple[str, np.ndarray] | None:
    """The part of a prediction that is a probability, and it, N,K; None where a method states none.

    CLEF's score is a difference of logarithms, so it is the factual prediction that is judged, as the loss takes it.
    """
    logits = factual(arrays)
    probability = probabilities(config, logits)
    if probability is None:
        return None
    of_parts = "factual" if "Y_c" in arrays else "Y_e"
    return "score" if np.array_equal(logits, arrays["scores"]) else of_parts, probability


CONVENTIONS = ("", " VOC", " VOC 11-point")
"""Behind `AP` or `mAP`: scikit-learn's, which is the headline; the area below VOC's envelope; VOC's 11 points."""


def average_precisions(scores: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    """AP of each class, K, by convention. Both inputs are N,K."""
    curves = [curve(scores[:, k], target[:, k] > 0) for k in range(target.shape[1])]
    ways = (area, voc_area, voc_eleven_points)
    return {
        convention: np.array([100 * way(*one) if one[0][-1] else np.nan for one in curves])
        for convention, way in zip(CONVENTIONS, ways, strict=True)
    }


def curve(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many positives, and how many samples in all, have at least each score, the highest score first."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    return np.cumsum(positive[order])[ends], ends + 1


def area(hits: np.ndarray, seen: np.ndarray) -> float:
    """The precision at each step, weighed by the recall that it adds: scikit-learn's, which the cell recorded."""
    return float((np.diff(hits, prepend=0) * (hits / seen)).sum() / hits[-1])


def voc_area(hits: np.ndarray, seen: np.ndarray) -> float:
    """The area below the envelope: at each recall, the best precision there or at a higher one (VOC 2010 on)."""
    return float((np.diff(hits, prepend=0) * _envelope(hits, seen)).sum() / hits[-1])


def voc_eleven_points(hits: np.ndarray, seen: np.ndarray) -> float:
    """The mean of the envelope at recalls 0, 0.1 ... 1 (VOC 2007, and EMOTIC's official code).

    Recalls are compared as whole numbers: 3 of 10 positives do reach a recall of 0.3, which floats deny.
    """
    first = np.searchsorted(10 * hits, np.arange(11) * hits[-1])
    return float(_envelope(hits, seen)[first].mean())


def _envelope(hits: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate((hits / seen)[::-1])[::-1]
