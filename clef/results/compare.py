"""Two grids side by side: the headline of every dataset, backbone, method and test split of either. No torch."""

from dataclasses import replace

from clef.cards import Card
from clef.results import data
from clef.results.formats import Table, signed
from clef.results.notes import WARNING, precision, untrained
from clef.results.numbers import Numbers, minus, spread
from clef.results.parts import part_of, parts_of
from clef.results.published import title
from clef.results.rows import Gathered


def side_by_side(first: Gathered, second: Gathered) -> list[Table]:
    """A table for each dataset as each protocol has it, those of the first grid before those of the second alone.

    A grid is called by its name; where both have the same, by its number too.
    """
    names = [first.grid, second.grid] if first.grid != second.grid else [f"{first.grid} 1", f"{second.grid} 2"]
    made = []
    for part, card, name in parts_of(replace(first, runs=first.runs + second.runs, cards=first.cards | second.cards)):
        which = part.runs[0].dataset, part.runs[0].protocol
        both = [part_of(one, *which) for one in (first, second)]
        columns = ["backbone", "method", "split", "seeds", *names, "difference"]
        made.append(Table(f"{name}: {card.metric}, percent", columns, _rows(part, both, card), _notes(names, both)))
    return made


def _rows(part: Gathered, both: list[Gathered], card: Card) -> list[list[str]]:
    """`part`: the plans of both."""
    made, sides = [], [Numbers(one.rows) for one in both]
    for pair in part.pairs:
        for split in card.test_splits:
            values = [numbers.by_seed(*pair, split, card.metric).values() for numbers in sides]
            means = [numbers.mean(*pair, split, card.metric) for numbers in sides]
            shown = [numbers.marked(*pair, spread(one)) for numbers, one in zip(sides, values, strict=True)]
            seeds = ", ".join(str(len(one)) for one in values)
            made.append([title(pair[0]), pair[1], split, seeds, *shown, signed(minus(means[1], means[0]))])
    return made


def _notes(names: list[str], both: list[Gathered]) -> list[str]:
    """What a difference is, and what may be behind it besides the setting that one has in mind."""
    rows = [row for one in both for row in one.rows]
    notes = [
        f"difference: the mean of {names[1]} less that of {names[0]}, each over its own seeds; no test is made of it",
        *untrained(rows),
    ]
    if not all(one.rows for one in both):
        return notes
    commits = [sorted({row.commit or "unknown" for row in one.rows}) for one in both]
    if commits[0] != commits[1]:
        told = (f"{name} {', '.join(c[:9] for c in one)}" for name, one in zip(names, commits, strict=True))
        notes.append(f"code: {'; '.join(told)}")
    cells = {f"{name}: {cell}": one for name, side in zip(names, both, strict=True) for cell, one in side.data.items()}
    return [*notes, *(f"{WARNING}{told}" for told in (*precision(rows), *data.differences(cells)))]
