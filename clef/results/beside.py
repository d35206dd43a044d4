"""A grid in the layouts of the paper, and its own readings of the method. Imports no torch."""

from collections.abc import Callable

from clef.cards import Card
from clef.results import layouts
from clef.results.formats import Table, percent, signed
from clef.results.layouts import METHODS
from clef.results.notes import compared_with
from clef.results.numbers import Numbers, minus, spread
from clef.results.published import published, title
from clef.results.rows import Gathered, headlines


def per_class(part: Gathered, card: Card, name: str) -> list[Table]:
    """The metric of each class here, on each test split; on the first one published and the gap, if any is."""
    planned, numbers = part.pairs, Numbers(part.rows)
    shown = [pair for pair in planned if pair[1] in METHODS] or planned
    columns = {pair: numbers.marked(*pair, layouts.head(*pair)) for pair in shown}
    left = dict.fromkeys(pair[1] for pair in planned if pair not in shown)
    notes = [f"of vanilla, CCIM and CLEF alone; rows.csv has those of {', '.join(left)} too"] if left else []
    titles = {split: f"{name}: {card.class_metric} of each class, {split}, percent" for split in card.test_splits}
    made = []
    for split, what in titles.items():
        here = layouts.per_class(f"{what}, here", card.metric, list(card.classes), columns, _here(numbers, split, card))
        made.append(_with_chance(here, part, split))
        made[-1].notes.extend(notes)
    if part.runs[0].dataset in published()["metrics"]:
        made += _published_classes(part, card, titles[card.test_splits[0]], columns)
    return made


def _here(numbers: Numbers, split: str, card: Card) -> layouts.Shown:
    """Mean and spread of a class (of all: the headline) on a split."""

    def shown(backbone: str, method: str, one: str) -> str:
        metric = card.class_metric if one else card.metric
        return spread(numbers.by_seed(backbone, method, split, metric, class_name=one).values())

    return shown


def _published_classes(part: Gathered, card: Card, what: str, columns: dict[tuple[str, str], str]) -> list[Table]:
    """What is published of each class, and the means here less that; of the methods of which anything is."""
    dataset, split, numbers = part.runs[0].dataset, card.test_splits[0], Numbers(part.rows)
    theirs = layouts.per_class_value(dataset)
    known = {pair: head for pair, head in columns.items() if any(theirs(*pair, one) for one in card.classes)}
    if not known:
        return []

    def gap(backbone: str, method: str, one: str) -> str:
        metric = card.class_metric if one else card.metric
        own = numbers.mean(backbone, method, split, metric, class_name=one)
        return signed(minus(own, theirs(backbone, method, one)))

    def stated(backbone: str, method: str, one: str) -> str:
        return percent(theirs(backbone, method, one))

    notes = [layouts.READ_OFF] if dataset == "caer_s" else []
    heads, classes = {pair: layouts.head(*pair) for pair in known}, list(card.classes)
    made = [
        layouts.per_class(f"{what}, published", card.metric, classes, heads, stated),
        layouts.per_class(f"{what}, here less published", card.metric, classes, known, gap),
    ]
    made[0].notes.extend(notes)
    made[1].notes.extend([*notes, *compared_with(part, card, split, published()["protocol"])])
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
    if dataset not in published()["metrics"]:
        return []
    layout: list[Callable[[str, Numbers, str], Table]] = [layouts.systems]
    layout += [layouts.ablations] if set(part.methods) & (published()["ablations"].keys() - {"vanilla", "clef"}) else []
    layout += [layouts.ccim_against_clef] if "ccim" in part.methods else []
    made = [one(dataset, numbers, name) for one in layout]
    for table in made:
        table.notes.extend(compared_with(part, card, card.test_splits[0], published()["protocol"]))
    return made


def settings(part: Gathered, card: Card, name: str) -> list[Table]:
    """CLEF against CCIM (where the paper's layout has no place for it), its ablations and other readings of it."""
    methods, known = part.methods, published()["ablations"].keys()
    if "clef" not in methods:
        return []
    further = [method for method in methods if method not in METHODS and method != "context_only"]
    ablated, read = ([one for one in further if (one in known) == wanted] for wanted in (True, False))
    groups: dict[str, tuple[list[str], tuple[str, str]]] = {}
    if "ccim" in methods and part.runs[0].dataset not in published()["metrics"]:
        groups["CCIM against CLEF"] = ["vanilla", "ccim", "clef"], ("ccim", "vanilla")
    if ablated:
        groups["ablations of CLEF, here"] = ["vanilla", "clef", *ablated], ("clef", "vanilla")
    if read:
        groups["readings of the method"] = ["vanilla", "clef", *read], ("clef", "vanilla")
    return [
        _against(part, card, split, f"{name}: {what}", *group)
        for what, group in groups.items()
        for split in card.test_splits
    ]


def _against(part: Gathered, card: Card, split: str, what: str, methods: list[str], bases: tuple[str, str]) -> Table:
    """A row a method; of each backbone its mean on a split, and how far it lies from two others."""
    numbers = Numbers(part.rows)
    heads = ["", *(f" - {base}" for base in bases)]
    columns = ["setting", *(f"{title(one)}{head}" for one in part.backbones for head in heads)]
    rows = []
    for method in methods:
        row = [method]
        for backbone in part.backbones:
            row.append(numbers.marked(backbone, method, percent(numbers.mean(backbone, method, split, card.metric))))
            row += [signed(numbers.paired(backbone, (method, base), split, card.metric)) for base in bases]
        rows.append(row)
    notes = [f"means over seeds on {split}, of differences over the seeds that both have; docs/method.md explains them"]
    on = f", {split}" if len(card.test_splits) > 1 else ""
    return Table(f"{what}{on}, {card.metric}, percent", columns, rows, notes)
