"""TE, NDE and TIE of predictions that are written down, and their probabilities. NumPy alone: no network is asked.

`arrays` is what `clef.engine.evaluation` gives of a split, or a batch of it: scores, and the effects Y_e, Y_c, Y_e*.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from scipy.special import log_softmax, softmax

from clef.config import CellConfig, ClefConfig, CustomMethodConfig, VanillaConfig

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
