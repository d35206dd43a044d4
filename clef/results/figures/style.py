"""How all figures look, and how they are rendered: the same numbers give the same bytes."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from rich.cells import cell_len

from clef.fonts import DEJAVU, find_fonts, shorten
from clef.results.figures.raster import PAGE_WIDTH

MAX_METHODS = 4
"""Methods that a figure of many panels has room for."""
MANY_CLASSES = 10
"""With so many classes or more, their names are turned, and numbers in fields are smaller or left out."""
_LETTERS_OF_A_NAME, _LETTERS_IN_A_ROW = 26, 110
"""At most: of a class at an axis, and of all classes side by side over the width of a page."""
ERROR_BARS: dict[str, Any] = {"capsize": 2, "elinewidth": 0.8, "capthick": 0.8}
PAIR = ("vanilla", "clef")
"""The methods that others are compared with."""
_FIXED_COLORS = {"vanilla": "#E69F00", "clef": "#0072B2", "ccim": "#009E73", "context_only": "#CC79A7"}
_OTHER_COLORS = ("#000000", "#56B4E9", "#D55E00")
"""Colors of Okabe and Ito, which color-blind people can tell apart; vanilla and CLEF differ in grey, too."""
_MARKERS = "os^DvPX<>ph"
_DASHES = ("-", "--", ":")
_SETTINGS: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "grid.color": "#cccccc",
    "axes.axisbelow": True,
    "hatch.linewidth": 0.4,
    "text.parse_math": False,  # a name may have dollar signs
    "pdf.fonttype": 42,  # embed fonts as letters, not as drawings: journals ask for it
}
_NO_DATES = {"pdf": {"CreationDate": None}, "png": {"Software": None}}


@contextmanager
def style(text: str = "") -> Iterator[None]:
    """Draw and render figures in this style within the block, whatever the user's own matplotlib settings are.

    `text`: letters that the figures show; those that DejaVu Sans lacks are taken from other fonts of this machine.
    """
    others = [font for font in find_fonts(text) if font.family != DEJAVU]
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # `clef.fonts.remarks` says it once
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        for font in others:
            fontManager.addfont(font.file)
        matplotlib.rcParams["font.family"] = [DEJAVU, *(font.family for font in others)]
        yield


def panel_grid(
    rows: int, columns: int, height: float, width: float = PAGE_WIDTH, **options: Any
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure, `width` inches wide, and its panels, each `height` inches tall, by row and column."""
    figure = Figure(figsize=(width, rows * height + 0.4), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options).tolist()


def panel_row(count: int, height: float, columns: int = 3, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure and its `count` panels, `columns` in a row; the rest of the last row stays empty."""
    width = PAGE_WIDTH * min(1, (count + 1) / (columns + 1))
    figure, grid = panel_grid(-(-count // columns), min(columns, count), height, width, **options)
    every = [axes for row in grid for axes in row]
    for axes in every[count:]:
        axes.set_visible(False)
    return figure, every[:count]


def look(method: str, methods: Sequence[str]) -> dict[str, Any]:
    """Return the color, marker and line of a method among those of a grid; some methods always look the same."""
    others = [name for name in methods if name not in _FIXED_COLORS]
    position = len(_FIXED_COLORS) + others.index(method) if method in others else list(_FIXED_COLORS).index(method)
    color = _FIXED_COLORS.get(method) or _OTHER_COLORS[others.index(method) % len(_OTHER_COLORS)]
    dashes = _DASHES[position // len(_MARKERS) % len(_DASHES)]
    return {"color": color, "marker": _MARKERS[position % len(_MARKERS)], "linestyle": dashes}


def share_panels(methods: Sequence[str]) -> list[list[str]]:
    """Return the methods of each panel: all in one, or one in each where they are too many to tell apart.

    The panel of one method also shows vanilla and CLEF; its own method comes last.
    """
    if sum(name not in _FIXED_COLORS for name in methods) <= len(_OTHER_COLORS):
        return [list(methods)]
    behind = [name for name in PAIR if name in methods]
    return [[*behind, name] for name in methods if name not in behind]


def main_methods(methods: Sequence[str]) -> list[str]:
    """Return the methods that a figure with room for `MAX_METHODS` shows: those of the papers before others."""
    return sorted(methods, key=lambda name: name not in _FIXED_COLORS)[:MAX_METHODS]


def class_ticks(classes: Sequence[str]) -> tuple[list[str], bool]:
    """Return the names of classes at an axis, and whether they must be turned to have room side by side.

    A long name loses its middle. Letters such as Japanese ones count twice.
    """
    names = [shorten(name, lambda shown: cell_len(shown) <= _LETTERS_OF_A_NAME) for name in classes]
    return names, len(names) >= MANY_CLASSES or len(names) * max(map(cell_len, names)) > _LETTERS_IN_A_ROW


def add_legend(figure: Figure, names: Sequence[str]) -> None:
    """Add one legend above all panels for everything they show: `names` in their order, then the rest."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = [*(name for name in names if name in handles), *(label for label in handles if label not in names)]
    if labels:
        shown = [handles[label] for label in labels]
        figure.legend(shown, labels, loc="outside upper center", ncols=min(len(labels), 6))


def render(figure: Figure, form: str) -> bytes:
    """Return the figure as `png` (300 dots an inch) or `pdf`."""
    if figure.get_layout_engine() is not None:  # lay out once, not for each form: that draws everything twice
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, dpi=300, metadata=_NO_DATES[form])
    return buffer.getvalue()
