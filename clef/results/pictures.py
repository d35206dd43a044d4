"""The figures of a grid, examples of its predictions, and its page, `report.html`. Imports no torch."""

import json
from importlib.util import find_spec
from pathlib import Path

from clef import console, io
from clef.cells import records
from clef.results import page, raster
from clef.results.page import Image
from clef.results.parts import parts_of
from clef.results.rows import Gathered

PAGE, EXAMPLES, INDEX = "report.html", "examples", "examples.json"
ON_SCREEN = 0.5
"""The part of an example's dots that a page shows."""
LACKING = "no figures: matplotlib is not installed (pip install 'clef-caer[figures]')"


def publish(folder: Path, gathered: Gathered, cells: Path | None = None, images: bool | None = None) -> None:
    """Write figures, examples and page into `folder`, and say so; without matplotlib a page that has no figures.

    `cells`: the folder of the grid's cells, for the examples; None: those that were drawn before are taken.
    `images`: whether people may be shown (`clef.results.examples.may_show`).
    """
    figures, remarks = _figures(folder, gathered)
    if cells is not None:
        _draw_examples(folder, gathered, cells, images)
    shown, further = _examples(folder, gathered, images)
    io.write(folder / PAGE, page.render(gathered, figures, shown, remarks + further))
    for remark in remarks + further:
        console.out.print(remark, markup=False, soft_wrap=True)
    written = [PAGE, *(["figures/"] if figures else []), *([f"{EXAMPLES}/"] if shown else [])]
    console.out.print(f"written to {folder}: {', '.join(written)}", markup=False, soft_wrap=True)


def _figures(folder: Path, gathered: Gathered) -> tuple[list[Image], list[str]]:
    """The figures, and what is to be said where they can't be drawn."""
    if find_spec("matplotlib") is None:
        return [], [LACKING]
    from clef.results.figures.draw import draw  # slow to import

    with console.Steps("figures") as progress:
        return draw(folder, gathered, progress), []


def _draw_examples(folder: Path, gathered: Gathered, cells: Path, images: bool | None) -> None:
    """Write them into `folder`/examples as PNG and PDF, in place of those of an earlier time."""
    from clef.results.examples import examples  # slow to import

    made, remarks = examples(gathered, cells, images)
    for path in [*(folder / EXAMPLES).glob("*.png"), *(folder / EXAMPLES).glob("*.pdf")]:
        path.unlink()
    for one in made:
        io.write(folder / EXAMPLES / f"{one.name}.png", one.png, durable=False)
        io.write(folder / EXAMPLES / f"{one.name}.pdf", raster.pdf(one.png), durable=False)
    index = [{"about": one.about, "name": one.name, "caption": one.caption} for one in made]
    content = {"remarks": remarks, "examples": index}
    io.write(folder / EXAMPLES / INDEX, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _examples(folder: Path, gathered: Gathered, images: bool | None) -> tuple[list[Image], list[str]]:
    """Those that lie in `folder` and may be shown, and what is to be said of others."""
    from clef.results.examples import HIDDEN, may_show  # slow to import

    known, found = records.read_json(folder / EXAMPLES / INDEX), list[Image]()
    remarks = list[str](known.get("remarks", []))
    allowed = {name for _, card, name in parts_of(gathered) if may_show(card, images)}
    for one in known.get("examples", []):
        path = folder / EXAMPLES / f"{one['name']}.png"
        if one["about"] not in allowed:
            remarks.append(f"{one['about']}: {HIDDEN}")
        elif not path.exists():
            remarks.append(f"{path} is gone")
        else:
            found.append(Image(**one, png=raster.for_a_screen(path.read_bytes(), ON_SCREEN)))
    return found, list(dict.fromkeys(remarks))
