"""The tables of a grid, as pure functions of what was gathered: its numbers beside the published ones. No torch."""

import statistics
from collections.abc import Callable

from clef import cards
from clef.cards import Card
from clef.results import comparisons, layouts
from clef.results.comparisons import Comparison
from clef.results.formats import UNTRAINED, Table, percent, signed
from clef.results.measures_table import measures
from clef.results.notes import below, compared_with
from clef.results.numbers import Numbers, minus, spread
from clef.results.published import number, published, title
from clef.results.rows import Gathered, headlines


def tables(gathered: Gathered) -> list[Table]:
    """For each dataset, as each protocol of the grid has it, its main table, and one of the parts of CLEF's prediction
    where there is one. No table mixes two protocols.
    """
    return [table for part, card, name in parts_of(gathered) for table in _main_and_parts(part, card, name)]


def all_tables(gathered: Gathered) -> list[Table]:
    """Those, and after them of each dataset: comparisons, further measures, classes, and the paper's layouts."""
    compared, made = comparisons.comparisons(gathered), list[Table]()
    for part, card, name in parts_of(gathered):
        made += _main_and_parts(part, card, name)
        made += compared_tables(part, compared, name)
        if not part.rows:
            continue
        made.append(measures(part, card, name))
        made += _per_class(part, card, name)
        made += _as_published(part, card, name)
        made += _readings(part, card, name)
    return made


def compared_tables(part: Gathered, compared: list[Comparison], name: str) -> list[Table]:
    """The comparisons with vanilla of one dataset and protocol, once there is a number in any."""
    wanted = (part.runs[0].dataset, part.runs[0].protocol)
    known = any(one.differences for one in compared if (one.dataset, one.protocol) == wanted)
    return [comparisons.table(part, compared, name)] if known else []


def parts_of(gathered: Gathered) -> list[tuple[Gathered, Card, str]]:
    """What was gathered of each dataset as each protocol has it, the card, and how tables call it."""
    several = len({run.protocol for run in gathered.runs}) > 1
    made = []
    for dataset, protocol in dict.fromkeys((run.dataset, run.protocol) for run in gathered.runs):
        card, part = cards.load(dataset, protocol), _of(gathered, dataset, protocol)
        named = several or protocol != cards.LEAK_FREE
        made.append((part, card, f"{card.title}, protocol {protocol}" if named else card.title))
    return made


def _of(gathered: Gathered, dataset: str, protocol: str) -> Gathered:
    """What was gathered of one dataset as one protocol has it."""
    wanted = (dataset, protocol)
    runs = [run for run in gathered.runs if (run.dataset, run.protocol) == wanted]
    rows = [row for row in gathered.rows if (row.dataset, row.protocol) == wanted]
    missing = {run.name: gathered.missing[run.name] for run in runs if run.name in gathered.missing}
    data = {run.name: gathered.data[run.name] for run in runs if run.name in gathered.data}
    found = [interval for interval in gathered.intervals if (interval.dataset, interval.protocol) == wanted]
    return Gathered(gathered.grid, rows, missing, runs, data, found)


def _main_and_parts(part: Gathered, card: Card, name: str) -> list[Table]:
    parts = _parts(part, card, name)
    return [_main(part, card, name), *([parts] if parts.rows else [])]


def _main(part: Gathered, card: Card, name: str) -> Table:
    splits = list(card.test_splits)
    shifted = len(splits) > 1
    known, dataset, numbers = published(), part.runs[0].dataset, Numbers(part.rows)
    compared = dataset in known["metrics"]
    columns = ["backbone", "method", "seeds", *splits]
    columns += ["change"] if shifted else []
    columns += [f"published ({known['protocol']})", "gap"] if compared else []
    rows = []
    for backbone, method in _pairs(part):
        values = [numbers.by_seed(backbone, method, split, card.metric).values() for split in splits]
        means = [statistics.fmean(one) if one else None for one in values]
        marked = method + UNTRAINED if (backbone, method) in numbers.untrained else method
        row = [title(backbone), marked, str(len(values[0])), *map(spread, values)]
        row += [signed(minus(means[-1], means[0]))] if shifted else []
        theirs = number(dataset, backbone, method)
        row += [percent(theirs), signed(minus(means[0], theirs))] if compared else []
        rows.append(row)
    notes = below(part, card, splits, known["protocol"] if compared else None)
    return Table(f"{name}: {card.metric}, percent", columns, rows, notes)


def _parts(part: Gathered, card: Card, name: str) -> Table:
    names = {"score": "TIE", "factual": "factual", "Y_e": "Y_e", "Y_c": "Y_c"}
    rows, numbers = [], Numbers(part.rows)
    for backbone, method in _pairs(part):
        for split in card.test_splits:
            values = [numbers.by_seed(backbone, method, split, card.metric, one).values() for one in names]
            if values[-1]:
                rows.append([title(backbone), method, split, *map(spread, values)])
    columns = ["backbone", "method", "split", *names.values()]
    notes = ["TIE is the score; Y_e is the backbone's part by itself, Y_c the context's"]
    return Table(f"{name}: the parts of the prediction, {card.metric}, percent", columns, rows, notes)


def _pairs(part: Gathered) -> list[tuple[str, str]]:
    return list(dict.fromkeys((run.backbone, run.method) for run in part.runs))


def _per_class(part: Gathered, card: Card, name: str) -> list[Table]:
    """The metric of each class: here, published, and the gap where anything is published."""
    planned, dataset = _pairs(part), part.runs[0].dataset
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


def _as_published(part: Gathered, card: Card, name: str) -> list[Table]:
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


def _readings(part: Gathered, card: Card, name: str) -> list[Table]:
    """Other readings of CLEF, a row each, and how far each lies from the default one, of each backbone."""
    known = {"vanilla", "ccim", "clef", "context_only", *published()["ablations"]}
    backbones = list(dict.fromkeys(run.backbone for run in part.runs))
    methods = [method for method in dict.fromkeys(run.method for run in part.runs) if method not in known]
    if not methods or "clef" not in {run.method for run in part.runs}:
        return []
    numbers, split = Numbers(part.rows), card.test_splits[0]
    columns = ["setting"] + [f"{title(one)}{what}" for one in backbones for what in ("", " - clef", " - vanilla")]
    rows = []
    for method in ("vanilla", "clef", *methods):
        row = [method]
        for backbone in backbones:
            mean, base, plain = (numbers.mean(backbone, one, split, card.metric) for one in (method, "clef", "vanilla"))
            row += [percent(mean), signed(minus(mean, base)), signed(minus(mean, plain))]
        rows.append(row)
    notes = [f"means over seeds on {split}; docs/method.md says what each setting changes"]
    return [Table(f"{name}: readings of the method, {card.metric}, percent", columns, rows, notes)]
