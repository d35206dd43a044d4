"""Audits on the terminal: the tables of one cell, or of several cells the tables that compare them."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from clef.cells.audits import Audit, find_value
from clef.console import out

PARTS = ("score", "factual", "Y_e", "Y_c")
"""The parts of a prediction: the scores by which a method ranks, Y_c + Y_e, and each of the two by itself."""
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
"""Under which interventions, and on which third of people, the metric is shown: by the beginning of its rows' names."""
COMPARED = {
    "subject_only": "subject",
    "context_only": "context",
    "swap.all.value": "swapped",
    "swap.all.moved": "moved",
    "typical": "typical",
    "atypical": "atypical",
}
"""The columns that compare several cells, on the first split, by the beginning of their rows' names."""


def print_audits(audits: Sequence[Audit]) -> None:
    """Print all tables of one audit, or the tables that compare several."""
    for part in _cell_tables(audits[0]) if len(audits) == 1 else _comparisons(audits):
        out.print(part)


def _cell_tables(audit: Audit) -> Iterator[RenderableType]:
    facts = audit.facts
    yield Text(facts["cell"], style="bold")
    yield Text(f"subject: {_join_names(facts['subject'])}; context: {_join_names(facts['context'])}")
    if shows := facts["context_shows_subject"]:
        yield Text(
            f"the subject can be seen in {_join_names(shows)} too, so a swap also shows another subject", "yellow"
        )
    for split in facts["splits"]:
        yield _performance_table(audit, split)
        yield _decision_table(audit, split)
        if any(row.name.endswith(".own") for row in audit.rows):
            yield _effect_table(audit, split)


def _join_names(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _performance_table(audit: Audit, split: str) -> Table:
    """Return the metric of each part of the prediction (columns) in each case of `KINDS` (rows)."""
    level = find_value(audit.rows, split, "chance")
    chance = "" if level is None else f", chance {level:.1f}"  # not every metric has a chance level
    title = f"{split}: {audit.facts['metric']}{chance}"
    present = [part for part in PARTS if find_value(audit.rows, split, f"value.{part}") is not None]
    table = _table(title, ["", *(_part_title(audit, part) for part in present)])
    for kind, title in KINDS.items():
        values = [find_value(audit.rows, split, f"{kind}.{part}") for part in present]
        if any(value is not None for value in values):
            table.add_row(title, *map(_format, values))
    prior = find_value(audit.rows, split, "prior")
    in_thirds = find_value(audit.rows, split, "chance.thirds")
    chance_in_thirds = "" if in_thirds is None else f"; chance in the thirds: {in_thirds:.1f}"
    table.caption = f"a linear probe of the context: {prior:.1f}{chance_in_thirds}"
    table.caption_justify = "left"
    return table


def _part_title(audit: Audit, part: str) -> str:
    """Return a part's name; the score of a method that ranks by TIE is called TIE."""
    has_tie = any(row.name == "TIE" for row in audit.rows)
    return "TIE" if part == "score" and has_tie else part


def _decision_table(audit: Audit, split: str) -> Table:
    """Return how often decisions change, and which way."""
    rows = audit.rows
    table = _table(f"{split}: decisions, %", ["what changes", "of", "moved", "to right", "to wrong", "distance"])
    if (moved := find_value(rows, split, "debiased.moved")) is not None:
        right, wrong = (find_value(rows, split, f"debiased.to_{way}") for way in ("right", "wrong"))
        table.add_row("TIE instead of factual", "", *map(_format, (moved, right, wrong)), "")
    for where, title in (("branch", "context swapped in the branch"), ("all", "context swapped everywhere")):
        for part in PARTS:
            kinds = ("moved", "to_right", "to_wrong", "spreads")
            values = [find_value(rows, split, f"swap.{where}.{kind}.{part}") for kind in kinds]
            if values[0] is not None:
                table.add_row(title, _part_title(audit, part), *map(_format, values[:3]), _format(values[3], 2))
    return table


def _effect_table(audit: Audit, split: str) -> Table:
    """Return the mean effects on each class over who has it: CLEF's own, and those of blanked inputs."""
    names, effects = {row.name for row in audit.rows}, ("TE", "NDE", "TIE")
    kinds = [kind for kind in (*effects, *(f"blanked.{kind}" for kind in effects)) if kind in names]
    heads = [kind.replace("blanked.", "blanked\n") for kind in kinds]
    table = _table(f"{split}: mean effects, over who has the class", ["class", *heads, "people"])
    for label in dict.fromkeys(row.label for row in audit.rows if row.label):
        rows = [row for row in audit.rows if (row.split, row.label) == (split, label) and row.name.endswith(".own")]
        values = [find_value(rows, split, f"{kind}.own", label) for kind in kinds]
        if rows:
            table.add_row(escape(label), *(_format(value, 2) for value in values), str(rows[0].samples))
    return table


def _comparisons(audits: Sequence[Audit]) -> Iterator[Table]:
    """Yield a table for each dataset and backbone: a row for each part of a method's prediction, means over cells."""
    for dataset, backbone in dict.fromkeys((audit.facts["dataset"], audit.facts["backbone"]) for audit in audits):
        compared = [a for a in audits if (a.facts["dataset"], a.facts["backbone"]) == (dataset, backbone)]
        splits = list(dict.fromkeys(split for audit in compared for split in audit.facts["splits"]))
        title = f"{dataset}, {backbone}: {compared[0].facts['metric']}, means over cells"
        heads = [split.replace("_", "_\n") for split in splits]
        table = _table(title, ["method (cells)", *heads, *COMPARED.values()], narrow=True)
        table.caption, table.caption_justify = f"from subject to atypical: on {splits[0]}", "left"
        for method in dict.fromkeys(audit.facts["method"] for audit in compared):
            cells = [audit for audit in compared if audit.facts["method"] == method]
            for part in ("score", "factual", "Y_e"):
                columns = [(split, "value") for split in splits] + [(splits[0], name) for name in COMPARED]
                values = [_mean(cells, split, f"{name}.{part}") for split, name in columns]
                if values[0] is not None:
                    name = f"{escape(method)} ({len(cells)})" if part == "score" else f"  {part}"
                    table.add_row(name, *map(_format, values))
        yield table


def _mean(audits: Iterable[Audit], split: str, name: str) -> float | None:
    """Return the mean over the audits that have the number; None where none has it."""
    values = [value for audit in audits if (value := find_value(audit.rows, split, name)) is not None]
    return fmean(values) if values else None


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


def _format(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
