"""How all figures look, and how they are written: the same numbers give the same bytes.

Pictures of pixels, for print: as a PDF, and smaller for a page. Same picture, same bytes. Imports no torch.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

COLOURS = 128
WIDTH = 7.0
"""Inches in print: the text of a page. In figures, letters have 7 points and more at this width, small numbers 5.5."""


def for_a_screen(png: bytes, share: float) -> bytes:
    """As PNG, at a share of its width and height, and of few colours."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    size = round(picture.width * share), round(picture.height * share)
    smaller = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    smaller.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def pdf(png: bytes) -> bytes:
    """One page, as large as the picture, which is `WIDTH` wide. Without a date, which would change the bytes."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    undated = {"creationDate": None, "modDate": None}
    buffer = io.BytesIO()
    picture.save(buffer, "PDF", resolution=picture.width / WIDTH, quality=95, subsampling=0, **undated)
    return buffer.getvalue()


FEW = 4
"""Methods that a figure of many panels has room for."""
SPREAD: dict[str, Any] = {"capsize": 2, "elinewidth": 0.8, "capthick": 0.8}
"""Of error bars."""
_NAMED = {"vanilla": "#E69F00", "clef": "#0072B2", "ccim": "#009E73", "context_only": "#CC79A7"}
_OTHERS = ("#000000", "#56B4E9", "#D55E00")
"""Okabe and Ito's colours, which the colour-blind can tell apart; vanilla and CLEF differ in grey, too."""
PAIR = ("vanilla", "clef")
"""What others are held against."""
_MARKS = "os^DvPX<>ph"
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
    "pdf.fonttype": 42,  # letters, not drawings: journals ask for it
}
_DATED = {"pdf": {"CreationDate": None}, "png": {"Software": None}}


@contextmanager
def style() -> Iterator[None]:
    """Within, figures are drawn and written in this way, whatever the user's own settings of matplotlib are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def panels(
    rows: int, columns: int, height: float, width: float = WIDTH, **options: Any
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with so many panels, each `height` inches tall; as wide as a page, or narrower where `width` says so."""
    figure = Figure(figsize=(width, rows * height + 0.4), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options).tolist()


def beside(count: int, height: float, columns: int = 3, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, `columns` in a row; what is left of the last row is empty."""
    width = WIDTH * min(1, (count + 1) / (columns + 1))
    figure, grid = panels(-(-count // columns), min(columns, count), height, width, **options)
    every = [axes for row in grid for axes in row]
    for axes in every[count:]:
        axes.set_visible(False)
    return figure, every[:count]


def look(method: str, methods: Sequence[str]) -> dict[str, Any]:
    """The colour, mark and line of a method among those of a grid: vanilla's, CLEF's and CCIM's are always the same."""
    others = [one for one in methods if one not in _NAMED]
    place = len(_NAMED) + others.index(method) if method in others else list(_NAMED).index(method)
    colour = _NAMED.get(method) or _OTHERS[others.index(method) % len(_OTHERS)]
    dashes = _DASHES[place // len(_MARKS) % len(_DASHES)]
    return {"color": colour, "marker": _MARKS[place % len(_MARKS)], "linestyle": dashes}


def shared(methods: Sequence[str]) -> list[list[str]]:
    """Which methods one panel holds: all, or where there are too many to tell them apart, each by itself as the last,
    and vanilla and CLEF before it.
    """
    if sum(one not in _NAMED for one in methods) <= len(_OTHERS):
        return [list(methods)]
    behind = [one for one in PAIR if one in methods]
    return [[*behind, one] for one in methods if one not in behind]


def main(methods: Sequence[str]) -> list[str]:
    """Those that a figure with room for `FEW` shows: the paper's own before a grid's others."""
    return sorted(methods, key=lambda one: one not in _NAMED)[:FEW]


def legend(figure: Figure, names: Sequence[str]) -> None:
    """One for all panels, above them, of what any of them shows: of `names` in their order, then of all else."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    labels = [*(name for name in names if name in found), *(label for label in found if label not in names)]
    if labels:
        handles = [found[label] for label in labels]
        figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 6))


def written(figure: Figure, form: str) -> bytes:
    """The figure as png (300 dots an inch) or pdf."""
    if figure.get_layout_engine() is not None:  # once: it draws everything twice
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, dpi=300, metadata=_DATED[form])
    return buffer.getvalue()
