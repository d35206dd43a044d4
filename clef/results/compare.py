"""Two grids side by side: the headline of every dataset, backbone, method and test split of either. No torch."""

import statistics

from clef.results.formats import Table, signed
from clef.results.numbers import Numbers, minus, spread
from clef.results.published import title
from clef.results.rows import Gathered, Row
from clef.results.tables import parts_of


def side_by_side(first: Gathered, second: Gathered) -> list[Table]:
    """A table for each dataset as each protocol has it, those of the first grid before those of the second alone.

    A grid is called by its name; where both have the same, by its number too.
    """
    names = [first.grid, second.grid] if first.grid != second.grid else [f"{first.grid} 1", f"{second.grid} 2"]
    parts = parts_of(first) + parts_of(second)
    sets = {(part.runs[0].dataset, part.runs[0].protocol): (card, name) for part, card, name in parts}
    made = []
    for which, (card, name) in sets.items():
        rows = [[row for row in one.rows if (row.dataset, row.protocol) == which] for one in (first, second)]
        own, other = map(Numbers, rows)
        lines = []
        for backbone, method in dict.fromkeys(_pairs(first, which) + _pairs(second, which)):
            for split in card.test_splits:
                a, b = (numbers.by_seed(backbone, method, split, card.metric) for numbers in (own, other))
                means = [statistics.fmean(one.values()) if one else None for one in (a, b)]
                seeds = f"{len(a)}, {len(b)}"
                shown = [spread(a.values()), spread(b.values()), signed(minus(means[1], means[0]))]
                lines.append([title(backbone), method, split, seeds, *shown])
        columns = ["backbone", "method", "split", "seeds", *names, "difference"]
        made.append(Table(f"{name}: {card.metric}, percent", columns, lines, _notes(names, rows)))
    return made


def _pairs(gathered: Gathered, which: tuple[str, str]) -> list[tuple[str, str]]:
    return [(run.backbone, run.method) for run in gathered.runs if (run.dataset, run.protocol) == which]


def _notes(names: list[str], rows: list[list[Row]]) -> list[str]:
    """What a difference is, and what may be behind it besides the setting that one has in mind."""
    notes = [
        f"difference: the mean of {names[1]} less that of {names[0]}, each over its own seeds; no test is made of it"
    ]
    if all(rows):
        samples = [{(row.split, row.samples) for row in one} for one in rows]
        commits = [sorted({row.commit or "unknown" for row in one}) for one in rows]
        if samples[0] != samples[1]:
            notes.append("warning: their splits hold different numbers of people")
        if commits[0] != commits[1]:
            told = (f"{name} {', '.join(c[:9] for c in one)}" for name, one in zip(names, commits, strict=True))
            notes.append(f"code: {'; '.join(told)}")
    return notes
