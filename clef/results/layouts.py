"""The tables of the CLEF paper as it lays them out: published, the earlier reproduction, and this grid's numbers.

Without numbers of a grid they hold the published ones alone. Imports no torch.
"""

from collections.abc import Callable
from typing import Any

from clef.results.formats import DASH, Table, percent, signed
from clef.results.numbers import Numbers, minus
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


def per_class(name: str, metric: str, classes: list[str], columns: dict[tuple[str, str], str], shown: Shown) -> Table:
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
