"""From the passes of a split to the numbers of its audit (docs/audit.md lists their names)."""

from collections.abc import Iterator
from statistics import fmean

import numpy as np

from clef.audit import thirds
from clef.audit.decisions import Decider, Moves
from clef.audit.passes import Arrays, Passes
from clef.audit.rows import Row, Rows
from clef.config import CellConfig
from clef.engine import effects, metrics

REACHED = {"branch": ("score", "factual"), "all": ("score", "factual", "Y_e")}
"""The parts of a prediction that a swap reaches, by the streams that it swaps."""


def measured(config: CellConfig, passes: Passes, prior: np.ndarray, rows: Rows) -> Iterator[Row]:
    """Every number of a split. `prior` N,K: what the context says of each label by itself."""
    yield rows.one("chance", metrics.chance(rows.target, len(rows.classes)))
    several = rows.target.ndim == 2
    if several and (value := thirds.chance(rows.have)) is not None:
        yield rows.one("chance.thirds", value)
    yield from rows.metric("prior", prior)
    yield from _performance(passes, rows)
    yield from _effects(config, passes, rows)
    yield from _against_factual(passes.plain, rows)
    yield from _swapped(passes, rows)
    for part, scores in predicted(passes.plain).items():
        for third, value, samples in thirds.by_third(scores, prior, rows.have, several):
            yield rows.one(f"{third}.{part}", value, samples)


def predicted(arrays: Arrays) -> dict[str, np.ndarray]:
    """The predictions that a pass holds, each N,K: the scores, and the parts of them where a method has parts."""
    parts = {"score": arrays["scores"]}
    if {"Y_c", "Y_e"} <= arrays.keys():
        parts |= {"factual": effects.factual(arrays), "Y_e": arrays["Y_e"], "Y_c": arrays["Y_c"]}
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
    for name, values in effects.effects(passes.plain).items():
        yield from rows.effect(name, values)
    seen = (effects.factual(arrays) for arrays in (passes.plain, passes.context_only, passes.neither))
    stated = [value for logits in seen if (value := effects.log_probabilities(config, logits)) is not None]
    if stated:
        whole, context, nothing = stated
        blanked = {"TE": whole - nothing, "NDE": context - nothing, "TIE": whole - context}
        for name, values in blanked.items():
            yield from rows.effect(f"blanked.{name}", values)


def _against_factual(plain: Arrays, rows: Rows) -> Iterator[Row]:
    """How often TIE decides otherwise than the factual prediction, and which way."""
    if "Y_e*" not in plain:
        return
    first, second = (Decider.of(s, rows.target)(s) for s in (effects.factual(plain), plain["scores"]))
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
    score = effects.effects(found).get("TIE", found["Y_c"])
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
