"""From the passes of a split to the numbers of its audit (docs/audit.md lists their names).

From scores to decisions, which both tasks have: what is decided of a person, how often it moves, and which way.

Performance by how typical the context is for the label.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from clef import metrics
from clef.audit.interventions import Arrays, Passes
from clef.audit.records import Row, Rows
from clef.config import CellConfig
from clef.metrics import average_precision


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


THIRDS = ("typical", "middle", "atypical")


def thirds(prior: np.ndarray) -> list[np.ndarray]:
    """The places of numbers N in three parts, the largest numbers first; of equal ones, the earlier come first."""
    return np.array_split(np.argsort(-prior, kind="stable"), len(THIRDS))


def by_third(
    scores: np.ndarray, prior: np.ndarray, have: Sequence[np.ndarray], several: bool
) -> Iterator[tuple[str, float, int]]:
    """Each third's name, its metric in percent, and the labels in it. All but `have`, N bool a class, is N,K.

    Those who have a class are split by what the context gives that class, class by class: so the thirds hold the
    same classes. One label: their accuracy. Several: the mean of each class's AP of a third against all who lack the
    class, so that chance is the same in all thirds; classes that fewer than three have are left out.
    """
    parts = {k: [np.flatnonzero(own)[part] for part in thirds(prior[own, k])] for k, own in enumerate(have)}
    counted = {k: part for k, part in parts.items() if splits_up(have[k])}
    for number, name in enumerate(THIRDS):
        mine = {k: part[number] for k, part in counted.items()}
        people = sum(map(len, mine.values()))
        if several:
            values = [_against_others(scores[:, k], places, have[k]) for k, places in mine.items()]
        else:
            values = np.concatenate([100.0 * (scores[p].argmax(1) == k) for k, p in mine.items()] or [[]]).tolist()
        if values:
            yield name, float(np.mean(values)), people


def splits_up(own: np.ndarray) -> bool:
    """Whether enough have a class, by N bool, for each third to hold one of them."""
    return int(own.sum()) >= len(THIRDS)


def chance(have: Sequence[np.ndarray]) -> float | None:
    """What scores that know nothing reach in a third with several labels: its mean prevalence, in percent."""
    thirds_of = [(own.sum() / len(THIRDS), (~own).sum()) for own in have if splits_up(own)]
    return float(np.mean([100 * few / (few + others) for few, others in thirds_of])) if thirds_of else None


def _against_others(scores: np.ndarray, places: np.ndarray, own: np.ndarray) -> float:
    chosen = ~own
    chosen[places] = True
    target = np.zeros(len(own))
    target[places] = 1
    return float(average_precision(scores[chosen, None], target[chosen, None])[0])


REACHED = {"branch": ("score", "factual"), "all": ("score", "factual", "Y_e")}
"""The parts of a prediction that a swap reaches, by the streams that it swaps."""


def measured(config: CellConfig, passes: Passes, prior: np.ndarray, rows: Rows) -> Iterator[Row]:
    """Every number of a split. `prior` N,K: what the context says of each label by itself."""
    yield rows.one("chance", metrics.chance(rows.target, len(rows.classes)))
    several = rows.target.ndim == 2
    if several and (value := chance(rows.have)) is not None:
        yield rows.one("chance.thirds", value)
    yield from rows.metric("prior", prior)
    yield from _performance(passes, rows)
    yield from _effects(config, passes, rows)
    yield from _against_factual(passes.plain, rows)
    yield from _swapped(passes, rows)
    for part, scores in predicted(passes.plain).items():
        for third, value, samples in by_third(scores, prior, rows.have, several):
            yield rows.one(f"{third}.{part}", value, samples)


def predicted(arrays: Arrays) -> dict[str, np.ndarray]:
    """The predictions that a pass holds, each N,K: the scores, and the parts of them where a method has parts."""
    parts = {"score": arrays["scores"]}
    if {"Y_c", "Y_e"} <= arrays.keys():
        parts |= {"factual": metrics.factual(arrays), "Y_e": arrays["Y_e"], "Y_c": arrays["Y_c"]}
    elif "Y_e*" in arrays:
        parts["Y_e"] = arrays["Y_e"]
    return parts


def _performance(passes: Passes, rows: Rows) -> Iterator[Row]:
    """The metric of each part; with the subject or the context alone, of all that has more than Y_c in it."""
    probes = {"value": passes.plain, "subject_only": passes.subject_only, "context_only": passes.context_only}
    for kind, arrays in probes.items():
        for part, scores in predicted(arrays).items():
            if kind == "value" or part != "Y_c":
                yield from rows.metric(f"{kind}.{part}", scores)


def _effects(config: CellConfig, passes: Passes, rows: Rows) -> Iterator[Row]:
    """By CLEF's own counterfactual, and by inputs that are gone, where the method states probabilities."""
    for name, values in metrics.effects(passes.plain).items():
        yield from rows.effect(name, values)
    seen = (metrics.factual(arrays) for arrays in (passes.plain, passes.context_only, passes.neither))
    stated = [value for logits in seen if (value := metrics.log_probabilities(config, logits)) is not None]
    if stated:
        whole, context, nothing = stated
        blanked = {"TE": whole - nothing, "NDE": context - nothing, "TIE": whole - context}
        for name, values in blanked.items():
            yield from rows.effect(f"blanked.{name}", values)


def _against_factual(plain: Arrays, rows: Rows) -> Iterator[Row]:
    """How often TIE decides otherwise than the factual prediction, and which way."""
    if "Y_e*" not in plain:
        return
    first, second = (Decider.of(s, rows.target)(s) for s in (metrics.factual(plain), plain["scores"]))
    moves = Moves.between(first, second, rows.target)
    yield from rows.share("debiased.moved", moves.moved)
    yield from rows.share("debiased.to_right", moves.to_right)
    yield from rows.share("debiased.to_wrong", moves.to_wrong)


def _swapped(passes: Passes, rows: Rows) -> Iterator[Row]:
    """How far and how often predictions move with the context of another sample; means over the draws."""
    plain = predicted(passes.plain)
    swaps = {"all": (plain, [predicted(arrays) for arrays in passes.swaps])}
    if "Y_c" in passes.plain:
        kept = with_branch_of(passes.plain, np.arange(len(rows.target)))
        swaps["branch"] = kept, [with_branch_of(passes.plain, donors) for donors in passes.donors]
    for streams, (before, after) in swaps.items():
        for part in REACHED[streams]:
            if part in before:
                yield from _moved(f"swap.{streams}", part, before[part], [one[part] for one in after], rows)


def with_branch_of(plain: Arrays, donors: np.ndarray) -> dict[str, np.ndarray]:
    """The predictions with Y_c of others. What the branch says of them is known, so no pass is needed."""
    found = plain | {"Y_c": plain["Y_c"][donors]}
    score = metrics.effects(found).get("TIE", found["Y_c"])
    return predicted(found | {"scores": score})


def _moved(name: str, part: str, before: np.ndarray, after: list[np.ndarray], rows: Rows) -> Iterator[Row]:
    decide = Decider.of(before, rows.target)
    moves = [Moves.between(decide(before), decide(scores), rows.target) for scores in after]
    delta = np.mean([np.abs(scores - before) for scores in after], axis=0).mean(axis=0)
    spread = before.std(axis=0)
    yield from rows.share(f"{name}.moved.{part}", np.mean([one.moved for one in moves], axis=0))
    yield rows.one(f"{name}.to_right.{part}", 100 * np.mean([one.to_right for one in moves]))
    yield rows.one(f"{name}.to_wrong.{part}", 100 * np.mean([one.to_wrong for one in moves]))
    yield rows.one(f"{name}.delta.{part}", delta.mean())
    yield rows.one(f"{name}.spreads.{part}", np.mean(delta / np.where(spread > 0, spread, np.inf)))
    yield rows.one(f"{name}.value.{part}", fmean(metrics.headline(scores, rows.target) for scores in after))
