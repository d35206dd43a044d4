"""Learning curves: the metric on val over the epochs, a panel for each backbone."""

import statistics
from collections import defaultdict

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clef.cards import Card
from clef.results.curves import Point
from clef.results.figures.style import beside, legend, look
from clef.results.published import title
from clef.results.rows import Gathered


def curves(part: Gathered, card: Card) -> Figure | None:
    """The mean over seeds as a line, and around it from the lowest seed to the highest."""
    methods = list(dict.fromkeys(run.method for run in part.runs))
    backbones = list(dict.fromkeys(point.backbone for point in part.curves))
    if not backbones:
        return None
    figure, every = beside(len(backbones), 2.0, sharey=True)
    for axes, backbone in zip(every, backbones, strict=True):
        for method in methods:
            found = _by_epoch([p for p in part.curves if (p.backbone, p.method) == (backbone, method)])
            if found:
                _line(axes, found, method, methods)
        axes.set_title(title(backbone), loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="y")
    for axes in every[::3]:
        axes.set_ylabel(f"{card.metric} on val, %")
    legend(figure, methods)
    return figure


def _by_epoch(points: list[Point]) -> dict[float, list[float]]:
    found: dict[float, list[float]] = defaultdict(list)
    for point in points:
        found[point.epoch].append(point.value)
    return dict(sorted(found.items()))


def _line(axes: Axes, found: dict[float, list[float]], method: str, methods: list[str]) -> None:
    epochs, shape = list(found), look(method, methods)
    axes.plot(epochs, [statistics.fmean(one) for one in found.values()], label=method, markersize=3, **shape)
    axes.fill_between(
        epochs, [min(one) for one in found.values()], [max(one) for one in found.values()],
        color=shape["color"], alpha=0.15, linewidth=0,
    )  # fmt: skip
