"""The tables of a grid, as pure functions of what was gathered: its numbers beside the published ones. No torch."""

from dataclasses import replace

from clef.cards import Card
from clef.results import beside, comparisons
from clef.results.audit_table import audit_tables
from clef.results.comparisons import Comparison
from clef.results.formats import Table, percent, signed
from clef.results.measures_table import measures
from clef.results.notes import below, marked
from clef.results.numbers import Numbers, minus, spread
from clef.results.parts import parts_of
from clef.results.published import number, published, title
from clef.results.rows import Gathered


def all_tables(gathered: Gathered) -> list[Table]:
    """All tables of a grid."""
    return [table for _, made in by_set(gathered) for table in made]


def by_set(gathered: Gathered) -> list[tuple[str, list[Table]]]:
    """The tables of each dataset, as each protocol of the grid has it, and what it is called. None mixes two protocols.

    The main one comes first, and one of the parts of CLEF's prediction; then comparisons, further measures, classes,
    the paper's layouts, and the audit.
    """
    compared = comparisons.comparisons(gathered)
    made = []
    for part, card, name in parts_of(gathered):
        numbers = Numbers(part.rows)
        made.append((name, [marked(table, numbers) for table in _all_of(part, card, name, compared)]))
    return made


def _all_of(part: Gathered, card: Card, name: str, compared: list[Comparison]) -> list[Table]:
    parts = _parts(part, card, name)
    made = [_main(part, card, name), *([parts] if parts.rows else []), *comparisons.tables(part, compared, name)]
    made = [replace(table, main=True) for table in made]
    if part.rows:
        made += [measures(part, card, name), *beside.per_class(part, card, name)]
        made += [*beside.as_published(part, card, name), *beside.settings(part, card, name)]
    return made + audit_tables(part, card, name)


def _main(part: Gathered, card: Card, name: str) -> Table:
    splits = list(card.test_splits)
    shifted = len(splits) > 1
    known, dataset, numbers = published(), part.runs[0].dataset, Numbers(part.rows)
    compared = dataset in known["metrics"]
    columns = ["backbone", "method", "seeds", *splits]
    columns += ["change"] if shifted else []
    columns += [f"published ({known['protocol']})", "gap"] if compared else []
    rows = []
    for backbone, method in part.pairs:
        values = [numbers.by_seed(backbone, method, split, card.metric).values() for split in splits]
        means = [numbers.mean(backbone, method, split, card.metric) for split in splits]
        row = [title(backbone), method, str(len(values[0])), *map(spread, values)]
        row += [signed(minus(means[-1], means[0]))] if shifted else []
        theirs = number(dataset, backbone, method)
        row += [percent(theirs), signed(minus(means[0], theirs))] if compared else []
        rows.append(row)
    notes = below(part, card, splits, known["protocol"] if compared else None)
    return Table(f"{name}: {card.metric}, percent", columns, rows, notes)


def _parts(part: Gathered, card: Card, name: str) -> Table:
    names = {"score": "TIE", "factual": "factual", "Y_e": "Y_e", "Y_c": "Y_c"}
    rows, numbers = [], Numbers(part.rows)
    for backbone, method in part.pairs:
        for split in card.test_splits:
            values = [numbers.by_seed(backbone, method, split, card.metric, one).values() for one in names]
            if values[1]:  # a context branch by itself has no factual prediction
                rows.append([title(backbone), method, split, *map(spread, values)])
    columns = ["backbone", "method", "split", *names.values()]
    notes = ["TIE is the score; Y_e is the backbone's part by itself, Y_c the context's"]
    return Table(f"{name}: the parts of the prediction, {card.metric}, percent", columns, rows, notes)
