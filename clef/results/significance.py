"""Whether differences between two methods could be chance: exact sign flips over seeds, Holm's correction over a grid.

Imports no torch.

Every method of a grid against its control, seed by seed, and what may be said of the differences. No torch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from clef.errors import CellError
from clef.results.formats import DASH, Table
from clef.results.frame import Gathered, Numbers, part_of, spread
from clef.results.intervals import BASE, LEVEL, OVER
from clef.results.published import title

ALPHA = 0.05
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
    while comparisons * lowest(seeds) > ALPHA:
        seeds += 1
    return seeds


def verdict_of(corrected: float, seeds: int, comparisons: int) -> str:
    """What may be said of a comparison. With too few seeds p can't reach LEVEL, and so nothing is said of it."""
    if seeds < fewest_seeds(comparisons):
        return f"needs {fewest_seeds(comparisons)} seeds"
    return "significant" if corrected <= ALPHA else "not significant"


HEADS = tuple(f"{LEVEL} % over {over}" for over in OVER)


@dataclass(frozen=True)
class Comparison:
    """A method against another, vanilla mostly: its headline number less the other's, of each seed that has both."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    base: str
    split: str
    differences: tuple[float, ...]
    p: float | None = None
    corrected: float | None = None
    """p by Holm, over all comparisons that the grid plans, whether they have numbers or not."""


def comparisons(gathered: Gathered) -> list[Comparison]:
    """All that the grid plans: so the correction doesn't depend on which cells have finished."""
    found = list(_planned(gathered))
    known = [i for i, one in enumerate(found) if one.differences]
    values = [sign_flip(found[i].differences) for i in known]
    corrected = holm(values, len(found))
    for i, p, adjusted in zip(known, values, corrected, strict=True):
        found[i] = replace(found[i], p=p, corrected=adjusted)
    return found


def _planned(gathered: Gathered) -> Iterator[Comparison]:
    for dataset, protocol in dict.fromkeys((run.dataset, run.protocol) for run in gathered.runs):
        part, card = part_of(gathered, dataset, protocol), gathered.cards[dataset, protocol]
        planned = {(run.backbone, run.method): run.against for run in part.runs}
        numbers = Numbers(part.rows)
        for (backbone, method), base in planned.items():
            if base is None or base == method or (backbone, base) not in planned:
                continue
            for split in card.test_splits:
                own, other = (numbers.by_seed(backbone, name, split, card.metric) for name in (method, base))
                differences = tuple(own[seed] - other[seed] for seed in sorted(own.keys() & other.keys()))
                yield Comparison(dataset, protocol, backbone, method, base, split, differences)


def tables(part: Gathered, compared: list[Comparison], name: str) -> list[Table]:
    """The comparisons of one dataset and protocol, if any has numbers. `compared`: those of the whole grid."""
    dataset, protocol = part.runs[0].dataset, part.runs[0].protocol
    metric = part.cards[dataset, protocol].metric
    own = [one for one in compared if (one.dataset, one.protocol) == (dataset, protocol)]
    if not any(one.differences for one in own):
        return []
    several = any(one.base != BASE for one in own)
    columns = ["backbone", "method", *(["control"] if several else []), "split", "seeds", "difference", *HEADS]
    rows = [
        [
            title(one.backbone), one.method, *([one.base] if several else []), one.split, str(len(one.differences)),
            spread(one.differences, "+"),
            *(within(part, (one.backbone, one.method, one.base, one.split), over, "+") for over in OVER),
            *_tested(one, len(compared)),
        ]
        for one in own
    ]  # fmt: skip
    columns += ["p", "p (Holm)", "verdict"]
    base = "its control" if several else BASE
    notes = _notes(part, own, base, len(compared))
    return [Table(f"{name}: {metric}, method minus {base}, percent", columns, rows, notes)]


def _tested(one: Comparison, count: int) -> list[str]:
    if one.p is None or one.corrected is None:
        return [DASH, DASH, DASH]
    verdict = verdict_of(one.corrected, len(one.differences), count)
    return [f"{one.p:.3g}", f"{one.corrected:.3g}", verdict]


def within(part: Gathered, wanted: tuple[str, str, str, str], over: str, sign: str = "") -> str:
    """The interval of a backbone's method, less a base's ("": its own number), on a split."""
    for one in part.intervals:
        if (one.backbone, one.method, one.base, one.split, one.over) == (*wanted, over):
            return f"{one.low:{sign}.2f} to {one.high:{sign}.2f}"
    return DASH


def _notes(part: Gathered, own: list[Comparison], base: str, count: int) -> list[str]:
    fewest = fewest_seeds(count)
    seeds = max((len(one.differences) for one in own), default=0)
    notes = [
        f"each seed's number less {base}'s of the same seed; p: exact sign flips over seeds, two-sided; Holm's "
        f"correction over the {count} comparisons that the grid plans",
        f"with so many comparisons, {fewest} seeds is the least at which any can reach {ALPHA}"
        + (f"; with the {seeds} here p is {lowest(seeds):.3g} at least" if 0 < seeds < fewest else ""),
    ]
    return [*notes, over_images(part)]


def over_images(part: Gathered) -> str:
    """What the intervals over images rest on."""
    drawn = dict.fromkeys((i.split, i.groups) for i in part.intervals if i.groups)
    if not drawn:
        return "no intervals over images: predictions are missing, or of a version that didn't group them"
    counts = ", ".join(f"{split} {groups:,}" for split, groups in drawn)
    return (
        f"over images: {part.intervals[0].resamples:,} resamples of groups (people of one image, or neighbouring "
        f"frames, are drawn together: {counts}), the trained networks as they are; over seeds: the images as they are, "
        "and too narrow where seeds are few"
    )
