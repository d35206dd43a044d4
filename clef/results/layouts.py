"""The tables of the CLEF paper as it lays them out: published, the earlier reproduction, and this grid's numbers.

Without a grid they hold the published numbers alone. Imports no torch.
"""

from collections.abc import Callable

from clef.results.formats import DASH, Table, percent, signed
from clef.results.numbers import Numbers, minus
from clef.results.published import number, published, reproduced, title

METRIC = {"emotic": "mAP", "caer_s": "accuracy"}
TITLE = {"emotic": "EMOTIC", "caer_s": "CAER-S"}
_PER_CLASS = {"emotic": "emotic_per_category", "caer_s": "caer_s_per_class"}
_PAIR = ("vanilla", "clef")
_METHODS = {"vanilla": "", "ccim": " + CCIM", "clef": " + CLEF"}
Value = Callable[[str, str, str], float | None]
"""Of a backbone, a method and a class."""


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


def per_class(
    name: str, metric: str, classes: list[str], columns: list[tuple[str, str]], value: Value, sign: bool = False
) -> Table:
    """A row a class and one of the headline, a column a backbone and method; Table 1's layout."""
    heads = [title(backbone) + _METHODS.get(method, f" + {method}") for backbone, method in columns]
    show = signed if sign else percent
    rows = [
        [one or metric, *(show(value(backbone, method, one)) for backbone, method in columns)] for one in (*classes, "")
    ]
    return Table(name, ["class", *heads], rows)


def systems(dataset: str, ours: Numbers | None = None, sets: str = "") -> Table:
    """The systems that CLEF is compared with, and each backbone with and without it: the layout of Tables 2 and 3."""
    metric = METRIC[dataset]
    columns = ["system", "published", "reproduction", "here", "gap"]
    rows = [
        [one["name"], percent(one[dataset]), DASH, DASH, DASH]
        for one in published()["comparisons"].values()
        if one[dataset] is not None
    ]
    for backbone in published()["backbones"]:
        for method, suffix in _METHODS.items():
            theirs = number(dataset, backbone, method)
            here = ours.mean(backbone, method, "test", metric) if ours else None
            if theirs is not None or here is not None:
                row = (theirs, reproduced(dataset, backbone, method), here)
                rows.append([title(backbone) + suffix, *map(percent, row), signed(minus(here, theirs))])
    notes = ["published by the paper of CLEF, + CCIM by that of CCIM; gap: here less published"]
    return Table(f"{sets or TITLE[dataset]}: {metric} beside published systems, percent", columns, rows, notes)


def ablations(dataset: str, ours: Numbers | None = None, sets: str = "") -> Table:
    """The parts of CLEF taken out one by one: the layout of Table 4, one dataset."""
    metric, backbones = METRIC[dataset], ("cd_net", "emoticon")
    columns = ["setting"] + [f"{title(name)}, {what}" for name in backbones for what in ("published", "here", "gap")]
    rows = []
    for method, known in published()["ablations"].items():
        row = [method]
        for backbone in backbones:
            theirs: float = known[dataset][backbone]
            here = ours.mean(backbone, method, "test", metric) if ours else None
            row += [percent(theirs), percent(here), signed(minus(here, theirs))]
        rows.append(row)
    return Table(f"{sets or TITLE[dataset]}: ablations of CLEF, {metric}, percent", columns, rows)


def ccim_against_clef(dataset: str, ours: Numbers | None = None, sets: str = "") -> Table:
    """The two ways of debiasing beside each other, and CLEF less CCIM."""
    metric = METRIC[dataset]
    heads = ["vanilla", "CCIM", "CLEF", "CLEF - CCIM"]
    columns = ["backbone"] + [f"{what}, {where}" for where in ("published", "here") for what in heads]
    rows = []
    for backbone in published()["backbones"]:
        row = [title(backbone)]
        for here in (False, True):
            values = [
                (ours.mean(backbone, method, "test", metric) if ours else None)
                if here
                else number(dataset, backbone, method)
                for method in _METHODS
            ]
            row += [*map(percent, values), signed(minus(values[2], values[1]))]
        rows.append(row)
    notes = ["published: vanilla and CLEF by the paper of CLEF, CCIM by its own, which trains anew"]
    return Table(f"{sets or TITLE[dataset]}: CCIM against CLEF, {metric}, percent", columns, rows, notes)


def paper() -> list[Table]:
    """The published numbers alone, in all these layouts."""
    made = []
    for dataset, name in TITLE.items():
        classes = list(published()[_PER_CLASS[dataset]])
        columns = [(backbone, method) for backbone in published()["backbones"] for method in _PAIR]
        what = "AP of each category" if dataset == "emotic" else "accuracy of each class, read off a figure"
        one = per_class(
            f"{name}: {what}, percent, published", METRIC[dataset], classes, columns, per_class_value(dataset)
        )
        made += [one, systems(dataset), ablations(dataset), ccim_against_clef(dataset)]
    return made
