"""How far stated probabilities go with what happens: the expected calibration error and its bins. Imports no torch."""

from dataclasses import dataclass

import numpy as np

from clef.config import CcimConfig, CellConfig, ClefConfig, ContextOnlyConfig, VanillaConfig

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


def stated(arrays: dict[str, np.ndarray], config: CellConfig) -> tuple[str, np.ndarray] | None:
    """The part of a prediction that is a probability, and it, N,K; None where a method states none.

    CLEF's score is a difference of logarithms, so it is the factual prediction that is judged, as the loss takes it.
    """
    method, single = config.method, arrays["target"].ndim == 1
    if isinstance(method, ClefConfig):
        part, logits = "Y_e", arrays["Y_e"]
        if "Y_c" in arrays:
            part, logits = "factual", arrays["Y_c"] + arrays["Y_e"]
        shared = single or method.multi_label == "softmax"
        return part, _softmax(_log_sigmoid(logits) if method.single_label == "log_sigmoid" else logits) if shared else (
            _sigmoid(logits)
        )
    if isinstance(method, VanillaConfig) and method.output == "linear":
        return "score", np.clip(arrays["scores"], 0, 1)
    if isinstance(method, VanillaConfig | CcimConfig | ContextOnlyConfig):
        return "score", _softmax(arrays["scores"]) if single else _sigmoid(arrays["scores"])
    return None


def _log_sigmoid(logits: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, -logits.astype(float))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    probability: np.ndarray = np.exp(_log_sigmoid(logits))
    return probability


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(float) - logits.max(1, keepdims=True))
    probability: np.ndarray = powers / powers.sum(1, keepdims=True)
    return probability
