"""The audits of a grid's cells beside each other, where there are any. Imports no torch."""

from collections import defaultdict

from clef.audit.report import COMPARED, KINDS
from clef.cards import Card
from clef.results.formats import Table
from clef.results.numbers import spread
from clef.results.published import title
from clef.results.rows import Gathered


def audit_tables(part: Gathered, card: Card, name: str) -> list[Table]:
    """A row for each backbone, method and part of its prediction: means and standard deviations over seeds."""
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for one in part.audits:
        if not one.class_name:
            found[one.backbone, one.method, one.split, one.name].append(one.value)
    if not found:
        return []
    split, pairs = card.test_splits[0], dict.fromkeys((run.backbone, run.method) for run in part.runs)
    wanted = [*((each, "value") for each in card.test_splits), *((split, kind) for kind in COMPARED)]
    rows = []
    for backbone, method in pairs:
        for kind in ("score", "factual", "Y_e"):
            values = [found.get((backbone, method, each, f"{what}.{kind}"), []) for each, what in wanted]
            if values[0]:
                rows.append([title(backbone), method, kind, str(len(values[0])), *map(spread, values)])
    columns = ["backbone", "method", "part", "seeds", *card.test_splits, *COMPARED.values()]
    return [Table(f"{name}: the audit, {card.metric}, percent", columns, rows, _notes(split))] if rows else []


def _notes(split: str) -> list[str]:
    words = {"swap.all.moved": "decisions that another's context everywhere changes, % of all", **KINDS}
    return [
        "the score of CLEF is TIE, that of others their logits; seeds: how many were audited",
        f"from subject on, all on {split}: " + "; ".join(f"{head}: {words[kind]}" for kind, head in COMPARED.items()),
        "docs/audit.md explains them",
    ]
