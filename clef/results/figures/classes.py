"""Figures about classes: bars and a heat map of all classes, confusion matrices, and reliability diagrams."""

import math
import statistics
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.cells import cell_len

from clef.datasets.cards import Card
from clef.results.figures.raster import PAGE_WIDTH
from clef.results.figures.style import (
    ERROR_BARS,
    MANY_CLASSES,
    PAIR,
    add_legend,
    class_ticks,
    look,
    main_methods,
    panel_grid,
    panel_row,
)
from clef.results.frame import GridResults
from clef.results.published import backbone_title

_MAX_HEIGHT = 7.6
"""Inches that the rows of a heat map may take, so that it stays on one page."""
FEWEST = 10
"""Predictions that a bin of a reliability diagram must hold: fewer would make a line jump."""
_LARGEST = 60
"""The area, in points², of the mark of a bin that holds everything. Areas grow with the root of a bin's share, because
most bins hold little."""
_TURNED: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
STATED, OBSERVED = "reliability, stated", "reliability, observed"


# Bars and heat map


def bars(part: GridResults, card: Card, split: str) -> Figure | None:
    """Draw the layout of the paper's figure 5: a panel for each backbone, a bar for each class and method.

    Bars are means over seeds, error bars standard deviations. None without numbers.
    """
    methods = list(PAIR) if set(PAIR) <= set(part.methods) else part.methods[:3]
    metric = card.class_metric
    rows = part.rows[(part.rows["metric"] == metric) & (part.rows["class_name"] != "")]
    numbered = set(zip(rows["backbone"], rows["method"], strict=True))
    backbones = [name for name in part.backbones if any((name, method) in numbered for method in methods)]
    if not backbones:
        return None
    figure, grid = panel_grid(len(backbones), 1, 1.5, sharex=True)
    positions, width, chance = np.arange(len(card.classes)), 0.8 / len(methods), _chance(part, split, metric, card)
    for (axes,), backbone in zip(grid, backbones, strict=True):
        for i, method in enumerate(methods):
            values = [
                list(part.values.by_seed(backbone, method, split, metric, class_name=name).values())
                for name in card.classes
            ]
            shape: dict[str, Any] = {"width": width, "label": method, "color": look(method, part.methods)["color"]}
            _draw_bars(axes, values, (i - (len(methods) - 1) / 2) * width, shape)
        ends = positions - 0.45, positions + 0.45
        axes.hlines(chance, *ends, colors="black", linestyles=":", linewidth=1, label="chance")
        axes.set_title(backbone_title(backbone), loc="left")
        axes.set_ylabel(f"{metric}, %")
        axes.grid(axis="y")
        axes.tick_params(axis="x", length=0)
    names, turned = class_ticks(card.classes)
    axes.set_xticks(positions, names, **(_TURNED if turned else {}))
    axes.set_xlim(-0.6, len(card.classes) - 0.4)
    add_legend(figure, methods)
    return figure


def _draw_bars(axes: Axes, values: list[list[float]], shift: float, shape: dict[str, Any]) -> None:
    """Draw a method's bar for each class that has numbers, moved by `shift`. `values`: K lists, a value a seed."""
    by_class = {k: seeds for k, seeds in enumerate(values) if seeds}
    means = [statistics.fmean(seeds) for seeds in by_class.values()]
    errors = [statistics.stdev(seeds) if len(seeds) > 1 else 0.0 for seeds in by_class.values()]
    if by_class:
        positions = [k + shift for k in by_class]
        axes.bar(positions, means, yerr=errors if any(errors) else None, error_kw=ERROR_BARS, **shape)


def heat_map(part: GridResults, card: Card, split: str) -> Figure | None:
    """Draw a row for each backbone and method, a column for each class and the headline: means over seeds.

    None without numbers.
    """
    metric = card.class_metric
    columns = [*((metric, name) for name in card.classes), (card.metric, "")]
    means = [[part.values.mean(*pair, split, m, class_name=name) for m, name in columns] for pair in part.pairs]
    values = np.array(means, float)
    shown = ~np.isnan(values[:, :-1]).all(axis=1)
    if not shown.any():
        return None
    values, pairs = values[shown], [pair for pair, has_numbers in zip(part.pairs, shown, strict=True) if has_numbers]
    height = min(0.22 * len(pairs), _MAX_HEIGHT)
    figure = Figure(figsize=(PAGE_WIDTH, height + 1.4), layout="constrained")
    axes = figure.subplots()
    mesh = axes.pcolormesh(values, cmap="cividis", edgecolors="white", linewidth=0.5)
    _write_values(axes, values)
    axes.axvline(len(card.classes), color="white", linewidth=4)
    names, turned = class_ticks([*card.classes, card.metric])
    axes.set_xticks(np.arange(len(columns)) + 0.5, names, **(_TURNED if turned else {}))
    axes.set_yticks(
        np.arange(len(pairs)) + 0.5, [f"{backbone_title(backbone)}, {method}" for backbone, method in pairs]
    )
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(mesh, ax=axes, label=f"{metric}, %", aspect=max(15, 12 * height), pad=0.01)
    return figure


def _write_values(axes: Axes, values: np.ndarray) -> None:
    """Write each number into its field, in black where the field is bright."""
    low, high = np.nanmin(values), np.nanmax(values)
    size = 5.5 if values.shape[1] > MANY_CLASSES else 7
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            color = "black" if value > (low + high) / 2 else "white"
            text = f"{value:.0f}" if size < 7 else f"{value:.1f}"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=color, fontsize=size)


def _chance(part: GridResults, split: str, metric: str, card: Card) -> np.ndarray:
    """Return the chance level of each class, K; NaN where it isn't known."""
    rows = part.rows[(part.rows["split"] == split) & (part.rows["metric"] == metric)]
    levels = dict(zip(rows["class_name"], rows["chance"], strict=True))
    return np.array([levels.get(name) for name in card.classes], float)


# Confusion matrices


def matrices(part: GridResults, card: Card, split: str) -> Figure | None:
    """Draw what share of each class was predicted as each class, means over seeds.

    Panels are backbones (rows) and methods (columns). None where people have several labels, or without numbers.
    """
    methods = main_methods(part.methods)
    rows = part.rows[(part.rows["split"] == split) & (part.rows["metric"] == "confusion")]
    backbones = [name for name in part.backbones if name in set(rows["backbone"])]
    if not backbones:
        return None
    more = 0.05 * max(0, max(map(cell_len, class_ticks(card.classes)[0])) - 9)  # inches, for names longer than usual
    width, height = min(0.8 + 1.55 * len(methods) + more, PAGE_WIDTH), 1.65 + more / len(backbones)
    figure, grid = panel_grid(len(backbones), len(methods), height, width, sharex=True, sharey=True)
    for backbone, row in zip(backbones, grid, strict=True):
        for method, axes in zip(methods, row, strict=True):
            shares = [
                [
                    part.values.mean(backbone, method, split, "confusion", class_name=f"{true} > {predicted}")
                    for predicted in card.classes
                ]
                for true in card.classes
            ]
            _draw_matrix(axes, np.array(shares, float), card)
            axes.set_title(f"{backbone_title(backbone)}, {method}", loc="left", fontsize=7)
        row[0].set_ylabel("true")
    for axes in grid[-1]:
        axes.set_xlabel("taken for")
    return figure


def _draw_matrix(axes: Axes, values: np.ndarray, card: Card) -> None:
    """Draw shares in percent, K,K, the larger the darker; a row without numbers stays empty."""
    if np.isnan(values).all():
        axes.text(0.5, 0.5, "no numbers", ha="center", va="center", transform=axes.transAxes, fontsize=6)
    positions = np.arange(len(card.classes)) + 0.5
    axes.pcolormesh(values, cmap="Blues", vmin=0, vmax=100, edgecolors="white", linewidth=0.3)
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 5.5}
    for (true, predicted), value in np.ndenumerate(values):
        if len(values) <= MANY_CLASSES and value >= 0.5:
            color = "white" if value > 65 else "black"
            axes.text(predicted + 0.5, true + 0.5, f"{value:.0f}", color=color, **style)
    names, _ = class_ticks(card.classes)
    axes.set_xticks(positions, names, **_TURNED, fontsize=6)
    axes.set_yticks(positions, names, fontsize=6)
    axes.set(xlim=(0, len(values)), ylim=(len(values), 0), aspect="equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


# Reliability diagrams


def diagrams(part: GridResults, split: str) -> Figure | None:
    """Draw how often stated probabilities came true: a panel for each backbone, a line for each method.

    A mark is a bin over the predictions of all seeds; the larger it is, the more predictions the bin holds. None
    without numbers.
    """
    bins = _pooled_bins(part.rows[part.rows["split"] == split])
    methods = main_methods(part.methods)
    backbones = [name for name in part.backbones if any((name, method) in bins for method in methods)]
    if not backbones:
        return None
    figure, panels = panel_row(len(backbones), 2.3, sharex=True, sharey=True)
    ticks = range(0, 101, 25)
    for axes, backbone in zip(panels, backbones, strict=True):
        axes.plot((0, 100), (0, 100), color="black", linestyle=":", linewidth=0.8)
        for method in methods:
            if (backbone, method) in bins:
                _draw_reliability(axes, bins[backbone, method], method, part.methods)
        axes.set_title(backbone_title(backbone), loc="left")
        axes.set_xlabel("stated, %")
        axes.tick_params(labelbottom=True)
        axes.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal", xticks=ticks, yticks=ticks)
        axes.grid()
    for axes in panels[::3]:
        axes.set_ylabel("came true, %")
    add_legend(figure, methods)
    return figure


def _pooled_bins(rows: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Return, for each backbone and method, the bins over the predictions of all seeds.

    A table has a row for each bin, with `count`, `stated` and `observed` (both in percent).
    """
    chosen = rows[rows["metric"].isin([STATED, OBSERVED])].copy()
    chosen["count"] = chosen["positives"].fillna(0).astype(int)
    chosen["sum"] = chosen["count"] * chosen["value"]
    keys = ["backbone", "method", "class_name", "metric"]
    sums = chosen.groupby(keys)[["count", "sum"]].sum().unstack("metric")
    if sums.empty:
        return {}
    counts = sums["count", STATED]
    pooled = pd.DataFrame(
        {
            "count": counts,
            "stated": sums["sum", STATED] / counts,
            "observed": sums["sum", OBSERVED] / sums["count", OBSERVED],
        }
    )
    return {key: bins for key, bins in pooled.groupby(["backbone", "method"])}  # noqa: C416


def _draw_reliability(axes: Axes, bins: pd.DataFrame, method: str, methods: list[str]) -> None:
    shape, total = look(method, methods), bins["count"].sum()
    shown = bins[bins["count"] >= FEWEST]
    axes.plot(shown["stated"], shown["observed"], linewidth=1, markersize=2, label=method, **shape)
    sizes = [_LARGEST * math.sqrt(count / total) for count in shown["count"]]
    axes.scatter(
        shown["stated"], shown["observed"], sizes,
        color=shape["color"], marker=shape["marker"], alpha=0.6, linewidths=0,
    )  # fmt: skip
