"""The tables of a grid, as pure functions of its rows: this run's numbers beside the published ones. No torch."""

import csv
import io
import statistics
from dataclasses import dataclass
from typing import Any

import yaml
from rich.table import Table as RichTable

from clef import cards, resources
from clef.cards import Card
from clef.results.notes import UNTRAINED, below
from clef.results.rows import Gathered, Row

DASH = "–"


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
    """For each dataset, as each protocol of the grid has it, its main table, and one of the parts of CLEF's prediction
    where there is one. No table mixes two protocols.
    """
    several = len({run.protocol for run in gathered.runs}) > 1
    made = []
    for dataset, protocol in dict.fromkeys((run.dataset, run.protocol) for run in gathered.runs):
        card, part = cards.load(dataset, protocol), _of(gathered, dataset, protocol)
        title = f"{card.title}, protocol {protocol}" if several or protocol != cards.LEAK_FREE else card.title
        made.append(_main(part, card, title))
        parts = _parts(part, card, title)
        made += [parts] if parts.rows else []
    return made


def _of(gathered: Gathered, dataset: str, protocol: str) -> Gathered:
    """What was gathered of one dataset as one protocol has it."""
    runs = [run for run in gathered.runs if (run.dataset, run.protocol) == (dataset, protocol)]
    rows = [row for row in gathered.rows if (row.dataset, row.protocol) == (dataset, protocol)]
    missing = {run.name: gathered.missing[run.name] for run in runs if run.name in gathered.missing}
    data = {run.name: gathered.data[run.name] for run in runs if run.name in gathered.data}
    return Gathered(gathered.grid, rows, missing, runs, data)


def _main(part: Gathered, card: Card, title: str) -> Table:
    splits = list(card.test_splits)
    shifted = len(splits) > 1
    known, dataset = published(), part.runs[0].dataset
    compared = dataset in known["metrics"]
    columns = ["backbone", "method", "seeds", *splits]
    columns += ["change"] if shifted else []
    columns += [f"published ({known['protocol']})", "gap"] if compared else []
    rows = []
    for backbone, method in _pairs(part):
        values = {split: _values(part.rows, backbone, method, split, "score") for split in splits}
        row = [
            _title(backbone, known),
            _marked(part.rows, backbone, method),
            str(len(values[splits[0]])),
            *(_mean(values[split]) for split in splits),
        ]
        row += [_difference(values[splits[-1]], values[splits[0]])] if shifted else []
        row += _beside(values[splits[0]], known, backbone, method, dataset) if compared else []
        rows.append(row)
    notes = below(part, card, splits, known["protocol"] if compared else None)
    return Table(f"{title}: {card.metric}, percent", columns, rows, notes)


def _parts(part: Gathered, card: Card, title: str) -> Table:
    names = {"score": "TIE", "factual": "factual", "Y_e": "Y_e", "Y_c": "Y_c"}
    rows = []
    for backbone, method in _pairs(part):
        for split in card.test_splits:
            values = [_values(part.rows, backbone, method, split, name) for name in names]
            if values[-1]:
                rows.append([_title(backbone, published()), method, split, *(_mean(value) for value in values)])
    columns = ["backbone", "method", "split", *names.values()]
    notes = ["TIE is the score; Y_e is the backbone's part by itself, Y_c the context's"]
    return Table(f"{title}: the parts of the prediction, {card.metric}, percent", columns, rows, notes)


def _pairs(part: Gathered) -> list[tuple[str, str]]:
    return list(dict.fromkeys((run.backbone, run.method) for run in part.runs))


def _values(rows: list[Row], backbone: str, method: str, split: str, part: str) -> list[float]:
    wanted = (backbone, method, split, part)
    return [row.value for row in rows if (row.backbone, row.method, row.split, row.part) == wanted]


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


def _marked(rows: list[Row], backbone: str, method: str) -> str:
    """The method's name, marked if a cell of it went without pre-training."""
    cells = (row for row in rows if (row.backbone, row.method) == (backbone, method))
    return method + UNTRAINED if any(row.random_init for row in cells) else method


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
