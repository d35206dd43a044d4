"""A prediction in numbers: for each person and class what the cell scores, and what that is made of."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clef.config import CellConfig
from clef.engine import effects
from clef.methods import Prediction


@dataclass(frozen=True)
class Told:
    """Of one person; every array has K numbers. What a method doesn't have is None."""

    classes: list[str]
    score: np.ndarray
    factual: np.ndarray
    """Probabilities."""
    counterfactual: np.ndarray | None
    """Probabilities without the subject."""
    effects: Mapping[str, np.ndarray]
    """TE, NDE and TIE of CLEF."""

    @property
    def order(self) -> list[int]:
        """The classes, the highest score first."""
        return [int(k) for k in np.argsort(-self.score, kind="stable")]


def told(config: CellConfig, classes: list[str], prediction: Prediction) -> list[Told]:
    """Of each person of a batch."""
    arrays = {"scores": prediction.scores} | prediction.effects
    known = {name: values.cpu().numpy() for name, values in arrays.items()}
    factual = np.exp(effects.log_probabilities(config, effects.factual(known)))
    against = effects.counterfactual(known)
    unseen = None if against is None else np.exp(effects.log_probabilities(config, against))
    parts = effects.effects(known)
    return [
        Told(
            classes,
            known["scores"][row],
            factual[row],
            None if unseen is None else unseen[row],
            {name: values[row] for name, values in parts.items()},
        )
        for row in range(len(factual))
    ]
