"""A grid in the layouts of the CLEF paper's tables, and the grid's own variants of the method. Imports no torch.

The layouts show the published numbers, an earlier reproduction, and the numbers of this grid; without numbers of a grid
they hold the published ones alone.
"""

from collections.abc import Callable
from typing import Any

from clef.datasets.cards import Card
from clef.metrics import METRICS
from clef.results.formats import DASH, Table, format_percent, format_signed
from clef.results.frame import GridResults, SeedValues, format_spread, subtract
from clef.results.notes import compared_with
from clef.results.published import (
    PUBLISHED_METHODS,
    ablation_names,
    backbone_title,
    is_published,
    method_title,
    published,
    published_class_value,
    published_value,
    reproduced_value,
    system_title,
)

_READ_OFF = "published numbers of each class were read off a figure, to within about 0.1"
Pair = tuple[str, str]
"""A backbone and a method."""
CellText = Callable[[str, str, str], str]
"""Of a backbone, a method and a class ("": of all classes): what a cell of a table shows."""


# Each class (Table 1, figure 5)


def class_tables(part: GridResults, card: Card, name: str) -> list[Table]:
    """Return the metric of each class on each test split; of the first also what is published, and the gap.

    On a dataset of the paper, they have the layout of its Table 1, which is about vanilla, CCIM and CLEF.
    """
    of_paper = [pair for pair in part.pairs if pair[1] in PUBLISHED_METHODS and is_published(part.runs[0].dataset)]
    shown = of_paper or part.pairs
    heads = {pair: part.values.mark(*pair, system_title(*pair)) for pair in shown}
    others = dict.fromkeys(pair[1] for pair in part.pairs if pair not in shown)
    notes = [f"of vanilla, CCIM and CLEF alone; rows.csv has those of {', '.join(others)} too"] if others else []
    titles = {split: f"{name}: {card.class_metric} of each class, {split}, percent" for split in card.test_splits}
    tables = []
    for split, title in titles.items():
        table = class_table(f"{title}, here", card.metric, list(card.classes), heads, _class_text(part, split, card))
        tables.append(_with_chance(table, part, split, card))
        tables[-1].notes.extend(notes)
    if is_published(part.runs[0].dataset):
        tables += _published_class_tables(part, card, titles[card.test_splits[0]], heads)
    return tables


def class_table(title: str, metric: str, classes: list[str], heads: dict[Pair, str], text: CellText) -> Table:
    """Return the layout of Table 1: a row for each class and one for the headline, a column for each of `heads`."""
    rows = [[name or metric, *(text(backbone, method, name) for backbone, method in heads)] for name in (*classes, "")]
    return Table(title, ["class", *heads.values()], rows)


def _class_text(part: GridResults, split: str, card: Card) -> CellText:
    """Return the mean and spread of a class (of all: of the headline) on a split, as a function for `class_table`."""

    def text(backbone: str, method: str, name: str) -> str:
        metric = card.class_metric if name else card.metric
        return format_spread(part.values.by_seed(backbone, method, split, metric, class_name=name).values())

    return text


def _published_class_tables(part: GridResults, card: Card, title: str, heads: dict[Pair, str]) -> list[Table]:
    """Return what is published of each class, and the means here minus that, for the methods with published classes."""
    dataset, split, classes = part.runs[0].dataset, card.test_splits[0], list(card.classes)
    stated = {
        pair: head
        for pair, head in heads.items()
        if any(published_or_class_value(dataset, *pair, name) for name in classes)
    }
    if not stated:
        return []

    def theirs(backbone: str, method: str, name: str) -> str:
        return format_percent(published_or_class_value(dataset, backbone, method, name))

    def gap(backbone: str, method: str, name: str) -> str:
        metric = card.class_metric if name else card.metric
        ours = part.values.mean(backbone, method, split, metric, class_name=name)
        return format_signed(subtract(ours, published_or_class_value(dataset, backbone, method, name)))

    unmarked = {pair: system_title(*pair) for pair in stated}
    tables = [
        class_table(f"{title}, published", card.metric, classes, unmarked, theirs),
        class_table(f"{title}, here minus published", card.metric, classes, stated, gap),
    ]
    notes = [_READ_OFF] if dataset == "caer_s" else []
    tables[0].notes.extend(notes)
    tables[1].notes.extend([*notes, *compared_with(part, card, split)])
    return tables


def published_or_class_value(dataset: str, backbone: str, method: str, class_name: str) -> float | None:
    """Return the published number of a class, or of all classes ("")."""
    if not class_name:
        return published_value(dataset, backbone, method)
    return published_class_value(dataset, backbone, method, class_name)


def _with_chance(table: Table, part: GridResults, split: str, card: Card) -> Table:
    """Return the table with a column after the class: what scores that know nothing reach."""
    rows = part.rows
    metrics = [card.metric, METRICS[card.metric].class_metric]
    chosen = rows[(rows["split"] == split) & (rows["part"] == "score") & rows["metric"].isin(metrics)]
    levels = chosen.dropna(subset=["chance"]).groupby("class_name")["chance"].last().to_dict()
    columns = [table.columns[0], "chance", *table.columns[1:]]
    names = [*card.classes, ""]
    cells = [[row[0], format_percent(levels.get(name)), *row[1:]] for name, row in zip(names, table.rows, strict=True)]
    return Table(table.title, columns, cells, table.notes)


# Whole datasets (Tables 2 to 4)


def published_layouts(part: GridResults, card: Card, name: str) -> list[Table]:
    """Return the paper's other tables, for a dataset of the paper, with a note about what the numbers are on."""
    dataset = part.runs[0].dataset
    if not is_published(dataset):
        return []
    layouts: list[Callable[[str, SeedValues, str], Table]] = [systems_table]
    layouts += [ablations_table] if set(part.methods) & ablation_names() else []
    layouts += [ccim_table] if "ccim" in part.methods else []
    tables = [layout(dataset, part.values, name) for layout in layouts]
    for table in tables:
        table.notes.extend(compared_with(part, card, card.test_splits[0]))
    return tables


def systems_table(dataset: str, ours: SeedValues, name: str) -> Table:
    """Return the layout of Tables 2 and 3: other systems, and each backbone without and with CCIM and CLEF."""
    metric = published()["metrics"][dataset]
    columns = ["system", "published", "reproduction", "here", "gap", "second gap"]
    others = [(system["name"], system[dataset]) for system in published()["comparisons"].values()]
    others += [
        (f"{backbone_title(name)}, its paper", entry.get("own", {}).get(dataset))
        for name, entry in _backbones().items()
    ]
    rows = [[title, format_percent(value), *[DASH] * 4] for title, value in others if value is not None]
    for backbone in _backbones():
        for method in PUBLISHED_METHODS:
            theirs, again = published_value(dataset, backbone, method), reproduced_value(dataset, backbone, method)
            here = ours.mean(backbone, method, "test", metric)
            if theirs is not None or here is not None:
                numbers = format_percent(theirs), format_percent(again)
                gaps = format_signed(subtract(here, theirs)), format_signed(subtract(here, again))
                shown = ours.mark(backbone, method, format_percent(here))
                rows.append([system_title(backbone, method), *numbers, shown, *gaps])
    notes = [
        "published: from CLEF's paper, + CCIM from CCIM's paper, a backbone's own number from its own paper; "
        "reproduction: from the METU CENG501 report; gap: here minus published; second gap: here minus reproduction"
    ]
    return Table(f"{name}: {metric} next to published systems, percent", columns, rows, notes)


def _backbones() -> dict[str, dict[str, Any]]:
    backbones: dict[str, dict[str, Any]] = published()["backbones"]
    return backbones


def ablations_table(dataset: str, ours: SeedValues, name: str) -> Table:
    """Return the layout of Table 4: the parts of CLEF removed one by one, on one dataset."""
    metric, ablations = published()["metrics"][dataset], published()["ablations"]
    backbones = list(ablations["clef"][dataset])
    heads = [f"{backbone_title(backbone)}, {what}" for backbone in backbones for what in ("published", "here", "gap")]
    rows = []
    for method, values in ablations.items():
        row = [method]
        for backbone in backbones:
            theirs: float = values[dataset][backbone]
            here = ours.mean(backbone, method, "test", metric)
            shown = ours.mark(backbone, method, format_percent(here))
            row += [format_percent(theirs), shown, format_signed(subtract(here, theirs))]
        rows.append(row)
    return Table(f"{name}: ablations of CLEF, {metric}, percent", ["setting", *heads], rows)


def ccim_table(dataset: str, ours: SeedValues, name: str) -> Table:
    """Return the two ways of debiasing side by side, and CLEF minus CCIM."""
    metric = published()["metrics"][dataset]
    heads = [*map(method_title, PUBLISHED_METHODS), "CLEF - CCIM"]
    columns = ["backbone"] + [f"{head}, {where}" for where in ("published", "here") for head in heads]
    rows = []
    for backbone in _backbones():
        theirs = {method: published_value(dataset, backbone, method) for method in PUBLISHED_METHODS}
        gap = subtract(theirs["clef"], theirs["ccim"])
        means = {method: format_percent(ours.mean(backbone, method, "test", metric)) for method in PUBLISHED_METHODS}
        row = [backbone_title(backbone), *map(format_percent, theirs.values()), format_signed(gap)]
        row += [ours.mark(backbone, method, text) for method, text in means.items()]
        rows.append([*row, format_signed(ours.mean_difference(backbone, ("clef", "ccim"), "test", metric))])
    notes = ["published: vanilla and CLEF from CLEF's paper, CCIM from its own paper, which trains them again"]
    notes += _seed_notes(ours, metric)
    return Table(f"{name}: CCIM against CLEF, {metric}, percent", columns, rows, notes)


def _seed_notes(ours: SeedValues, metric: str) -> list[str]:
    """Return over how many seeds the differences are, where CCIM and CLEF have other seeds."""
    counts = []
    for backbone in _backbones():
        ccim, clef = (ours.by_seed(backbone, method, "test", metric).keys() for method in ("ccim", "clef"))
        if ccim != clef and ccim and clef:
            both = len(ccim & clef)
            counts.append(f"{backbone_title(backbone)} {both} (CCIM has {len(ccim)}, CLEF {len(clef)})")
    return [f"CLEF - CCIM, here: over the seeds that both have: {', '.join(counts)}"] if counts else []


# The grid's own variants


def variant_tables(part: GridResults, card: Card, name: str) -> list[Table]:
    """Return CLEF against CCIM (where the paper's layouts don't show it), its ablations, and other readings of it."""
    if "clef" not in part.methods:
        return []
    ablations = [method for method in part.methods if method in ablation_names()]
    readings = [method for method in part.clef_presets if method not in ablation_names()]
    groups: dict[str, tuple[list[str], Pair]] = {}
    if "ccim" in part.methods and not is_published(part.runs[0].dataset):
        groups["CCIM against CLEF"] = ["vanilla", "ccim", "clef"], ("ccim", "vanilla")
    if ablations:
        groups["ablations of CLEF, here"] = ["vanilla", "clef", *ablations], ("clef", "vanilla")
    if readings:
        groups["readings of the method"] = ["vanilla", "clef", *readings], ("clef", "vanilla")
    return [
        _variant_table(part, card, split, f"{name}: {title}", *group)
        for title, group in groups.items()
        for split in card.test_splits
    ]


def _variant_table(part: GridResults, card: Card, split: str, title: str, methods: list[str], bases: Pair) -> Table:
    """Return a row for each method: for each backbone its mean on a split, and its differences to two others."""
    heads = ["", *(f" - {base}" for base in bases)]
    columns = ["setting", *(f"{backbone_title(backbone)}{head}" for backbone in part.backbones for head in heads)]
    rows = []
    for method in methods:
        row = [method]
        for backbone in part.backbones:
            mean = format_percent(part.values.mean(backbone, method, split, card.metric))
            pairs = [(method, base) for base in bases]
            differences = [part.values.mean_difference(backbone, pair, split, card.metric) for pair in pairs]
            row += [part.values.mark(backbone, method, mean), *map(format_signed, differences)]
        rows.append(row)
    notes = [f"means over seeds on {split}, of differences over the seeds that both have; docs/method.md explains them"]
    on = f", {split}" if len(card.test_splits) > 1 else ""
    return Table(f"{title}{on}, {card.metric}, percent", columns, rows, notes)
