"""Gathers a grid from disk into `results/<grid>/`: its long form, and its tables in every format. Imports no torch.

Two grids side by side: the headline of every dataset, backbone, method and test split of either. No torch.

The figures of a grid, examples of its predictions, and its page, `report.html`. Imports no torch.
"""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from rich.markup import escape
from rich.table import Table as Grid

from clef import console, io
from clef.cells import records
from clef.datasets.cards import Card
from clef.results import data_quality, formats, frame, page
from clef.results.collect import gather
from clef.results.figures import style
from clef.results.formats import Table, signed
from clef.results.frame import Gathered, Numbers, minus, part_of, parts_of, spread
from clef.results.notes import WARNING, precision, untrained
from clef.results.page import Image
from clef.results.published import title
from clef.results.tables import all_tables

PAGE, EXAMPLES, INDEX = "report.html", "examples", "examples.json"
ON_SCREEN = 0.5
"""The part of an example's dots that a page shows."""
LACKING = "no figures: matplotlib is not installed (pip install 'clef-caer[figures]')"


def publish_page(folder: Path, gathered: Gathered, cells: Path | None = None, images: bool | None = None) -> None:
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
        io.write(folder / EXAMPLES / f"{one.name}.pdf", style.pdf(one.png), durable=False)
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
            found.append(Image(**one, png=style.for_a_screen(path.read_bytes(), ON_SCREEN)))
    return found, list(dict.fromkeys(remarks))


WRITTEN = ("tables.md", "tables.csv", "tables.tex", *frame.FILES)


def gather_grid(plan: str | Path, results: str | Path, show_all: bool = False) -> Gathered:
    """Read the cells that `plan` (a plan.json) lists, write their long form and tables below `results`, and print."""
    with console.Steps("cells") as progress:
        gathered = gather(Path(plan), progress)
    folder = Path(results) / gathered.grid
    if frame.write(folder, gathered):
        (folder / PAGE).unlink(missing_ok=True)  # it shows the numbers of before
    publish(folder, gathered, show_all)
    return gathered


def publish(folder: Path, gathered: Gathered, show_all: bool) -> None:
    """Write the tables into `folder`, and print the main ones and the comparisons, or all."""
    made = write_tables(folder, gathered)
    show([table for table in made if table.main or show_all])
    console.out.print(f"written to {folder}: {', '.join(WRITTEN)}", highlight=False, soft_wrap=True)


def write_tables(folder: Path, gathered: Gathered) -> list[Table]:
    """Write all tables into `folder`, in each format."""
    made = all_tables(gathered)
    io.write(folder / "tables.md", formats.to_markdown(made, gathered.grid))
    io.write(folder / "tables.csv", formats.to_csv(made))
    io.write(folder / "tables.tex", formats.to_latex(made))
    return made


def show(made: list[Table]) -> None:
    """Print the tables with their notes."""
    for table in made:
        for piece in formats.to_rich(table, console.out.width):
            console.out.print(piece)
        notes = Grid.grid(padding=(0, 1))
        for note in table.notes:  # a long one goes on below its own beginning
            notes.add_row(" -", escape(note))
        if table.notes:
            console.out.print(notes)
        console.out.print()


def side_by_side(first: Gathered, second: Gathered) -> list[Table]:
    """A table for each dataset as each protocol has it, those of the first grid before those of the second alone.

    A grid is called by its name; where both have the same, by its number too.
    """
    names = [first.grid, second.grid] if first.grid != second.grid else [f"{first.grid} 1", f"{second.grid} 2"]
    made = []
    for part, card, name in parts_of(replace(first, runs=first.runs + second.runs, cards=first.cards | second.cards)):
        which = part.runs[0].dataset, part.runs[0].protocol
        both = [part_of(one, *which) for one in (first, second)]
        columns = ["backbone", "method", "split", "seeds", *names, "difference"]
        made.append(Table(f"{name}: {card.metric}, percent", columns, _rows(part, both, card), _notes(names, both)))
    return made


def _rows(part: Gathered, both: list[Gathered], card: Card) -> list[list[str]]:
    """`part`: the plans of both."""
    made, sides = [], [Numbers(one.rows) for one in both]
    for pair in part.pairs:
        for split in card.test_splits:
            values = [numbers.by_seed(*pair, split, card.metric).values() for numbers in sides]
            means = [numbers.mean(*pair, split, card.metric) for numbers in sides]
            shown = [numbers.marked(*pair, spread(one)) for numbers, one in zip(sides, values, strict=True)]
            seeds = ", ".join(str(len(one)) for one in values)
            made.append([title(pair[0]), pair[1], split, seeds, *shown, signed(minus(means[1], means[0]))])
    return made


def _notes(names: list[str], both: list[Gathered]) -> list[str]:
    """What a difference is, and what may be behind it besides the setting that one has in mind."""
    rows = [row for one in both for row in one.rows]
    notes = [
        f"difference: the mean of {names[1]} less that of {names[0]}, each over its own seeds; no test is made of it",
        *untrained(rows),
    ]
    if not all(one.rows for one in both):
        return notes
    commits = [sorted({row.commit or "unknown" for row in one.rows}) for one in both]
    if commits[0] != commits[1]:
        told = (f"{name} {', '.join(c[:9] for c in one)}" for name, one in zip(names, commits, strict=True))
        notes.append(f"code: {'; '.join(told)}")
    cells = {f"{name}: {cell}": one for name, side in zip(names, both, strict=True) for cell, one in side.data.items()}
    return [*notes, *(f"{WARNING}{told}" for told in (*precision(rows), *data_quality.differences(cells)))]
