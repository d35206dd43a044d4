"""What a reader must know of a table's numbers: the lines below it. Imports no torch."""

from clef.cards import Card
from clef.results import data
from clef.results.formats import UNTRAINED
from clef.results.rows import Gathered, Row, headlines


def below(part: Gathered, card: Card, splits: list[str], published: str | None) -> list[str]:
    """The notes of the table of one dataset and protocol. `published`: the protocol of the numbers it compares with."""
    notes = []
    if part.data:
        usual = data.most_common(part.data.values())
        notes += ["chance level: " + ", ".join(f"{split} {_chance(part.rows, split)}" for split in splits)]
        notes += data.notes(usual, card)
        notes += compared_with(part, card, splits[0], published) if published else []
    if untrained := _untrained(part.rows):
        notes.append(f"{UNTRAINED} without pre-training, as configured: {'; '.join(untrained)}")
    commits, dirty = {row.commit for row in part.rows}, any(row.dirty for row in part.rows)
    if len(commits) > 1 or dirty:
        notes.append("warning: " + _versions(commits, dirty))
    if differs := data.difference(part.data):
        notes.append(f"warning: {differs}")
    reasons: dict[str, list[str]] = {}
    for name, reason in part.missing.items():
        reasons.setdefault(reason, []).append(name)
    return notes + [f"no number from {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def compared_with(part: Gathered, card: Card, split: str, published: str) -> list[str]:
    """Whether `split` as most cells have it is what the published numbers are on."""
    return [data.official(data.most_common(part.data.values()), card, split, published)] if part.data else []


def _chance(rows: list[Row], split: str) -> str:
    return " or ".join(sorted({f"{row.chance:.2f}" for row in headlines(rows) if row.split == split}))


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
