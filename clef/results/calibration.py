"""How far stated probabilities go with what happens: the expected calibration error and its bins. Imports no torch."""

from dataclasses import dataclass

import numpy as np

from clef.config import CellConfig
from clef.engine import effects

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


def stated(arrays: effects.Arrays, config: CellConfig) -> tuple[str, np.ndarray] | None:
    """The part of a prediction that is a probability, and it, N,K; None where a method states none.

    CLEF's score is a difference of logarithms, so it is the factual prediction that is judged, as the loss takes it.
    """
    logits = effects.factual(arrays)
    probability = effects.probabilities(config, logits)
    if probability is None:
        return None
    of_parts = "factual" if "Y_c" in arrays else "Y_e"
    return "score" if np.array_equal(logits, arrays["scores"]) else of_parts, probability
