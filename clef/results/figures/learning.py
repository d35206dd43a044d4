"""Learning curves: the metric on val over the epochs."""

import statistics
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clef.cards import Card
from clef.results.curves import Point
from clef.results.figures.style import beside, legend, look, shared
from clef.results.published import title
from clef.results.rows import Gathered

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
