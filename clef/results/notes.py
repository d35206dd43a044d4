"""The notes below a table: what a reader must know about its numbers. Imports no torch."""

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from clef.datasets.cards import Card
from clef.results import data_quality
from clef.results.formats import UNTRAINED, Table
from clef.results.frame import GridResults, SeedValues, headlines
from clef.results.published import backbone_title, published

WARNING = "warning: "
"""How a note begins that a reader must not miss; the page repeats it at its top."""
_MARK = f"{UNTRAINED} without pre-training, as configured"


def main_notes(part: GridResults, card: Card, splits: list[str], compared: bool) -> list[str]:
    """Return the notes of the main table of one dataset and protocol. `compared`: it shows published numbers."""
    rows = headlines(part.rows, card.metric)
    notes = [f"{WARNING}{text}" for text in audit_differences(part.audits)]
    if part.data:
        levels = [f"{split} {level}" for split in splits if (level := _chance(rows, split))]
        notes += [f"chance level: {', '.join(levels)}"] if levels else []
        notes += data_quality.notes(data_quality.most_common(part.data.values()), card)
        notes += compared_with(part, card, splits[0]) if compared else []
    notes += untrained(part.rows)
    notes += [f"{WARNING}{text}" for text in (*_code_versions(part.rows), *precision(part.rows))]
    notes += [f"{WARNING}{text}" for text in data_quality.differences(part.data)]
    notes += _untested(part, rows, splits)
    reasons: dict[str, list[str]] = {}
    for name, reason in part.missing.items():
        reasons.setdefault(reason, []).append(name)
    return notes + [f"no number from {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def audit_differences(audits: pd.DataFrame) -> list[str]:
    """Return how the audits of one table differ, though their numbers stand side by side; [] where they don't."""
    draws = sorted(audits[["draws", "draws_seed"]].drop_duplicates().itertuples(index=False))
    if len(draws) < 2:
        return []
    return [f"audits differ in their draws: {' or '.join(f'{count} of seed {seed}' for count, seed in draws)}"]


def _untested(part: GridResults, rows: pd.DataFrame, splits: list[str]) -> list[str]:
    """Return which cells have a result without some test split that the card has by now. `rows`: the headlines."""
    notes = []
    tested = set(rows[["split", "backbone", "method", "seed"]].itertuples(index=False, name=None))
    for split in splits:
        done = [run for run in part.runs if run.name in part.data]
        untested = [run.name for run in done if (split, run.backbone, run.method, run.seed) not in tested]
        notes += [f"no number on {split} from {', '.join(untested)}: not tested on it"] if untested else []
    return notes


def compared_with(part: GridResults, card: Card, split: str) -> list[str]:
    """Return whether the published numbers are on the same people as `split` here, as most cells have it."""
    if not part.data:
        return []
    usual = data_quality.most_common(part.data.values())
    return [data_quality.compare_with_official(usual, card, split, published()["protocol"])]


def _chance(rows: pd.DataFrame, split: str) -> str:
    levels = rows.loc[rows["split"] == split, "chance"].dropna()
    return " or ".join(sorted({f"{level:.2f}" for level in levels}))


def untrained(rows: pd.DataFrame) -> list[str]:
    """Return which networks started at random, by backbone, with the methods in which they did."""
    methods: dict[tuple[str, str], list[str]] = {}
    random = rows[rows["random_init"] != ""][["backbone", "method", "random_init"]].drop_duplicates()
    for backbone, method, encoders in random.itertuples(index=False):
        for encoder in encoders.split():
            names = methods.setdefault((backbone, encoder), [])
            if method not in names:
                names.append(method)
    by_backbone: dict[str, dict[str, list[str]]] = {}
    for (backbone, encoder), names in methods.items():
        by_backbone.setdefault(backbone, {}).setdefault(", ".join(names), []).append(encoder)
    texts = [
        f"{backbone}: " + ", ".join(f"{_and(encoders)} ({names})" for names, encoders in groups.items())
        for backbone, groups in by_backbone.items()
    ]
    return [f"{_MARK}: {'; '.join(texts)}"] if texts else []


def mark_untrained(table: Table, values: SeedValues) -> Table:
    """Return the table with a mark after the methods in which something started at random, and a note about marks."""
    names = {(backbone_title(backbone), method) for backbone, method in values.untrained}
    rows = table.rows
    if table.columns[:2] == ["backbone", "method"]:
        rows = [[row[0], row[1] + UNTRAINED, *row[2:]] if (row[0], row[1]) in names else row for row in rows]
    marked = any(UNTRAINED in text for row in (table.columns, *rows) for text in row)
    explained = any(note.startswith(UNTRAINED) for note in table.notes)
    more = [f"{_MARK}: the main table says what"] if marked and not explained else []
    return replace(table, rows=rows, notes=table.notes + more)


def _and(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def precision(rows: pd.DataFrame) -> list[str]:
    """Return in which precisions and on how many ranks the cells of one table were computed, where these differ."""
    dtypes, ranks = (_distinct(rows[name]) for name in ("dtype", "ranks"))
    notes = [f"cells were computed in {' and '.join(dtypes)}"] if len(dtypes) > 1 else []
    several = (
        f"cells ran on {' and '.join(map(str, ranks))} ranks: batch statistics are each rank's, if not synchronised"
    )
    return notes + ([several] if len(ranks) > 1 else [])


def _distinct(values: Iterable) -> list:
    return sorted(set(values))


def _code_versions(rows: pd.DataFrame) -> list[str]:
    """Return whether the cells come from several versions of the code, or from code that was edited."""
    versions = rows["commit"].fillna("").nunique()
    notes = [f"cells come from {versions} versions of the code"] if versions > 1 else []
    notes += ["some code was edited and not committed"] if rows["dirty"].fillna(False).any() else []
    return [" and ".join(notes)] if notes else []
