"""A grid in the layouts of the paper, and its own readings of the method. Imports no torch."""

from collections.abc import Callable

from clef.cards import Card
from clef.results import layouts
from clef.results.formats import Table, percent, signed
from clef.results.notes import compared_with
from clef.results.numbers import Numbers, minus
from clef.results.published import published, title
from clef.results.rows import Gathered, headlines

_BASES = ("clef", "vanilla")
"""What other readings of CLEF are held against."""


def per_class(part: Gathered, card: Card, name: str) -> list[Table]:
    """The metric of each class: here, published, and the gap where anything is published."""
    planned, dataset = list(dict.fromkeys((run.backbone, run.method) for run in part.runs)), part.runs[0].dataset
    columns = [pair for pair in planned if pair[1] in ("vanilla", "clef")] or planned[:8]
    metric = "AP" if card.task == "multi_label" else card.metric
    numbers, split = Numbers(part.rows), card.test_splits[0]

    def here(backbone: str, method: str, one: str) -> float | None:
        return numbers.mean(backbone, method, split, metric if one else card.metric, class_name=one)

    what, classes = f"{name}: {metric} of each class, {split}, percent", list(card.classes)
    made = [_with_chance(layouts.per_class(f"{what}, here", card.metric, classes, columns, here), part, split)]
    if dataset in layouts.METRIC:
        theirs = layouts.per_class_value(dataset)

        def gap(backbone: str, method: str, one: str) -> float | None:
            return minus(here(backbone, method, one), theirs(backbone, method, one))

        made.append(layouts.per_class(f"{what}, published", card.metric, classes, columns, theirs))
        made.append(layouts.per_class(f"{what}, here less published", card.metric, classes, columns, gap, sign=True))
        made[-1].notes.extend(compared_with(part, card, split, published()["protocol"]))
    return made


def _with_chance(table: Table, part: Gathered, split: str) -> Table:
    """The table with a column behind the class: what scores that know nothing reach (AP: the prevalence)."""
    chance = {
        row.class_name: row.chance
        for row in part.rows
        if row.split == split and row.part == "score" and row.metric in ("AP", "mAP", "accuracy")
    }
    columns = [table.columns[0], "chance", *table.columns[1:]]
    last = len(table.rows) - 1
    rows = [[row[0], percent(chance.get("" if i == last else row[0])), *row[1:]] for i, row in enumerate(table.rows)]
    return Table(table.title, columns, rows, table.notes)


def as_published(part: Gathered, card: Card, name: str) -> list[Table]:
    """The paper's other tables, of a dataset that it has, each with what its numbers are on."""
    dataset, numbers = part.runs[0].dataset, Numbers(headlines(part.rows))
    if dataset not in layouts.METRIC:
        return []
    methods = {run.method for run in part.runs}
    layout: list[Callable[[str, Numbers, str], Table]] = [layouts.systems]
    layout += [layouts.ablations] if methods & (published()["ablations"].keys() - {"vanilla", "clef"}) else []
    layout += [layouts.ccim_against_clef] if "ccim" in methods else []
    made = [one(dataset, numbers, name) for one in layout]
    for table in made:
        table.notes.extend(compared_with(part, card, card.test_splits[0], published()["protocol"]))
    return made


def readings(part: Gathered, card: Card, name: str) -> list[Table]:
    """Other readings of CLEF, a row each, and how far each lies from the default one, of each backbone."""
    known = {"vanilla", "ccim", "clef", "context_only", *published()["ablations"]}
    backbones = list(dict.fromkeys(run.backbone for run in part.runs))
    methods = [method for method in dict.fromkeys(run.method for run in part.runs) if method not in known]
    if not methods or "clef" not in {run.method for run in part.runs}:
        return []
    numbers, split = Numbers(part.rows), card.test_splits[0]
    heads = ("", *(f" - {base}" for base in _BASES))
    columns = ["setting"] + [f"{title(one)}{what}" for one in backbones for what in heads]
    rows = []
    for method in ("vanilla", "clef", *methods):
        row = [method]
        for backbone in backbones:
            row.append(percent(numbers.mean(backbone, method, split, card.metric)))
            row += [signed(numbers.paired(backbone, (method, base), split, card.metric)) for base in _BASES]
        rows.append(row)
    notes = [f"means over seeds on {split}, of differences over the seeds that both have; docs/method.md explains them"]
    return [Table(f"{name}: readings of the method, {card.metric}, percent", columns, rows, notes)]
