"""What a reader must know of a table's numbers: the lines below it. Imports no torch."""

from collections.abc import Iterable
from dataclasses import replace

from clef.datasets.cards import Card
from clef.results import data_quality, frame
from clef.results.formats import UNTRAINED, Table
from clef.results.frame import Gathered, Numbers, Row, headlines
from clef.results.published import title

WARNING = "warning: "
"""What a note begins with that a reader must not miss; the page shows it at its top, too."""
_MARK = f"{UNTRAINED} without pre-training, as configured"


def below(part: Gathered, card: Card, splits: list[str], published: str | None) -> list[str]:
    """The notes of the table of one dataset and protocol. `published`: the protocol of the numbers it compares with."""
    notes = [f"{WARNING}{told}" for told in frame.differences(part.audits)]
    if part.data:
        usual = data_quality.most_common(part.data.values())
        notes += ["chance level: " + ", ".join(f"{split} {_chance(part.rows, split)}" for split in splits)]
        notes += data_quality.notes(usual, card)
        notes += compared_with(part, card, splits[0], published) if published else []
    notes += untrained(part.rows)
    commits, dirty = {row.commit for row in part.rows}, any(row.dirty for row in part.rows)
    if len(commits) > 1 or dirty:
        notes.append(WARNING + _versions(commits, dirty))
    notes += [f"{WARNING}{told}" for told in (*precision(part.rows), *data_quality.differences(part.data))]
    notes += _untested(part, splits)
    reasons: dict[str, list[str]] = {}
    for name, reason in part.missing.items():
        reasons.setdefault(reason, []).append(name)
    return notes + [f"no number from {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _untested(part: Gathered, splits: list[str]) -> list[str]:
    """Cells whose result lacks a test split that the card has by now."""
    notes = []
    for split in splits:
        known = {(row.backbone, row.method, row.seed) for row in headlines(part.rows) if row.split == split}
        done = [run for run in part.runs if run.name in part.data]
        gone = [run.name for run in done if (run.backbone, run.method, run.seed) not in known]
        notes += [f"no number on {split} from {', '.join(gone)}: not tested on it"] if gone else []
    return notes


def compared_with(part: Gathered, card: Card, split: str, published: str) -> list[str]:
    """Whether `split` as most cells have it is what the published numbers are on."""
    return (
        [data_quality.official(data_quality.most_common(part.data.values()), card, split, published)]
        if part.data
        else []
    )


def _chance(rows: list[Row], split: str) -> str:
    return " or ".join(sorted({f"{row.chance:.2f}" for row in headlines(rows) if row.split == split}))


def untrained(rows: Iterable[Row]) -> list[str]:
    """What started at random, with the methods in which it did, by backbone."""
    encoders: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for encoder in row.random_init.split():
            methods = encoders.setdefault((row.backbone, encoder), [])
            if row.method not in methods:
                methods.append(row.method)
    made: dict[str, dict[str, list[str]]] = {}
    for (backbone, encoder), methods in encoders.items():
        made.setdefault(backbone, {}).setdefault(", ".join(methods), []).append(encoder)
    told = [
        f"{backbone}: " + ", ".join(f"{_joined(names)} ({methods})" for methods, names in groups.items())
        for backbone, groups in made.items()
    ]
    return [f"{_MARK}: {'; '.join(told)}"] if told else []


def marked(table: Table, numbers: Numbers) -> Table:
    """The table with a mark behind the methods in which something started at random, and what marks in it mean."""
    names = {(title(backbone), method) for backbone, method in numbers.untrained}
    rows = table.rows
    if table.columns[:2] == ["backbone", "method"]:
        rows = [[row[0], row[1] + UNTRAINED, *row[2:]] if (row[0], row[1]) in names else row for row in rows]
    shown = any(UNTRAINED in text for row in (table.columns, *rows) for text in row)
    told = any(note.startswith(UNTRAINED) for note in table.notes)
    more = [f"{_MARK}: the main table says what"] if shown and not told else []
    return replace(table, rows=rows, notes=table.notes + more)


def _joined(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def precision(rows: Iterable[Row]) -> list[str]:
    """In what the cells of one table were computed, and on how many ranks, where that is not one and the same."""
    known = list(rows)
    types, ranks = sorted({row.dtype for row in known}), sorted({row.ranks for row in known})
    told = [f"cells were computed in {' and '.join(types)}"] if len(types) > 1 else []
    several = (
        f"cells ran on {' and '.join(map(str, ranks))} ranks: batch statistics are each rank's, if not synchronised"
    )
    return told + ([several] if len(ranks) > 1 else [])


def _versions(commits: set[str | None], dirty: bool) -> str:
    several = f"cells come from {len(commits)} versions of the code" if len(commits) > 1 else ""
    edited = "some code was edited and not committed" if dirty else ""
    return " and ".join(text for text in (several, edited) if text)
