"""From scores to decisions, which both tasks have: what is decided of a person, how often it moves, and which way."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Decider:
    """One label: the class with the highest score. Several: each class by a threshold of its own.

    `thresholds` K: at which as many of the split were decided to have the class as have it. So decisions depend on
    the ranking alone, and scores of any scale can be compared. None where there is one label.
    """

    thresholds: np.ndarray | None

    @classmethod
    def of(cls, scores: np.ndarray, target: np.ndarray) -> "Decider":
        """By the scores N,K of a split, and its target N or N,K."""
        if target.ndim == 1:
            return cls(None)
        ranked, positives = -np.sort(-scores, axis=0), target.sum(0).astype(int)
        limits = [column[n - 1] if n else np.inf for column, n in zip(ranked.T, positives, strict=True)]
        return cls(np.array(limits))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """The class of each, N; or whether each has each class, N,K bool."""
        return scores.argmax(1) if self.thresholds is None else scores >= self.thresholds


@dataclass(frozen=True)
class Moves:
    """Where a second decision differs from a first; arrays are N for one label, N,K for several."""

    moved: np.ndarray
    to_right: np.ndarray
    to_wrong: np.ndarray

    @classmethod
    def between(cls, first: np.ndarray, second: np.ndarray, target: np.ndarray) -> "Moves":
        """All as decisions; the target tells which are right. From wrong to wrong is moved, but neither of the two."""
        truth = target.astype(first.dtype)
        moved = first != second
        return cls(moved, moved & (second == truth), moved & (first == truth))
