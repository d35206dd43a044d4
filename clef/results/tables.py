"""The tables of a grid, as pure functions of its rows: this run's numbers beside the published ones. No torch."""

import csv
import io
import statistics
from dataclasses import dataclass
from typing import Any

import yaml
from rich.table import Table as RichTable

from clef import cards, resources
from clef.results.rows import Gathered, Row

DASH = "–"
UNTRAINED = "°"
"""Behind a method's name: something in it started at random although pre-trained weights could have been named."""


@dataclass(frozen=True)
class Table:
    """A title, column heads, rows of text, and notes below."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]


def published() -> dict[str, Any]:
    """The published numbers."""
    content: dict[str, Any] = yaml.safe_load((resources.PACKAGE / "results" / "published.yaml").read_text())
    return content


def tables(gathered: Gathered) -> list[Table]:
    """For each dataset of the grid its main table, and one of the parts of CLEF's prediction where there is one."""
    made = []
    for dataset in dict.fromkeys(run.dataset for run in gathered.runs):
        made.append(_main(gathered, dataset))
        parts = _parts(gathered, dataset)
        made += [parts] if parts.rows else []
    return made


def _main(gathered: Gathered, dataset: str) -> Table:
    card = cards.load(dataset)
    splits = list(card.test_splits)
    shifted = len(splits) > 1
    known = published()
    compared = dataset in known["metrics"]
    columns = ["backbone", "method", "seeds", *splits]
    columns += ["change"] if shifted else []
    columns += ["published", "gap"] if compared else []
    rows = []
    for backbone, method in _pairs(gathered, dataset):
        values = {split: _values(gathered.rows, dataset, backbone, method, split, "score") for split in splits}
        row = [
            _title(backbone, known),
            _marked(gathered.rows, dataset, backbone, method),
            str(len(values[splits[0]])),
            *(_mean(values[split]) for split in splits),
        ]
        row += [_difference(values[splits[-1]], values[splits[0]])] if shifted else []
        row += _beside(values[splits[0]], known, backbone, method, dataset) if compared else []
        rows.append(row)
    return Table(f"{card.title}: {card.metric}, percent", columns, rows, _notes(gathered, dataset, splits))


def _parts(gathered: Gathered, dataset: str) -> Table:
    card = cards.load(dataset)
    names = {
        "score": "TIE (the score)",
        "factual": "factual",
        "Y_e": "Y_e (backbone)",
        "Y_c": "Y_c (context)",
    }
    rows = []
    for backbone, method in _pairs(gathered, dataset):
        for split in card.test_splits:
            values = [_values(gathered.rows, dataset, backbone, method, split, part) for part in names]
            if values[-1]:
                rows.append([_title(backbone, published()), method, split, *(_mean(part) for part in values)])
    title = f"{card.title}: the parts of the prediction, {card.metric}, percent"
    return Table(title, ["backbone", "method", "split", *names.values()], rows, [])


def _pairs(gathered: Gathered, dataset: str) -> list[tuple[str, str]]:
    return list(dict.fromkeys((run.backbone, run.method) for run in gathered.runs if run.dataset == dataset))


def _values(rows: list[Row], dataset: str, backbone: str, method: str, split: str, part: str) -> list[float]:
    wanted = (dataset, backbone, method, split, part)
    return [row.value for row in rows if (row.dataset, row.backbone, row.method, row.split, row.part) == wanted]


def _mean(values: list[float]) -> str:
    if not values:
        return DASH
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"


def _difference(values: list[float], base: list[float]) -> str:
    return f"{statistics.fmean(values) - statistics.fmean(base):+.2f}" if values and base else DASH


def _beside(values: list[float], known: dict[str, Any], backbone: str, method: str, dataset: str) -> list[str]:
    theirs = known["backbones"].get(backbone, {}).get(method, {}).get(dataset)
    if theirs is None:
        theirs = known["ablations"].get(method, {}).get(dataset, {}).get(backbone)
    if theirs is None:
        return [DASH, DASH]
    return [f"{theirs:.2f}", f"{statistics.fmean(values) - theirs:+.2f}" if values else DASH]


def _title(backbone: str, known: dict[str, Any]) -> str:
    return str(known["backbones"].get(backbone, {}).get("name", backbone))


def _notes(gathered: Gathered, dataset: str, splits: list[str]) -> list[str]:
    rows = [row for row in gathered.rows if row.dataset == dataset]
    notes = []
    for split in splits:
        of_split = [row for row in rows if row.split == split]
        if of_split:
            counts = sorted({row.samples for row in of_split})
            levels = sorted({f"{row.chance:.2f}" for row in of_split})
            notes.append(f"{split}: {' or '.join(f'{n:,}' for n in counts)} people, chance level {' or '.join(levels)}")
    if untrained := _untrained(rows):
        notes.append(f"{UNTRAINED} without pre-training, as configured: {'; '.join(untrained)}")
    commits = {row.commit for row in rows}
    if len(commits) > 1 or any(row.dirty for row in rows):
        notes.append("warning: " + _versions(commits, any(row.dirty for row in rows)))
    names = {run.name for run in gathered.runs if run.dataset == dataset}
    notes += [f"no number from {name}: {reason}" for name, reason in gathered.missing.items() if name in names]
    return notes


def _marked(rows: list[Row], dataset: str, backbone: str, method: str) -> str:
    """The method's name, marked if a cell of it went without pre-training."""
    cells = (row for row in rows if (row.dataset, row.backbone, row.method) == (dataset, backbone, method))
    return method + UNTRAINED if any(row.random_init for row in cells) else method


def _untrained(rows: list[Row]) -> list[str]:
    """What started at random, with the methods in which it did, a line for each backbone."""
    encoders: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for encoder in row.random_init.split():
            methods = encoders.setdefault((row.backbone, encoder), [])
            if row.method not in methods:
                methods.append(row.method)
    made: dict[str, dict[str, list[str]]] = {}
    for (backbone, encoder), methods in encoders.items():
        made.setdefault(backbone, {}).setdefault(", ".join(methods), []).append(encoder)
    return [
        f"{backbone}: " + ", ".join(f"{_joined(names)} ({methods})" for methods, names in groups.items())
        for backbone, groups in made.items()
    ]


def _joined(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def _versions(commits: set[str | None], dirty: bool) -> str:
    several = f"cells come from {len(commits)} versions of the code" if len(commits) > 1 else ""
    edited = "some code was edited and not committed" if dirty else ""
    return " and ".join(text for text in (several, edited) if text)


def to_markdown(made: list[Table], grid: str) -> str:
    """All tables as one Markdown page."""
    lines = [f"# Results of the grid `{grid}`", ""]
    for table in made:
        numeric = {i for i, column in enumerate(table.columns) if column not in ("backbone", "method", "split")}
        lines += [f"## {table.title}", "", "| " + " | ".join(table.columns) + " |"]
        lines.append("| " + " | ".join("---:" if i in numeric else "---" for i in range(len(table.columns))) + " |")
        lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in table.rows]
        lines += ["", *(f"- {_cell(note)}" for note in table.notes), *([""] if table.notes else [])]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def to_csv(made: list[Table]) -> str:
    """All tables as CSV: a title line, heads, rows, and an empty line between tables."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, table in enumerate(made):
        writer.writerows([[]] if i else [])
        writer.writerows([[table.title], table.columns, *table.rows])
    return text.getvalue()


def to_rich(table: Table) -> RichTable:
    """A table for the terminal."""
    made = RichTable(title=table.title, title_justify="left", title_style="bold")
    for column in table.columns:
        text = column in ("backbone", "method", "split")
        made.add_column(column, justify="left" if text else "right", no_wrap=text)
    for row in table.rows:
        made.add_row(*row)
    return made
