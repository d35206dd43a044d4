"""A gathered grid in parts: each of its datasets as each protocol has it. Imports no torch."""

from collections import Counter

from clef.cards import LEAK_FREE, Card
from clef.results.rows import Gathered


def parts_of(gathered: Gathered) -> list[tuple[Gathered, Card, str]]:
    """What was gathered of each dataset as each protocol has it, the card, and how tables call it."""
    several = len({run.protocol for run in gathered.runs}) > 1
    titles = Counter(title for title, _ in {(card.title, card.name) for card in gathered.cards.values()})
    made = []
    for (dataset, protocol), card in gathered.cards.items():
        called = card.title if titles[card.title] == 1 else f"{card.title} ({card.name})"
        named = several or protocol != LEAK_FREE
        name = f"{called}, protocol {protocol}" if named else called
        made.append((part_of(gathered, dataset, protocol), card, name))
    return made


def part_of(gathered: Gathered, dataset: str, protocol: str) -> Gathered:
    """What was gathered of one dataset as one protocol has it."""
    wanted = (dataset, protocol)
    runs = [run for run in gathered.runs if (run.dataset, run.protocol) == wanted]
    rows = [row for row in gathered.rows if (row.dataset, row.protocol) == wanted]
    missing = {run.name: gathered.missing[run.name] for run in runs if run.name in gathered.missing}
    data = {run.name: gathered.data[run.name] for run in runs if run.name in gathered.data}
    found = [interval for interval in gathered.intervals if (interval.dataset, interval.protocol) == wanted]
    curves = [point for point in gathered.curves if (point.dataset, point.protocol) == wanted]
    audits = [finding for finding in gathered.audits if (finding.dataset, finding.protocol) == wanted]
    return Gathered(gathered.grid, rows, missing, runs, data, found, curves, audits, gathered.cards)
