"""How far stated probabilities come true: a reliability diagram for each backbone."""

import math
from collections import defaultdict

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clef.results.figures.style import beside, legend, look, main
from clef.results.published import title
from clef.results.rows import Gathered

STATED, OBSERVED = (f"reliability, {which}" for which in ("stated", "observed"))
TICKS = range(0, 101, 25)
FEWEST = 10
LARGEST = 60
"""Square points: the mark of a bin that holds everything. Areas go with the root of the share, as most hold little."""
Bins = dict[str, dict[str, list[tuple[int, float]]]]
"""Of each bin, by metric, how many predictions of a seed fell in, and the percent."""


def diagrams(part: Gathered, split: str) -> Figure | None:
    """A line a method, a mark a bin, over the predictions of all seeds; the larger a mark, the more of them it holds.

    Bins of fewer than `FEWEST` are left out: they would throw a line up and down.
    """
    found: dict[tuple[str, str], Bins] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in part.rows:
        if row.split == split and row.metric in (STATED, OBSERVED):
            found[row.backbone, row.method][row.class_name][row.metric].append((row.positives or 0, row.value))
    methods = main(part.methods)
    backbones = [one for one in part.backbones if any((one, method) in found for method in methods)]
    if not backbones:
        return None
    figure, every = beside(len(backbones), 2.3, sharex=True, sharey=True)
    for axes, backbone in zip(every, backbones, strict=True):
        axes.plot((0, 100), (0, 100), color="black", linestyle=":", linewidth=0.8)
        for method in methods:
            if (backbone, method) in found:
                _line(axes, found[backbone, method], method, part.methods)
        axes.set_title(title(backbone), loc="left")
        axes.set_xlabel("stated, %")
        axes.tick_params(labelbottom=True)
        axes.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal", xticks=TICKS, yticks=TICKS)
        axes.grid()
    for axes in every[::3]:
        axes.set_ylabel("came true, %")
    legend(figure, methods)
    return figure


def _line(axes: Axes, bins: Bins, method: str, methods: list[str]) -> None:
    shape = look(method, methods)
    held = {one: sum(count for count, _ in bins[one][STATED]) for one in sorted(bins)}
    shown = [one for one, count in held.items() if count >= FEWEST]
    stated, observed = ([_pooled(bins[one][metric]) for one in shown] for metric in (STATED, OBSERVED))
    axes.plot(stated, observed, linewidth=1, markersize=2, label=method, **shape)
    axes.scatter(
        stated, observed, [LARGEST * math.sqrt(held[one] / sum(held.values())) for one in shown],
        color=shape["color"], marker=shape["marker"], alpha=0.6, linewidths=0,
    )  # fmt: skip


def _pooled(seeds: list[tuple[int, float]]) -> float:
    """The percent over the predictions of all seeds."""
    return sum(count * value for count, value in seeds) / sum(count for count, _ in seeds)
