"""A grid in the layouts of the paper, and its own readings of the method. Imports no torch.

The tables of the CLEF paper as it lays them out: published, the earlier reproduction, and this grid's numbers.

Without numbers of a grid they hold the published ones alone. Imports no torch.
"""

from collections.abc import Callable
from typing import Any

from clef.datasets.cards import Card
from clef.results.formats import DASH, Table, percent, signed
from clef.results.frame import Gathered, Numbers, headlines, minus, spread
from clef.results.notes import compared_with
from clef.results.published import number, published, reproduced, title

READ_OFF = "what is published of each class was read off a figure, to about 0.1 either way"
_PER_CLASS = {"emotic": "emotic_per_category", "caer_s": "caer_s_per_class"}
_PAIR = ("vanilla", "clef")
METHODS = {"vanilla": "", "ccim": " + CCIM", "clef": " + CLEF"}
"""The main ones, and what stands behind a backbone's name where a column or a row is about one."""
Value = Callable[[str, str, str], float | None]
Shown = Callable[[str, str, str], str]
"""Of a backbone, a method and a class ("": of all): a number, and what a cell shows."""


def per_class_value(dataset: str) -> Value:
    """What is published per class (Table 1, and figure 5, from which values were read); "" is the headline."""
    known = published()[_PER_CLASS[dataset]]

    def value(backbone: str, method: str, class_name: str) -> float | None:
        if not class_name:
            return number(dataset, backbone, method)
        if method not in _PAIR or backbone not in known.get(class_name, {}):
            return None
        found: float = known[class_name][backbone][_PAIR.index(method)]
        return found

    return value


def per_class_table(
    name: str, metric: str, classes: list[str], columns: dict[tuple[str, str], str], shown: Shown
) -> Table:
    """A row a class and one of the headline, a column a backbone and method; Table 1's layout. `columns`: heads."""
    rows = [[one or metric, *(shown(backbone, method, one) for backbone, method in columns)] for one in (*classes, "")]
    return Table(name, ["class", *columns.values()], rows)


def head(backbone: str, method: str) -> str:
    """Of a column about one method."""
    return title(backbone) + METHODS.get(method, f" + {method}")


def systems(dataset: str, ours: Numbers, sets: str) -> Table:
    """The systems that CLEF is compared with, and each backbone with and without it: the layout of Tables 2 and 3."""
    metric = published()["metrics"][dataset]
    columns = ["system", "published", "reproduction", "here", "gap", "second gap"]
    others = [(one["name"], one[dataset]) for one in published()["comparisons"].values()]
    others += [(f"{one['name']}, its paper", one.get("own", {}).get(dataset)) for one in _backbones().values()]
    rows = [[name, percent(value), *[DASH] * 4] for name, value in others if value is not None]
    for backbone in _backbones():
        for method in METHODS:
            theirs, again = number(dataset, backbone, method), reproduced(dataset, backbone, method)
            here = ours.mean(backbone, method, "test", metric)
            if theirs is not None or here is not None:
                shown = ours.marked(backbone, method, percent(here))
                gaps = signed(minus(here, theirs)), signed(minus(here, again))
                rows.append([head(backbone, method), percent(theirs), percent(again), shown, *gaps])
    notes = [
        "published by the paper of CLEF, + CCIM by that of CCIM, a backbone's own number by its paper; reproduction: "
        "the METU CENG501 report; gap: here less published; second gap: here less the reproduction"
    ]
    return Table(f"{sets}: {metric} beside published systems, percent", columns, rows, notes)


def _backbones() -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = published()["backbones"]
    return known


def ablations(dataset: str, ours: Numbers, sets: str) -> Table:
    """The parts of CLEF taken out one by one: the layout of Table 4, one dataset."""
    metric, backbones = published()["metrics"][dataset], ("cd_net", "emoticon")
    columns = ["setting"] + [f"{title(name)}, {what}" for name in backbones for what in ("published", "here", "gap")]
    rows = []
    for method, known in published()["ablations"].items():
        row = [method]
        for backbone in backbones:
            theirs: float = known[dataset][backbone]
            here = ours.mean(backbone, method, "test", metric)
            row += [percent(theirs), ours.marked(backbone, method, percent(here)), signed(minus(here, theirs))]
        rows.append(row)
    return Table(f"{sets}: ablations of CLEF, {metric}, percent", columns, rows)


def ccim_against_clef(dataset: str, ours: Numbers, sets: str) -> Table:
    """The two ways of debiasing beside each other, and CLEF less CCIM."""
    metric = published()["metrics"][dataset]
    heads = ["vanilla", "CCIM", "CLEF", "CLEF - CCIM"]
    columns = ["backbone"] + [f"{what}, {where}" for where in ("published", "here") for what in heads]
    rows = []
    for backbone in _backbones():
        theirs = [number(dataset, backbone, method) for method in METHODS]
        here = [ours.marked(backbone, one, percent(ours.mean(backbone, one, "test", metric))) for one in METHODS]
        less = ours.paired(backbone, ("clef", "ccim"), "test", metric)
        rows.append([title(backbone), *map(percent, theirs), signed(minus(theirs[2], theirs[1])), *here, signed(less)])
    notes = ["published: vanilla and CLEF by the paper of CLEF, CCIM by its own, which trains anew"]
    notes += _other_seeds(ours, metric)
    return Table(f"{sets}: CCIM against CLEF, {metric}, percent", columns, rows, notes)


def _other_seeds(ours: Numbers, metric: str) -> list[str]:
    """Where CCIM and CLEF have other seeds: how many the difference rests on."""
    counts = []
    for backbone in _backbones():
        one, other = (ours.by_seed(backbone, method, "test", metric).keys() for method in ("ccim", "clef"))
        if one != other and one and other:
            counts.append(f"{title(backbone)} {len(one & other)} (CCIM has {len(one)}, CLEF {len(other)})")
    return [f"CLEF - CCIM, here: over the seeds that both have: {', '.join(counts)}"] if counts else []


def per_class(part: Gathered, card: Card, name: str) -> list[Table]:
    """The metric of each class here, on each test split; on the first one published and the gap, if any is."""
    planned, numbers = part.pairs, Numbers(part.rows)
    shown = [pair for pair in planned if pair[1] in METHODS] or planned
    columns = {pair: numbers.marked(*pair, head(*pair)) for pair in shown}
    left = dict.fromkeys(pair[1] for pair in planned if pair not in shown)
    notes = [f"of vanilla, CCIM and CLEF alone; rows.csv has those of {', '.join(left)} too"] if left else []
    titles = {split: f"{name}: {card.class_metric} of each class, {split}, percent" for split in card.test_splits}
    made = []
    for split, what in titles.items():
        here = per_class_table(f"{what}, here", card.metric, list(card.classes), columns, _here(numbers, split, card))
        made.append(_with_chance(here, part, split))
        made[-1].notes.extend(notes)
    if part.runs[0].dataset in published()["metrics"]:
        made += _published_classes(part, card, titles[card.test_splits[0]], columns)
    return made


def _here(numbers: Numbers, split: str, card: Card) -> Shown:
    """Mean and spread of a class (of all: the headline) on a split."""

    def shown(backbone: str, method: str, one: str) -> str:
        metric = card.class_metric if one else card.metric
        return spread(numbers.by_seed(backbone, method, split, metric, class_name=one).values())

    return shown


def _published_classes(part: Gathered, card: Card, what: str, columns: dict[tuple[str, str], str]) -> list[Table]:
    """What is published of each class, and the means here less that; of the methods of which anything is."""
    dataset, split, numbers = part.runs[0].dataset, card.test_splits[0], Numbers(part.rows)
    theirs = per_class_value(dataset)
    known = {pair: head for pair, head in columns.items() if any(theirs(*pair, one) for one in card.classes)}
    if not known:
        return []

    def gap(backbone: str, method: str, one: str) -> str:
        metric = card.class_metric if one else card.metric
        own = numbers.mean(backbone, method, split, metric, class_name=one)
        return signed(minus(own, theirs(backbone, method, one)))

    def stated(backbone: str, method: str, one: str) -> str:
        return percent(theirs(backbone, method, one))

    notes = [READ_OFF] if dataset == "caer_s" else []
    heads, classes = {pair: head(*pair) for pair in known}, list(card.classes)
    made = [
        per_class_table(f"{what}, published", card.metric, classes, heads, stated),
        per_class_table(f"{what}, here less published", card.metric, classes, known, gap),
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
    layout: list[Callable[[str, Numbers, str], Table]] = [systems]
    layout += [ablations] if set(part.methods) & (published()["ablations"].keys() - {"vanilla", "clef"}) else []
    layout += [ccim_against_clef] if "ccim" in part.methods else []
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
