"""A prediction in numbers: for each person and class what the cell scores, and what that is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clef import metrics
from clef.config import CellConfig

if TYPE_CHECKING:
    from clef.methods import Prediction  # needs torch


@dataclass(frozen=True)
class Told:
    """Of one person; every array has K numbers. What a method doesn't have is None."""

    classes: list[str]
    score: np.ndarray
    factual: np.ndarray | None
    """Probabilities, where the method states any."""
    counterfactual: np.ndarray | None
    """Probabilities without the subject."""
    effects: Mapping[str, np.ndarray]
    """TE, NDE and TIE of CLEF."""

    @property
    def order(self) -> list[int]:
        """The classes, the highest score first."""
        return [int(k) for k in np.argsort(-self.score, kind="stable")]


def told(config: CellConfig, classes: list[str], prediction: "Prediction") -> list[Told]:
    """Of each person of a batch."""
    arrays = {"scores": prediction.scores} | prediction.effects
    return of_arrays(config, classes, {name: values.cpu().numpy() for name, values in arrays.items()})


def of_arrays(config: CellConfig, classes: list[str], known: metrics.Arrays) -> list[Told]:
    """Of each person of predictions that are written down: scores, and the effects that the method has, each N,K."""
    factual = metrics.probabilities(config, metrics.factual(known))
    against = metrics.counterfactual(known)
    unseen = None if against is None else metrics.probabilities(config, against)
    parts = metrics.effects(known)
    return [
        Told(
            classes,
            score,
            None if factual is None else factual[row],
            None if unseen is None else unseen[row],
            {name: values[row] for name, values in parts.items()},
        )
        for row, score in enumerate(known["scores"])
    ]
