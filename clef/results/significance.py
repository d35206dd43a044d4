"""Whether a method differs from its control by more than chance: exact sign flips over seeds, and Holm's correction.

Every method of a grid is compared with its control, seed by seed. Imports no torch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from clef.cells.plan_file import DEFAULT_CONTROL
from clef.errors import CellError
from clef.results.formats import DASH, Table
from clef.results.frame import GridResults, format_spread
from clef.results.intervals import LEVEL, OVER
from clef.results.published import backbone_title

ALPHA = 0.05
_EXACT = 1 << 16
"""Sign patterns that are all tried, which is enough for 16 seeds. With more seeds, so many are drawn at random."""
INTERVAL_HEADS = tuple(f"{LEVEL} % over {over}" for over in OVER)


def sign_flip(differences: Sequence[float]) -> float:
    """Return the two-sided p of paired differences, one a seed: the share of sign patterns that are as extreme.

    If neither method were better, each seed's difference could as well have had the other sign. Raises CellError for
    differences that aren't finite.
    """
    if not all(map(math.isfinite, differences)):
        raise CellError("differences between methods are not all finite: no p is computed from them")
    values = np.asarray(differences, float)
    sums = np.abs(_sign_patterns(len(values)) @ values)
    # A pattern is as extreme, too, where rounding alone makes its sum the smaller one.
    extreme = int((sums >= abs(values.sum()) - 1e-12 * np.abs(values).sum()).sum())
    if 2 ** len(values) <= _EXACT:
        return extreme / len(sums)
    return (extreme + 1) / (len(sums) + 1)  # the signs as they are count as one of the patterns drawn


@lru_cache(maxsize=2)  # a grid has as many seeds for nearly all comparisons
def _sign_patterns(seeds: int) -> np.ndarray:
    """Return patterns of signs, patterns,seeds float64: all there are, or as many drawn at random."""
    if 2**seeds <= _EXACT:
        bits = np.arange(2**seeds)[:, None] >> np.arange(seeds) & 1
    else:
        bits = np.random.default_rng(0).integers(2, size=(_EXACT, seeds))
    return 1.0 - 2 * bits


def holm(values: Sequence[float], comparisons: int) -> list[float]:
    """Return p values corrected by Holm for `comparisons` in all; those without a value count as having p = 1."""
    corrected = [0.0] * len(values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        highest = max(highest, min(1.0, (comparisons - rank) * values[index]))
        corrected[index] = highest
    return corrected


def lowest_p(seeds: int) -> float:
    """Return the lowest two-sided p that sign flips of so many seeds can give."""
    return min(1.0, 2.0 ** (1 - seeds))


def fewest_seeds(comparisons: int) -> int:
    """Return the fewest seeds with which the clearest of so many comparisons can reach ALPHA after the correction."""
    seeds = 1
    while comparisons * lowest_p(seeds) > ALPHA:
        seeds += 1
    return seeds


def verdict_of(corrected: float, seeds: int, comparisons: int) -> str:
    """Return what can be said of a comparison. With too few seeds p can't reach ALPHA, so nothing is claimed."""
    if seeds < fewest_seeds(comparisons):
        return f"needs {fewest_seeds(comparisons)} seeds"
    return "significant" if corrected <= ALPHA else "not significant"


@dataclass(frozen=True)
class Comparison:
    """A method against its control: its headline number minus the control's, for each seed that has both."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    base: str
    """The control."""
    split: str
    differences: tuple[float, ...]
    p: float | None = None
    corrected: float | None = None
    """p by Holm, over all comparisons that the grid plans, whether they have numbers or not."""


def comparisons(gathered: GridResults) -> list[Comparison]:
    """Return all comparisons that a grid plans, so that the correction doesn't depend on which cells have finished."""
    planned = list(_planned_comparisons(gathered))
    numbered = [i for i, comparison in enumerate(planned) if comparison.differences]
    values = [sign_flip(planned[i].differences) for i in numbered]
    for i, p, corrected in zip(numbered, values, holm(values, len(planned)), strict=True):
        planned[i] = replace(planned[i], p=p, corrected=corrected)
    return planned


def _planned_comparisons(gathered: GridResults) -> Iterator[Comparison]:
    for dataset, protocol in dict.fromkeys((run.dataset, run.protocol) for run in gathered.runs):
        part, card = gathered.select(dataset, protocol), gathered.cards[dataset, protocol]
        controls = {(run.backbone, run.method): run.against for run in part.runs}
        for (backbone, method), base in controls.items():
            if base is None or base == method or (backbone, base) not in controls:
                continue
            for split in card.test_splits:
                differences = part.values.differences(backbone, (method, base), split, card.metric)
                yield Comparison(dataset, protocol, backbone, method, base, split, tuple(differences))


def comparison_tables(part: GridResults, compared: list[Comparison], name: str) -> list[Table]:
    """Return the comparisons of one dataset and protocol, if any has numbers. `compared`: those of the whole grid."""
    dataset, protocol = part.runs[0].dataset, part.runs[0].protocol
    metric = part.cards[dataset, protocol].metric
    shown = [each for each in compared if (each.dataset, each.protocol) == (dataset, protocol)]
    if not any(comparison.differences for comparison in shown):
        return []
    several = any(comparison.base != DEFAULT_CONTROL for comparison in shown)
    columns = ["backbone", "method", *(["control"] if several else []), "split", "seeds", "difference"]
    columns += [*INTERVAL_HEADS, "p", "p (Holm)", "verdict"]
    rows = [_comparison_row(part, comparison, several, len(compared)) for comparison in shown]
    base = "its control" if several else DEFAULT_CONTROL
    notes = _comparison_notes(part, shown, base, len(compared))
    return [Table(f"{name}: {metric}, method minus {base}, percent", columns, rows, notes)]


def _comparison_row(part: GridResults, comparison: Comparison, with_control: bool, count: int) -> list[str]:
    key = comparison.backbone, comparison.method, comparison.base, comparison.split
    row = [backbone_title(comparison.backbone), comparison.method, *([comparison.base] if with_control else [])]
    row += [comparison.split, str(len(comparison.differences)), format_spread(comparison.differences, "+")]
    row += [format_interval(part, key, over, "+") for over in OVER]
    if comparison.p is None or comparison.corrected is None:
        return [*row, DASH, DASH, DASH]
    verdict = verdict_of(comparison.corrected, len(comparison.differences), count)
    return [*row, f"{comparison.p:.3g}", f"{comparison.corrected:.3g}", verdict]


def _comparison_notes(part: GridResults, shown: list[Comparison], base: str, count: int) -> list[str]:
    fewest = fewest_seeds(count)
    seeds = max((len(comparison.differences) for comparison in shown), default=0)
    notes = [
        f"each seed's number minus {base}'s with the same seed; p: exact sign flips over seeds, two-sided; Holm's "
        f"correction over the {count} comparisons that the grid plans",
        f"with so many comparisons, at least {fewest} seeds are needed for any to reach {ALPHA}"
        + (f"; with the {seeds} here, p is at least {lowest_p(seeds):.3g}" if 0 < seeds < fewest else ""),
    ]
    return [*notes, interval_note(part)]


def format_interval(part: GridResults, key: tuple[str, str, str, str], over: str, sign: str = "") -> str:
    """Return an interval as `low to high`, or a dash. `key`: backbone, method, base ("": the number itself), split."""
    if (bounds := part.bounds.get((over, *key))) is None:
        return DASH
    low, high = bounds
    return f"{low:{sign}.2f} to {high:{sign}.2f}"


def interval_note(part: GridResults) -> str:
    """Return the note about what the intervals over images rest on."""
    grouped = part.intervals.dropna(subset=["groups"])[["split", "groups"]].drop_duplicates()
    if grouped.empty:
        return (
            "no intervals over images: predictions are missing, were not kept (runtime.predictions=none), or are of a "
            "version that didn't group them"
        )
    counts = ", ".join(f"{split} {groups:,}" for split, groups in grouped.itertuples(index=False))
    return (
        f"over images: {part.intervals['resamples'].iloc[0]:,} resamples of groups (people of one image, or "
        f"neighbouring frames, are drawn together: {counts}), the trained networks as they are; over seeds: the images "
        "as they are, and too narrow where seeds are few" + _note_of_dashes(part)
    )


def _note_of_dashes(part: GridResults) -> str:
    """Return what to say of numbers without an interval over images; empty where each has one."""
    scored = set(part.rows[["backbone", "method", "split"]].itertuples(index=False, name=None))
    with_interval = {(backbone, method, split) for over, backbone, method, _, split in part.bounds if over == OVER[0]}
    if scored <= with_interval:
        return ""
    return "; a dash: the predictions of some cells are missing, or were not kept (runtime.predictions=none)"
