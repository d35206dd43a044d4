"""Whether differences between two methods could be chance: exact sign flips over seeds, Holm's correction over a grid.

Imports no torch.
"""

import math
from collections.abc import Sequence

from clef.errors import CellError

LEVEL = 0.05
_EXACT = 1 << 16
"""Sign patterns that are all tried: up to 16 seeds. With more, so many are drawn."""


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of paired differences, one a seed: the share of sign patterns whose mean is as far from 0 or more.

    If neither method were better, each seed's difference could as well have had the other sign.
    """
    if not all(map(math.isfinite, differences)):
        raise CellError("differences between methods are not all finite: no p is computed from them")
    if len(differences) == 1:  # the other sign is as far from 0
        return 1.0
    import numpy as np
    from scipy.stats import permutation_test  # slow to import

    found = permutation_test(
        (np.asarray(differences, float),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_EXACT,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def holm(values: Sequence[float], comparisons: int) -> list[float]:
    """p corrected for `comparisons` in all, by Holm; those that are not among `values` count as having p = 1."""
    corrected = [0.0] * len(values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        highest = max(highest, min(1.0, (comparisons - rank) * values[place]))
        corrected[place] = highest
    return corrected


def lowest(seeds: int) -> float:
    """The lowest two-sided p that sign flips of so many seeds can give."""
    return min(1.0, 2.0 ** (1 - seeds))


def fewest_seeds(comparisons: int) -> int:
    """The fewest seeds with which the clearest of so many comparisons can reach LEVEL after Holm's correction."""
    seeds = 1
    while comparisons * lowest(seeds) > LEVEL:
        seeds += 1
    return seeds


def verdict(corrected: float, seeds: int, comparisons: int) -> str:
    """What may be said of a comparison. With too few seeds p can't reach LEVEL, and so nothing is said of it."""
    if seeds < fewest_seeds(comparisons):
        return f"needs {fewest_seeds(comparisons)} seeds"
    return "significant" if corrected <= LEVEL else "not significant"
