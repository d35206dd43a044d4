"""Does it debias, and at what price? The test with the bias of train against the test without it.

Learning curves: the metric on val over the epochs.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clef.datasets.cards import Card
from clef.results.figures.style import SPREAD, beside, legend, look, panels, shared
from clef.results.frame import Gathered, Numbers, Point
from clef.results.published import title

Set = tuple[float, Gathered, Card]
"""A demo set: the strength of its bias, what was gathered of it, and its card."""


def against_shift(part: Gathered, card: Card) -> Figure | None:
    """A panel a backbone; a mark a method, where its two tests are, a small one a seed. On the line both are equal."""
    if len(card.test_splits) < 2:
        return None
    plain, shifted = card.test_splits[:2]
    numbers, methods = Numbers(part.rows), part.methods
    known = {row.backbone for row in part.rows if row.split == shifted}
    backbones = [one for one in part.backbones if one in known]
    if not backbones:
        return None
    figure, every = beside(len(backbones), 2.3, sharex=True, sharey=True)
    for axes, backbone in zip(every, backbones, strict=True):
        for method in methods:
            one, other = (numbers.by_seed(backbone, method, split, card.metric) for split in (plain, shifted))
            _point(axes, one, other, look(method, methods) | {"label": method, "linestyle": ""})
        axes.set_title(title(backbone), loc="left")
        axes.set_xlabel(f"{card.metric} on {plain}, %")
        axes.tick_params(labelbottom=True)
        axes.grid()
    for axes in every[::3]:
        axes.set_ylabel(f"{card.metric} on {shifted}, %")
    limits = [*every[0].get_xlim(), *every[0].get_ylim()]
    both = min(limits), max(limits)
    for axes in every:
        axes.plot(both, both, color="black", linestyle=":", linewidth=0.8)
        axes.set(xlim=both, ylim=both, aspect="equal")
    legend(figure, methods)
    return figure


def over_strength(sets: Sequence[Set]) -> Figure:
    """Over how far the scene goes with the label in train and test; a line a method, its seeds as spread.

    `sets` differ in nothing else. Rows of panels: backbones; columns: the test with the bias, and the one without it.
    """
    card = sets[0][2]
    methods = list(dict.fromkeys(one for _, part, _ in sets for one in part.methods))
    known = {row.backbone for _, part, _ in sets for row in part.rows}
    backbones = list(dict.fromkeys(one for _, part, _ in sets for one in part.backbones if one in known))
    figure, grid = panels(len(backbones), len(card.test_splits), 2.0, sharex=True, sharey=True)
    numbers = {strength: Numbers(part.rows) for strength, part, _ in sets}
    for backbone, row in zip(backbones, grid, strict=True):
        for split, axes in zip(card.test_splits, row, strict=True):
            for method in methods:
                found = {at: one.by_seed(backbone, method, split, card.metric).values() for at, one in numbers.items()}
                _line(axes, {at: list(values) for at, values in found.items() if values}, method, methods)
            axes.set_title(f"{title(backbone)}, {split}", loc="left")
            axes.grid(axis="y")
        row[0].set_ylabel(f"{card.metric}, %")
    for axes in grid[-1]:
        axes.set_xlabel("strength of the context bias")
        axes.set_xticks(list(numbers))
    legend(figure, methods)
    return figure


def _line(axes: Axes, found: dict[float, list[float]], method: str, methods: list[str]) -> None:
    if found:
        shift = 0.008 * (methods.index(method) - (len(methods) - 1) / 2)  # or one's spread would hide another's
        axes.errorbar(
            [at + shift for at in found], [statistics.fmean(one) for one in found.values()],
            yerr=[statistics.stdev(one) if len(one) > 1 else 0.0 for one in found.values()],
            label=method, markersize=4, **SPREAD, **look(method, methods),
        )  # fmt: skip


def _point(axes: Axes, plain: dict[int, float], shifted: dict[int, float], shape: dict[str, Any]) -> None:
    seeds = sorted(plain.keys() & shifted.keys())
    if not seeds:
        return
    one, other = [plain[seed] for seed in seeds], [shifted[seed] for seed in seeds]
    if len(seeds) > 1:
        axes.plot(one, other, markersize=3.5, alpha=0.5, markeredgewidth=0, **shape | {"label": None})
    axes.plot([statistics.fmean(one)], [statistics.fmean(other)], markersize=6, **shape)


NAMED = "the method named above"
Panel = tuple[str, list[str], list[Point]]
"""Its title, its methods, and what is known of them."""


def curves(part: Gathered, card: Card) -> Iterator[tuple[str, Figure]]:
    """A panel a backbone, in one figure (with it: ""). Where one can't hold all methods, a figure a backbone (with it:
    which), and in it a panel for each further one, with vanilla and CLEF behind it.
    """
    found: dict[str, list[Panel]] = {}
    methods = part.methods
    for backbone in dict.fromkeys(point.backbone for point in part.curves):
        points = [point for point in part.curves if point.backbone == backbone]
        known = {point.method for point in points}
        together = shared([method for method in methods if method in known])
        found[backbone] = [(one[-1], one, points) for one in together]
    if any(len(panels) > 1 for panels in found.values()):
        for backbone, panels in found.items():
            yield backbone, _figure(panels, card, apart=True)
    elif found:
        panels = [(title(backbone), methods, points) for backbone, [(_, _, points)] in found.items()]
        yield "", _figure(panels, card, apart=False)


def _figure(panels: list[Panel], card: Card, apart: bool) -> Figure:
    """`apart`: a panel is about the method that it is called by."""
    columns = 4 if apart else 3
    figure, every = beside(len(panels), 5.6 / columns, columns, sharey=True)
    for axes, (name, methods, points) in zip(every, panels, strict=True):
        for method in methods:
            label = NAMED if apart and method == name else method
            _lines(axes, [point for point in points if point.method == method], label, look(method, methods))
        axes.set_title(name, loc="left", fontsize=7 if apart else None)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="y")
    for axes in every[::columns]:
        axes.set_ylabel(f"{card.metric} on val, %")
    legend(figure, panels[0][1])
    return figure


def _lines(axes: Axes, points: list[Point], label: str, shape: dict[str, Any]) -> None:
    """The mean over seeds, and around it from the lowest to the highest, as far as all have come; then each, thin."""
    seeds: dict[int, dict[float, float]] = defaultdict(dict)
    for point in points:
        seeds[point.seed][point.epoch] = point.value
    if not seeds:
        return
    epochs = sorted(set.intersection(*map(set, seeds.values())))
    values = [[one[epoch] for one in seeds.values()] for epoch in epochs]
    axes.plot(epochs, [statistics.fmean(one) for one in values], label=label, linewidth=1, markersize=2.5, **shape)
    axes.fill_between(
        epochs, [min(one) for one in values], [max(one) for one in values],
        color=shape["color"], alpha=0.15, linewidth=0,
    )  # fmt: skip
    for one in seeds.values():
        further = [epoch for epoch in sorted(one) if not epochs or epoch >= epochs[-1]]
        if further != epochs[-1:]:
            axes.plot(further, [one[epoch] for epoch in further], color=shape["color"], linewidth=0.5)
