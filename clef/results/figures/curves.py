"""Figures about methods: the test with the bias of train against the one without it, and learning curves."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clef.datasets.cards import Card
from clef.results.figures.style import ERROR_BARS, add_legend, look, panel_grid, panel_row, share_panels
from clef.results.frame import GridResults
from clef.results.published import backbone_title

DemoSet = tuple[float, GridResults, Card]
"""A demo dataset: the strength of its bias, what was gathered of it, and its card."""


# Does it debias, and at what price?


def against_shift(part: GridResults, card: Card) -> Figure | None:
    """Draw the headline on the second test split over that on the first: a panel for each backbone.

    Each method has a large mark for the mean and small ones for the seeds; on the dotted line both tests are equal.
    None with one test split, or without numbers.
    """
    if len(card.test_splits) < 2:
        return None
    plain, shifted = card.test_splits[:2]
    numbered = set(part.rows.loc[part.rows["split"] == shifted, "backbone"])
    backbones = [name for name in part.backbones if name in numbered]
    if not backbones:
        return None
    figure, panels = panel_row(len(backbones), 2.3, sharex=True, sharey=True)
    for axes, backbone in zip(panels, backbones, strict=True):
        for method in part.methods:
            first, second = (part.values.by_seed(backbone, method, s, card.metric) for s in (plain, shifted))
            _draw_mark(axes, first, second, look(method, part.methods) | {"label": method, "linestyle": ""})
        axes.set_title(backbone_title(backbone), loc="left")
        axes.set_xlabel(f"{card.metric} on {plain}, %")
        axes.tick_params(labelbottom=True)
        axes.grid()
    for axes in panels[::3]:
        axes.set_ylabel(f"{card.metric} on {shifted}, %")
    limits = [*panels[0].get_xlim(), *panels[0].get_ylim()]
    both = min(limits), max(limits)
    for axes in panels:
        axes.plot(both, both, color="black", linestyle=":", linewidth=0.8)
        axes.set(xlim=both, ylim=both, aspect="equal")
    add_legend(figure, part.methods)
    return figure


def _draw_mark(axes: Axes, plain: dict[int, float], shifted: dict[int, float], shape: dict[str, Any]) -> None:
    """Draw a method's mean, and its seeds, from its value on both tests by seed."""
    seeds = sorted(plain.keys() & shifted.keys())
    if not seeds:
        return
    x, y = [plain[seed] for seed in seeds], [shifted[seed] for seed in seeds]
    if len(seeds) > 1:
        axes.plot(x, y, markersize=3.5, alpha=0.5, markeredgewidth=0, **shape | {"label": None})
    axes.plot([statistics.fmean(x)], [statistics.fmean(y)], markersize=6, **shape)


def over_strength(sets: Sequence[DemoSet]) -> Figure:
    """Draw the headline over the strength of the bias: a line for each method, error bars over its seeds.

    `sets` differ in nothing else. Panels are backbones (rows) and test splits (columns).
    """
    card = sets[0][2]
    methods = list(dict.fromkeys(method for _, part, _ in sets for method in part.methods))
    numbered = {name for _, part, _ in sets for name in part.rows["backbone"].unique()}
    backbones = list(dict.fromkeys(name for _, part, _ in sets for name in part.backbones if name in numbered))
    figure, grid = panel_grid(len(backbones), len(card.test_splits), 2.0, sharex=True, sharey=True)
    for backbone, row in zip(backbones, grid, strict=True):
        for split, axes in zip(card.test_splits, row, strict=True):
            for method in methods:
                values = {
                    strength: list(part.values.by_seed(backbone, method, split, card.metric).values())
                    for strength, part, _ in sets
                }
                _draw_line(axes, {at: seeds for at, seeds in values.items() if seeds}, method, methods)
            axes.set_title(f"{backbone_title(backbone)}, {split}", loc="left")
            axes.grid(axis="y")
        row[0].set_ylabel(f"{card.metric}, %")
    for axes in grid[-1]:
        axes.set_xlabel("strength of the context bias")
        axes.set_xticks([strength for strength, *_ in sets])
    add_legend(figure, methods)
    return figure


def _draw_line(axes: Axes, values: dict[float, list[float]], method: str, methods: list[str]) -> None:
    """Draw a method's mean and standard deviation over seeds, by strength."""
    if values:
        # Methods are moved apart a little, or the error bars of one would hide another's.
        shift = 0.008 * (methods.index(method) - (len(methods) - 1) / 2)
        axes.errorbar(
            [at + shift for at in values], [statistics.fmean(seeds) for seeds in values.values()],
            yerr=[statistics.stdev(seeds) if len(seeds) > 1 else 0.0 for seeds in values.values()],
            label=method, markersize=4, **ERROR_BARS, **look(method, methods),
        )  # fmt: skip


# Learning curves

TITLE_METHOD = "the method named above"
Panel = tuple[str, list[str], pd.DataFrame]
"""Its title, its methods, and the points of its backbone's curves."""


def learning_curves(part: GridResults, card: Card) -> Iterator[tuple[str, Figure]]:
    """Yield figures of the metric on val over epochs, each with the backbone that it is about.

    One figure ("" as its backbone) has a panel for each backbone. Where there are too many methods for that, there is a
    figure for each backbone, with a panel for each further method, and vanilla and CLEF in each.
    """
    by_backbone: dict[str, list[Panel]] = {}
    for backbone, points in part.curves.groupby("backbone", sort=False):
        numbered = set(points["method"])
        groups = share_panels([method for method in part.methods if method in numbered])
        by_backbone[str(backbone)] = [(group[-1], group, points) for group in groups]
    if any(len(panels) > 1 for panels in by_backbone.values()):
        for backbone, panels in by_backbone.items():
            yield backbone, _draw_curves(panels, card, apart=True)
    elif by_backbone:
        panels = [(backbone_title(name), methods, points) for name, [(_, methods, points)] in by_backbone.items()]
        yield "", _draw_curves(panels, card, apart=False)


def _draw_curves(panels: list[Panel], card: Card, apart: bool) -> Figure:
    """Draw panels of learning curves. `apart`: a panel is about the method in its title."""
    columns = 4 if apart else 3
    figure, every = panel_row(len(panels), 5.6 / columns, columns, sharey=True)
    for axes, (name, methods, points) in zip(every, panels, strict=True):
        for method in methods:
            label = TITLE_METHOD if apart and method == name else method
            _draw_curve(axes, points[points["method"] == method], label, look(method, methods))
        axes.set_title(name, loc="left", fontsize=7 if apart else None)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(axis="y")
    for axes in every[::columns]:
        axes.set_ylabel(f"{card.metric} on val, %")
    add_legend(figure, panels[0][1])
    return figure


def _draw_curve(axes: Axes, points: pd.DataFrame, label: str, shape: dict[str, Any]) -> None:
    """Draw the mean and range over seeds up to the epoch that all have reached; then each seed as a thin line."""
    if points.empty:
        return
    table = points.pivot_table(index="epoch", columns="seed", values="value", aggfunc="last", sort=False).sort_index()
    complete = table.dropna()
    epochs = list(complete.index)
    means = [statistics.fmean(row) for row in complete.to_numpy()]
    axes.plot(epochs, means, label=label, linewidth=1, markersize=2.5, **shape)
    axes.fill_between(epochs, complete.min(axis=1), complete.max(axis=1), color=shape["color"], alpha=0.15, linewidth=0)
    for seed in table.columns:
        further = table[seed].dropna()
        further = further[further.index >= epochs[-1]] if epochs else further
        if list(further.index) != epochs[-1:]:
            axes.plot(further.index, further.to_numpy(), color=shape["color"], linewidth=0.5)
