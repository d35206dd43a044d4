"""What is taken for what: a confusion matrix for each backbone and method, where a sample has one label."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clef.cards import Card
from clef.results.figures.style import main, panels
from clef.results.numbers import Numbers
from clef.results.published import title
from clef.results.rows import Gathered

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
