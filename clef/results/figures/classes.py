"""Figures of each class: bars, as the paper's figure 5 has them, and a heat map of all methods.

What is taken for what: a confusion matrix for each backbone and method, where a sample has one label.

How far stated probabilities come true: a reliability diagram for each backbone.
"""

import math
import statistics
from collections import defaultdict
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clef.datasets.cards import Card
from clef.results.figures.style import PAIR, SPREAD, WIDTH, beside, legend, look, main, panels
from clef.results.frame import Gathered, Numbers
from clef.results.published import title

TALL = 7.6
"""Inches that the rows of a heat map take at most, so that it stays on one page."""
_NARROW = 10
"""Classes from which on their names stand upright."""


def bars(part: Gathered, card: Card, split: str) -> Figure | None:
    """A panel a backbone, a bar a class and method: the mean over seeds, and their standard deviation."""
    chosen = list(PAIR) if set(PAIR) <= set(part.methods) else part.methods[:3]
    numbers, metric = Numbers(part.rows), card.class_metric
    known = {(row.backbone, row.method) for row in part.rows if row.metric == metric and row.class_name}
    backbones = [one for one in part.backbones if any((one, method) in known for method in chosen)]
    if not backbones:
        return None
    figure, grid = panels(len(backbones), 1, 1.5, sharex=True)
    places, width, chance = np.arange(len(card.classes)), 0.8 / len(chosen), _chance(part, split, metric, card)
    for (axes,), backbone in zip(grid, backbones, strict=True):
        for i, method in enumerate(chosen):
            found = [numbers.by_seed(backbone, method, split, metric, class_name=one).values() for one in card.classes]
            shape: dict[str, Any] = {"width": width, "label": method, "color": look(method, part.methods)["color"]}
            _bars(axes, [list(values) for values in found], (i - (len(chosen) - 1) / 2) * width, shape)
        axes.hlines(chance, places - 0.45, places + 0.45, colors="black", linestyles=":", linewidth=1, label="chance")
        axes.set_title(title(backbone), loc="left")
        axes.set_ylabel(f"{metric}, %")
        axes.grid(axis="y")
        axes.tick_params(axis="x", length=0)
    axes.set_xticks(places, list(card.classes), **_turned(card))
    axes.set_xlim(-0.6, len(card.classes) - 0.4)
    legend(figure, chosen)
    return figure


def _bars(axes: Axes, found: list[list[float]], shift: float, shape: dict[str, Any]) -> None:
    """A method's bar for each class that has numbers, `shift` beside its place. `found`: K lists of a value a seed."""
    known = {k: values for k, values in enumerate(found) if values}
    means = [statistics.fmean(values) for values in known.values()]
    errors = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in known.values()]
    if known:
        places = [k + shift for k in known]
        axes.bar(places, means, yerr=errors if any(errors) else None, error_kw=SPREAD, **shape)


def heat_map(part: Gathered, card: Card, split: str) -> Figure | None:
    """A row a backbone and method, a column a class and at last the headline; means over seeds."""
    numbers, metric = Numbers(part.rows), card.class_metric
    asked = [*((metric, one) for one in card.classes), (card.metric, "")]
    means = [[numbers.mean(*pair, split, name, class_name=one) for name, one in asked] for pair in part.pairs]
    values = np.array(means, float)
    shown = ~np.isnan(values[:, :-1]).all(axis=1)
    if not shown.any():
        return None
    values, pairs = values[shown], [pair for pair, here in zip(part.pairs, shown, strict=True) if here]
    height = min(0.22 * len(pairs), TALL)
    figure = Figure(figsize=(WIDTH, height + 1.4), layout="constrained")
    axes = figure.subplots()
    mesh = axes.pcolormesh(values, cmap="cividis", edgecolors="white", linewidth=0.5)
    _write_values(axes, values)
    axes.axvline(len(card.classes), color="white", linewidth=4)
    axes.set_xticks(np.arange(len(asked)) + 0.5, [*card.classes, card.metric], **_turned(card))
    axes.set_yticks(np.arange(len(pairs)) + 0.5, [f"{title(backbone)}, {method}" for backbone, method in pairs])
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(mesh, ax=axes, label=f"{metric}, %", aspect=max(15, 12 * height), pad=0.01)
    return figure


def _write_values(axes: Axes, values: np.ndarray) -> None:
    """Each number into its field, black where that is bright."""
    low, high = np.nanmin(values), np.nanmax(values)
    size = 5.5 if values.shape[1] > _NARROW else 7
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "black" if value > (low + high) / 2 else "white"
            text = f"{value:.0f}" if size < 7 else f"{value:.1f}"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=size)


def _turned(card: Card) -> dict[str, Any]:
    upright = len(card.classes) >= _NARROW
    return {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if upright else {}


def _chance(part: Gathered, split: str, metric: str, card: Card) -> np.ndarray:
    """Of each class, K: of an AP the prevalence; NaN where nobody knows."""
    known = {row.class_name: row.chance for row in part.rows if (row.split, row.metric) == (split, metric)}
    return np.array([known.get(one) for one in card.classes], float)


WRITTEN = 10
"""Classes up to which there is room for numbers."""


def matrices(part: Gathered, card: Card, split: str) -> Figure | None:
    """Rows of panels: backbones; columns: methods. The mean over seeds of the share of a class taken for each."""
    numbers, methods = Numbers(part.rows), main(part.methods)
    known = {row.backbone for row in part.rows if (row.split, row.metric) == (split, "confusion")}
    backbones = [one for one in part.backbones if one in known]
    if not backbones:
        return None
    width = 0.8 + 1.55 * len(methods)
    figure, grid = panels(len(backbones), len(methods), 1.65, width, sharex=True, sharey=True)
    for backbone, row in zip(backbones, grid, strict=True):
        for method, axes in zip(methods, row, strict=True):
            values = [
                [
                    numbers.mean(backbone, method, split, "confusion", class_name=f"{one} > {said}")
                    for said in card.classes
                ]
                for one in card.classes
            ]
            _matrix(axes, np.array(values, float), card)
            axes.set_title(f"{title(backbone)}, {method}", loc="left", fontsize=7)
        row[0].set_ylabel("true")
    for axes in grid[-1]:
        axes.set_xlabel("taken for")
    return figure


def _matrix(axes: Axes, values: np.ndarray, card: Card) -> None:
    """Fields in percent, dark where much is; a row that is not known stays empty."""
    if np.isnan(values).all():
        axes.text(0.5, 0.5, "no numbers", ha="center", va="center", transform=axes.transAxes, fontsize=6)
    places = np.arange(len(card.classes)) + 0.5
    axes.pcolormesh(values, cmap="Blues", vmin=0, vmax=100, edgecolors="white", linewidth=0.3)
    for (true, said), value in np.ndenumerate(values):
        if len(values) <= WRITTEN and value >= 0.5:
            colour = "white" if value > 65 else "black"
            axes.text(
                said + 0.5, true + 0.5, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=5.5
            )  # fmt: skip
    axes.set_xticks(places, list(card.classes), rotation=45, ha="right", rotation_mode="anchor", fontsize=6)
    axes.set_yticks(places, list(card.classes), fontsize=6)
    axes.set(xlim=(0, len(values)), ylim=(len(values), 0), aspect="equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


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
