"""The figures of a grid and its page, `report.html`. Imports no torch."""

from importlib.util import find_spec
from pathlib import Path

from clef import console, files
from clef.results import page
from clef.results.rows import Gathered

PAGE = "report.html"
LACKING = "no figures: matplotlib is not installed (pip install 'clef-caer[figures]')"


def publish(folder: Path, gathered: Gathered) -> None:
    """Write figures and page into `folder`, and say so; without matplotlib a page that has no figures."""
    figures, remarks = _figures(folder, gathered)
    files.write(folder / PAGE, page.render(gathered, figures, [], remarks))
    for remark in remarks:
        console.out.print(remark, markup=False, soft_wrap=True)
    console.out.print(f"written to {folder}: {PAGE}" + (", figures/" if figures else ""), markup=False, soft_wrap=True)


def _figures(folder: Path, gathered: Gathered) -> tuple[list[page.Image], list[str]]:
    """The figures, and what is to be said where they can't be drawn."""
    if find_spec("matplotlib") is None:
        return [], [LACKING]
    from clef.results.figures.draw import draw  # slow to import

    with console.Steps("figures") as progress:
        return draw(folder, gathered, progress), []
