"""The audits on the terminal: tables of each cell, and where there are several, one of all of them."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from clef.audit.records import Audit, find
from clef.console import out

PARTS = ("score", "factual", "Y_e", "Y_c")
"""Of a prediction: what is ranked, Y_c + Y_e, and each by itself."""
KINDS = {
    "value": "as it is",
    "subject_only": "the subject alone",
    "context_only": "the context alone",
    "swap.branch.value": "another's context in the branch",
    "swap.all.value": "another's context everywhere",
    "typical": "context typical of the label",
    "middle": "in between",
    "atypical": "context atypical of the label",
}
"""What the metric is shown of, by the names of its rows."""
COMPARED = {
    "subject_only": "subject",
    "context_only": "context",
    "swap.all.value": "swapped",
    "swap.all.moved": "moved",
    "typical": "typical",
    "atypical": "atypical",
}
"""The columns that compare several cells, on the first split."""


def show(audits: Sequence[Audit]) -> None:
    """Print all of one audit, or of several what compares them."""
    for part in _cell(audits[0]) if len(audits) == 1 else _overview(audits):
        out.print(part)


def _cell(audit: Audit) -> Iterator[RenderableType]:
    facts = audit.facts
    yield Text(facts["cell"], style="bold")
    yield Text(f"subject: {_listed(facts['subject'])}; context: {_listed(facts['context'])}")
    if shows := facts["context_shows_subject"]:
        yield Text(
            f"the subject can be seen in {_listed(shows)} too: there a swap brings another subject along", "yellow"
        )
    for split in facts["splits"]:
        yield _performance(audit, split)
        yield _movement(audit, split)
        if any(row.name.endswith(".own") for row in audit.rows):
            yield _effects(audit, split)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _performance(audit: Audit, split: str) -> Table:
    """The metric of each part of the prediction, under each treatment."""
    chance = find(audit.rows, split, "chance")
    title = f"{split}: {audit.facts['metric']}, chance {chance:.1f}"
    present = [part for part in PARTS if find(audit.rows, split, f"value.{part}") is not None]
    table = _table(title, ["", *(_short(audit, part) for part in present)])
    for kind, words in KINDS.items():
        values = [find(audit.rows, split, f"{kind}.{part}") for part in present]
        if any(value is not None for value in values):
            table.add_row(words, *map(_number, values))
    prior = find(audit.rows, split, "prior")
    of_thirds = find(audit.rows, split, "chance.thirds")
    more = "" if of_thirds is None else f"; chance in the thirds: {of_thirds:.1f}"
    table.caption = f"a linear probe of the context: {prior:.1f}{more}"
    table.caption_justify = "left"
    return table


def _short(audit: Audit, part: str) -> str:
    has_tie = any(row.name == "TIE" for row in audit.rows)
    return "TIE" if part == "score" and has_tie else part


def _movement(audit: Audit, split: str) -> Table:
    """How often decisions change, and which way."""
    rows = audit.rows
    table = _table(f"{split}: decisions, %", ["what changes", "of", "moved", "to right", "to wrong", "distance"])
    if (moved := find(rows, split, "debiased.moved")) is not None:
        right, wrong = (find(rows, split, f"debiased.to_{way}") for way in ("right", "wrong"))
        table.add_row("TIE in place of factual", "", *map(_number, (moved, right, wrong)), "")
    for streams, words in (("branch", "context swapped in the branch"), ("all", "context swapped everywhere")):
        for part in PARTS:
            kinds = ("moved", "to_right", "to_wrong", "spreads")
            values = [find(rows, split, f"swap.{streams}.{kind}.{part}") for kind in kinds]
            if values[0] is not None:
                table.add_row(words, _short(audit, part), *map(_number, values[:3]), _number(values[3], 2))
    return table


def _effects(audit: Audit, split: str) -> Table:
    """Mean effects on a class over those who have it; CLEF's own, and those of inputs that are gone."""
    names, effects = {row.name for row in audit.rows}, ("TE", "NDE", "TIE")
    kinds = [kind for kind in (*effects, *(f"blanked.{kind}" for kind in effects)) if kind in names]
    heads = [kind.replace("blanked.", "blanked\n") for kind in kinds]
    table = _table(f"{split}: mean effects, over who has the class", ["class", *heads, "people"])
    for label in dict.fromkeys(row.label for row in audit.rows if row.label):
        own = [row for row in audit.rows if (row.split, row.label) == (split, label) and row.name.endswith(".own")]
        values = [find(own, split, f"{kind}.own", label) for kind in kinds]
        if own:
            table.add_row(escape(label), *(_number(value, 2) for value in values), str(own[0].samples))
    return table


def _overview(audits: Sequence[Audit]) -> Iterator[Table]:
    """A table for each dataset and backbone: a row for each part of a method's prediction, means over its cells."""
    for dataset, backbone in dict.fromkeys((audit.facts["dataset"], audit.facts["backbone"]) for audit in audits):
        mine = [a for a in audits if (a.facts["dataset"], a.facts["backbone"]) == (dataset, backbone)]
        splits = list(dict.fromkeys(split for audit in mine for split in audit.facts["splits"]))
        title = f"{dataset}, {backbone}: {mine[0].facts['metric']}, means over cells"
        heads = [split.replace("_", "_\n") for split in splits]
        table = _table(title, ["method (cells)", *heads, *COMPARED.values()], narrow=True)
        table.caption, table.caption_justify = f"from subject to atypical: on {splits[0]}", "left"
        for method in dict.fromkeys(audit.facts["method"] for audit in mine):
            cells = [audit for audit in mine if audit.facts["method"] == method]
            for part in ("score", "factual", "Y_e"):
                wanted = [(split, "value") for split in splits] + [(splits[0], name) for name in COMPARED]
                values = [_mean(cells, split, f"{name}.{part}") for split, name in wanted]
                if values[0] is not None:
                    name = f"{escape(method)} ({len(cells)})" if part == "score" else f"  {part}"
                    table.add_row(name, *map(_number, values))
        yield table


def _mean(audits: Iterable[Audit], split: str, name: str) -> float | None:
    """Over those that have the number."""
    found = [value for audit in audits if (value := find(audit.rows, split, name)) is not None]
    return fmean(found) if found else None


def _table(title: str, heads: Iterable[str], narrow: bool = False) -> Table:
    table = Table(
        title=escape(f"\n{title}"),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0 if narrow else 1),
    )
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left", no_wrap=narrow and not number)
    return table


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
