"""From the predictions of an audit's passes to its numbers (docs/audit.md lists their names).

`audit_rows` yields all of them for a split. Below it stand what it counts with: `RowMaker` (means over all people and
over those of a class), `Decider` and `Moves` (what is decided of a person, and how decisions change), and the thirds of
people by how typical their context is of their label.

N is the number of people in a split, K that of classes. A target is N with one label a person, N,K with several.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from clef import metrics
from clef.audit.interventions import Arrays, Passes
from clef.cells.audits import AuditRow
from clef.config import CellConfig
from clef.metrics import average_precision

REACHED = {"branch": ("score", "factual"), "all": ("score", "factual", "Y_e")}
"""The parts of a prediction that a context swap can change: a swap in the context branch alone, and in all inputs."""
THIRDS = ("typical", "middle", "atypical")


def audit_rows(config: CellConfig, passes: Passes, prior: np.ndarray, maker: RowMaker) -> Iterator[AuditRow]:
    """Yield every number of a split. `prior` N,K: the probability of each label given the context alone."""
    if (level := metrics.chance(maker.target, len(maker.classes), maker.headline)) is not None:
        yield maker.number("chance", level)
    several = maker.target.ndim == 2
    if several and (value := chance_in_third(maker.has_class)) is not None:
        yield maker.number("chance.thirds", value)
    yield from maker.metric("prior", prior)
    yield from _performance_rows(passes, maker)
    yield from _effect_rows(config, passes, maker)
    yield from _debiasing_rows(passes.plain, maker)
    yield from _swap_rows(passes, maker)
    for part, scores in prediction_parts(passes.plain).items():
        for third, value, samples in metric_by_third(scores, prior, maker.has_class, several):
            yield maker.number(f"{third}.{part}", value, samples)


def prediction_parts(arrays: Arrays) -> dict[str, np.ndarray]:
    """Return the predictions that a pass holds, each N,K: the scores, and their parts where a method has parts."""
    parts = {"score": arrays["scores"]}
    if {"Y_c", "Y_e"} <= arrays.keys():
        parts |= {"factual": metrics.factual(arrays), "Y_e": arrays["Y_e"], "Y_c": arrays["Y_c"]}
    elif "Y_e*" in arrays:
        parts["Y_e"] = arrays["Y_e"]
    return parts


def _performance_rows(passes: Passes, maker: RowMaker) -> Iterator[AuditRow]:
    """Yield the metric of each part, as it is and with the subject or the context alone.

    Y_c is left out of the last two: it reads nothing but the context, so blanking tells nothing new.
    """
    probes = {"value": passes.plain, "subject_only": passes.subject_only, "context_only": passes.context_only}
    for kind, arrays in probes.items():
        for part, scores in prediction_parts(arrays).items():
            if kind == "value" or part != "Y_c":
                yield from maker.metric(f"{kind}.{part}", scores)


def _effect_rows(config: CellConfig, passes: Passes, maker: RowMaker) -> Iterator[AuditRow]:
    """Yield the effects by CLEF's own counterfactual and, of a method that states probabilities, by blanked inputs."""
    for name, values in metrics.effects(passes.plain).items():
        yield from maker.effect(name, values)
    logits = (metrics.stated_logits(arrays) for arrays in (passes.plain, passes.context_only, passes.neither))
    stated = [value for each in logits if (value := metrics.log_probabilities(config, each)) is not None]
    if stated:
        plain, context, neither = stated
        blanked = {"TE": plain - neither, "NDE": context - neither, "TIE": plain - context}
        for name, values in blanked.items():
            yield from maker.effect(f"blanked.{name}", values)


def _debiasing_rows(plain: Arrays, maker: RowMaker) -> Iterator[AuditRow]:
    """Yield how often TIE decides otherwise than the factual prediction, and which way."""
    if "Y_e*" not in plain:
        return
    factual, tie = (Decider.fit(s, maker.target)(s) for s in (metrics.factual(plain), plain["scores"]))
    moves = Moves.between(factual, tie, maker.target)
    yield from maker.share("debiased.moved", moves.moved)
    yield from maker.share("debiased.to_right", moves.to_right)
    yield from maker.share("debiased.to_wrong", moves.to_wrong)


def _swap_rows(passes: Passes, maker: RowMaker) -> Iterator[AuditRow]:
    """Yield how far and how often predictions move with the context of another person; means over the draws."""
    plain = prediction_parts(passes.plain)
    swaps = {"all": (plain, [prediction_parts(arrays) for arrays in passes.swaps])}
    if _score_is_made_of_parts(passes.plain):
        unswapped = swap_branch(passes.plain, np.arange(len(maker.target)))
        swaps["branch"] = unswapped, [swap_branch(passes.plain, donors) for donors in passes.donors]
    for where, (before, after) in swaps.items():
        for part in REACHED[where]:
            if part in before:
                yield from _movement_rows(f"swap.{where}", part, before[part], [parts[part] for parts in after], maker)


def _score_is_made_of_parts(plain: Arrays) -> bool:
    """Return whether a context branch's logits give the score: in CLEF summed with the others, or by themselves."""
    return "Y_c" in plain and "factual" not in plain and ("Y_e*" in plain or "Y_e" not in plain)


def swap_branch(plain: Arrays, donors: np.ndarray) -> dict[str, np.ndarray]:
    """Return the parts of the prediction where each person has the donor's Y_c.

    What the context branch says of every person is known from the plain pass, so no other pass is needed.
    """
    arrays = plain | {"Y_c": plain["Y_c"][donors]}
    score = metrics.effects(arrays).get("TIE", arrays["Y_c"])
    return prediction_parts(arrays | {"scores": score})


def _movement_rows(
    name: str, part: str, before: np.ndarray, after: list[np.ndarray], maker: RowMaker
) -> Iterator[AuditRow]:
    """Yield what changes from the scores N,K `before` to those of each draw in `after`."""
    decide = Decider.fit(before, maker.target)
    moves = [Moves.between(decide(before), decide(scores), maker.target) for scores in after]
    delta = np.mean([np.abs(scores - before) for scores in after], axis=0).mean(axis=0)
    spread = before.std(axis=0)
    yield from maker.share(f"{name}.moved.{part}", np.mean([draw.moved for draw in moves], axis=0))
    yield maker.number(f"{name}.to_right.{part}", 100 * np.mean([draw.to_right for draw in moves]))
    yield maker.number(f"{name}.to_wrong.{part}", 100 * np.mean([draw.to_wrong for draw in moves]))
    yield maker.number(f"{name}.delta.{part}", delta.mean())
    yield maker.number(f"{name}.spreads.{part}", np.mean(delta / np.where(spread > 0, spread, np.inf)))
    yield maker.number(
        f"{name}.value.{part}", fmean(metrics.headline_score(scores, maker.target, maker.headline) for scores in after)
    )


@dataclass(frozen=True)
class RowMaker:
    """Makes the rows of a split, whose K classes and target (N or N,K) it knows."""

    split: str
    classes: list[str]
    target: np.ndarray
    headline: str | None = None
    """The card's metric; None: the usual one for such a target."""

    def number(self, name: str, value: float, samples: int | None = None) -> AuditRow:
        """Return the row of a number about all classes; it rests on all people unless `samples` says otherwise."""
        return AuditRow(name, self.split, None, float(value), len(self.target) if samples is None else samples)

    def metric(self, name: str, scores: np.ndarray) -> Iterator[AuditRow]:
        """Yield the card's metric in percent, and that of each class: recall with one label, AP with several."""
        yield self.number(name, metrics.headline_score(scores, self.target, self.headline))
        by_class = metrics.per_class(scores, self.target, self.classes, self.headline)
        one_label = self.target.ndim == 1
        for label, members in zip(self.classes, self.has_class, strict=True):
            if label in by_class:
                samples = int(members.sum()) if one_label else len(self.target)
                yield AuditRow(name, self.split, label, by_class[label], samples)

    def share(self, name: str, where: np.ndarray) -> Iterator[AuditRow]:
        """Yield the share of decisions in percent for which `where`, N or N,K, holds: of all, and of each class.

        A class's decisions are those about its people (one label), or those about the class (several).
        """
        yield self.number(name, 100 * where.mean())
        for k, label in enumerate(self.classes):
            of_class = where[self.target == k] if self.target.ndim == 1 else where[:, k]
            yield from self._mean(name, label, 100 * of_class)

    def effect(self, name: str, values: np.ndarray) -> Iterator[AuditRow]:
        """Yield the mean of an effect N,K on each class: over everyone, and (`name.own`) over who has that label."""
        for k, label in enumerate(self.classes):
            yield from self._mean(name, label, values[:, k])
        for k, (label, members) in enumerate(zip(self.classes, self.has_class, strict=True)):
            yield from self._mean(f"{name}.own", label, values[members, k])

    @property
    def has_class(self) -> list[np.ndarray]:
        """Return who has each class, N bool a class."""
        several = self.target.ndim == 2
        return [(self.target[:, k] > 0) if several else (self.target == k) for k in range(len(self.classes))]

    def _mean(self, name: str, label: str, values: np.ndarray) -> Iterator[AuditRow]:
        if len(values):
            yield AuditRow(name, self.split, label, float(values.mean()), len(values))


@dataclass(frozen=True)
class Decider:
    """Turns scores N,K into decisions. One label: the class with the highest score. Several: a threshold a class.

    The threshold of a class is set so that as many people of the split are decided to have it as really have it. So
    decisions depend on the ranking alone, and scores of any scale can be compared.
    """

    thresholds: np.ndarray | None
    """K; None where there is one label."""

    @classmethod
    def fit(cls, scores: np.ndarray, target: np.ndarray) -> Decider:
        """Return the decider for the scores N,K of a split with this target."""
        if target.ndim == 1:
            return cls(None)
        ranked, positives = -np.sort(-scores, axis=0), target.sum(0).astype(int)
        limits = [column[n - 1] if n else np.inf for column, n in zip(ranked.T, positives, strict=True)]
        return cls(np.array(limits))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return each person's class, N; or with several labels whether each person has each class, N,K bool."""
        return scores.argmax(1) if self.thresholds is None else scores >= self.thresholds


@dataclass(frozen=True)
class Moves:
    """Where a second decision differs from a first: bool, N with one label, N,K with several."""

    moved: np.ndarray
    to_right: np.ndarray
    to_wrong: np.ndarray

    @classmethod
    def between(cls, first: np.ndarray, second: np.ndarray, target: np.ndarray) -> Moves:
        """Compare two decisions by `Decider`; the target tells which are right.

        With one label, a move from one wrong class to another is neither to right nor to wrong.
        """
        truth = target.astype(first.dtype)
        moved = first != second
        return cls(moved, moved & (second == truth), moved & (first == truth))


def metric_by_third(
    scores: np.ndarray, prior: np.ndarray, has_class: Sequence[np.ndarray], several: bool
) -> Iterator[tuple[str, float, int]]:
    """Yield each third's name, its metric in percent, and how many labels it has. `scores` and `prior` are N,K.

    The people of each class are split by what the prior gives that class, so all thirds hold the same classes. With one
    label, the metric is their accuracy. With several, it is the mean over classes of the AP of a third against all who
    lack the class, so chance is the same in all thirds; classes that fewer than three people have are left out.
    """
    thirds = {
        k: [np.flatnonzero(members)[third] for third in typicality_thirds(prior[members, k])]
        for k, members in enumerate(has_class)
        if fills_thirds(members)
    }
    for number, name in enumerate(THIRDS):
        third = {k: parts[number] for k, parts in thirds.items()}
        if several:
            values = [_ap_against_others(scores[:, k], indices, has_class[k]) for k, indices in third.items()]
        else:
            values = [100.0 * hit for k, indices in third.items() for hit in (scores[indices].argmax(1) == k).tolist()]
        if values:
            yield name, float(np.mean(values)), sum(map(len, third.values()))


def typicality_thirds(prior: np.ndarray) -> list[np.ndarray]:
    """Return the indices of the numbers N in three parts, the largest first; of equal ones, the earlier come first."""
    return np.array_split(np.argsort(-prior, kind="stable"), len(THIRDS))


def fills_thirds(members: np.ndarray) -> bool:
    """Return whether enough people have a class, by N bool, for each third to hold one of them."""
    return int(members.sum()) >= len(THIRDS)


def chance_in_third(has_class: Sequence[np.ndarray]) -> float | None:
    """Return the mAP in percent of uninformed scores in a third, with several labels: the mean prevalence in it."""
    counts = [(members.sum() / len(THIRDS), (~members).sum()) for members in has_class if fills_thirds(members)]
    return float(np.mean([100 * few / (few + others) for few, others in counts])) if counts else None


def _ap_against_others(scores: np.ndarray, indices: np.ndarray, members: np.ndarray) -> float:
    """Return the AP in percent of the people at `indices` against everyone who is no member of the class."""
    chosen = ~members
    chosen[indices] = True
    target = np.zeros(len(members))
    target[indices] = 1
    return float(average_precision(scores[chosen, None], target[chosen, None])[0])
