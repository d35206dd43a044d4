"""The tables of the CLEF paper as it lays them out: published, the earlier reproduction, and this grid's numbers.

Without numbers of a grid they hold the published ones alone. Imports no torch.
"""

from collections.abc import Callable

from clef.results.formats import DASH, UNTRAINED, Table, percent, signed
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


def systems(dataset: str, ours: Numbers, sets: str) -> Table:
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
            here = ours.mean(backbone, method, "test", metric)
            if theirs is not None or here is not None:
                row = [
                    *map(percent, (theirs, reproduced(dataset, backbone, method))),
                    _shown(ours, backbone, method, here),
                ]
                rows.append([title(backbone) + suffix, *row, signed(minus(here, theirs))])
    notes = ["published by the paper of CLEF, + CCIM by that of CCIM; gap: here less published", *_marks(rows)]
    return Table(f"{sets}: {metric} beside published systems, percent", columns, rows, notes)


def ablations(dataset: str, ours: Numbers, sets: str) -> Table:
    """The parts of CLEF taken out one by one: the layout of Table 4, one dataset."""
    metric, backbones = METRIC[dataset], ("cd_net", "emoticon")
    columns = ["setting"] + [f"{title(name)}, {what}" for name in backbones for what in ("published", "here", "gap")]
    rows = []
    for method, known in published()["ablations"].items():
        row = [method]
        for backbone in backbones:
            theirs: float = known[dataset][backbone]
            here = ours.mean(backbone, method, "test", metric)
            row += [percent(theirs), _shown(ours, backbone, method, here), signed(minus(here, theirs))]
        rows.append(row)
    return Table(f"{sets}: ablations of CLEF, {metric}, percent", columns, rows, _marks(rows))


def ccim_against_clef(dataset: str, ours: Numbers, sets: str) -> Table:
    """The two ways of debiasing beside each other, and CLEF less CCIM."""
    metric = METRIC[dataset]
    heads = ["vanilla", "CCIM", "CLEF", "CLEF - CCIM"]
    columns = ["backbone"] + [f"{what}, {where}" for where in ("published", "here") for what in heads]
    rows = []
    for backbone in published()["backbones"]:
        theirs = [number(dataset, backbone, method) for method in _METHODS]
        here = [ours.mean(backbone, method, "test", metric) for method in _METHODS]
        shown = [_shown(ours, backbone, method, value) for method, value in zip(_METHODS, here, strict=True)]
        less = ours.paired(backbone, ("clef", "ccim"), "test", metric)
        row = [*map(percent, theirs), signed(minus(theirs[2], theirs[1])), *shown, signed(less)]
        rows.append([title(backbone), *row])
    notes = ["published: vanilla and CLEF by the paper of CLEF, CCIM by its own, which trains anew"]
    notes += [*_other_seeds(ours, metric), *_marks(rows)]
    return Table(f"{sets}: CCIM against CLEF, {metric}, percent", columns, rows, notes)


def _other_seeds(ours: Numbers, metric: str) -> list[str]:
    """Where CCIM and CLEF have other seeds: how many the difference rests on."""
    counts = []
    for backbone in published()["backbones"]:
        one, other = (ours.by_seed(backbone, method, "test", metric).keys() for method in ("ccim", "clef"))
        if one != other and one and other:
            counts.append(f"{title(backbone)} {len(one & other)} (CCIM has {len(one)}, CLEF {len(other)})")
    return [f"CLEF - CCIM, here: over the seeds that both have: {', '.join(counts)}"] if counts else []


def _shown(ours: Numbers, backbone: str, method: str, value: float | None) -> str:
    """A number of this grid, marked where something started at random."""
    untrained = (backbone, method) in ours.untrained
    return percent(value) + (UNTRAINED if untrained and value is not None else "")


def _marks(rows: list[list[str]]) -> list[str]:
    marked = any(text.endswith(UNTRAINED) for row in rows for text in row)
    return [f"{UNTRAINED} without pre-training, as configured: the main table says what"] if marked else []


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
        made += [one, *(layout(dataset, Numbers([]), name) for layout in (systems, ablations, ccim_against_clef))]
    return made
