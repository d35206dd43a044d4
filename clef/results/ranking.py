"""Average precision as its three conventions have it, in percent. Imports no torch.

They differ by points on the same scores, and papers seldom say which they mean. Scores that are equal are one step of
the ranking in all of them. A class without a positive has no average precision: NaN.
"""

import numpy as np

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
