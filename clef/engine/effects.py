"""TE, NDE and TIE of predictions that are written down, and their probabilities. NumPy alone: no network is asked.

`arrays` is what `clef.engine.evaluation` gives of a split, or a batch of it: scores, and the effects Y_e, Y_c, Y_e*.
"""

from collections.abc import Mapping

import numpy as np
from scipy.special import log_softmax

from clef.config import CellConfig, ClefConfig

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


def log_probabilities(config: CellConfig, logits: np.ndarray) -> np.ndarray:
    """What a cell takes the logits of a prediction for: log softmax of one label, log sigmoid of each of several."""
    method = config.method
    one = config.loss.categories == "cross_entropy"
    if isinstance(method, ClefConfig):
        one = one or method.multi_label == "softmax"
        logits = log_sigmoid(logits) if one and method.single_label == "log_sigmoid" else logits
    result: np.ndarray = log_softmax(logits.astype(float), axis=-1) if one else log_sigmoid(logits)
    return result
