"""Gather a grid from its cells into `results/<grid>/`: numbers, tables, figures, examples and the page. No torch.

`gather_grid` writes the numbers and the tables, `publish_page` the rest, which takes longer. `side_by_side` compares
two gathered grids.
"""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from rich.markup import escape
from rich.table import Table as Grid

from clef import console, fonts, io
from clef.cells import records
from clef.datasets.cards import Card
from clef.results import data_quality, formats, frame, page
from clef.results.collect import gather
from clef.results.figures import raster
from clef.results.formats import Table, format_signed
from clef.results.frame import GridResults, format_spread, parts_of, subtract
from clef.results.notes import WARNING, precision, untrained
from clef.results.page import Image
from clef.results.published import backbone_title
from clef.results.tables import all_tables

PAGE, EXAMPLES, INDEX = "report.html", "examples", "examples.json"
WRITTEN = ("tables.md", "tables.csv", "tables.tex", *frame.FILE_NAMES)
EXAMPLE_SCALE = 0.5
"""The resolution of an example on the page, relative to its file."""
NO_MATPLOTLIB = "no figures: matplotlib is not installed (pip install 'clef-caer[figures]')"


def gather_grid(plan: str | Path, results: str | Path, show_all: bool = False) -> GridResults:
    """Read the cells that `plan` (a plan.json) lists, write their numbers and tables below `results`, and print."""
    with console.ProgressBars("cells") as progress:
        gathered = gather(Path(plan), progress)
    folder = Path(results) / gathered.grid
    frame.check_folder(folder, (*WRITTEN, PAGE))
    if frame.write(folder, gathered):
        (folder / PAGE).unlink(missing_ok=True)  # it shows the earlier numbers
    publish_tables(folder, gathered, show_all)
    return gathered


def publish_tables(folder: Path, gathered: GridResults, show_all: bool) -> None:
    """Write the tables into `folder`, and print the main ones and the comparisons, or all."""
    tables = write_tables(folder, gathered)
    print_tables([table for table in tables if table.main or show_all])
    console.out.print(f"written to {folder}: {', '.join(WRITTEN)}", highlight=False, soft_wrap=True)


def write_tables(folder: Path, gathered: GridResults) -> list[Table]:
    """Write all tables into `folder`, in each format, and return them."""
    tables = all_tables(gathered)
    io.write(folder / "tables.md", formats.to_markdown(tables, gathered.grid))
    io.write(folder / "tables.csv", formats.to_csv(tables).encode("utf-8-sig"))  # Excel asks for the mark
    io.write(folder / "tables.tex", formats.to_latex(tables))
    return tables


def print_tables(tables: list[Table]) -> None:
    """Print tables with their notes."""
    for table in tables:
        for piece in formats.to_rich(table, console.out.width):
            console.out.print(piece)
        notes = Grid.grid(padding=(0, 1))
        for note in table.notes:  # a grid, so that a long note continues below its own beginning
            notes.add_row(" -", escape(note))
        if table.notes:
            console.out.print(notes)
        console.out.print()


# The page, and the pictures on it


def publish_page(folder: Path, gathered: GridResults, cells: Path | None = None, images: bool | None = None) -> None:
    """Write figures, examples and page into `folder`, and print what was written; without matplotlib no figures.

    `cells`: the folder of the grid's cells, for the examples; None: use the examples that were drawn before.
    `images`: whether people may be shown (`clef.results.examples.may_show`).
    """
    figures, remarks = _draw_figures(folder, gathered)
    remarks += fonts.remarks(gathered.names)
    if cells is not None:
        _draw_examples(folder, gathered, cells, images)
    examples, example_remarks = _load_examples(folder, gathered, images)
    io.write(folder / PAGE, page.render(gathered, figures, examples, remarks + example_remarks))
    for remark in remarks + example_remarks:
        console.out.print(remark, markup=False, soft_wrap=True)
    written = [PAGE, *(["figures/"] if figures else []), *([f"{EXAMPLES}/"] if examples else [])]
    console.out.print(f"written to {folder}: {', '.join(written)}", markup=False, soft_wrap=True)


def _draw_figures(folder: Path, gathered: GridResults) -> tuple[list[Image], list[str]]:
    """Return the figures, or why there are none."""
    if find_spec("matplotlib") is None:
        return [], [NO_MATPLOTLIB]
    from clef.results.figures.draw import draw_figures  # slow to import

    with console.ProgressBars("figures") as progress:
        return draw_figures(folder, gathered, progress), []


def _draw_examples(folder: Path, gathered: GridResults, cells: Path, images: bool | None) -> None:
    """Write the examples into `folder`/examples as PNG and PDF, in place of earlier ones."""
    from clef.results.examples import draw_examples  # slow to import

    examples, remarks = draw_examples(gathered, cells, images)
    for earlier in records.read_json(folder / EXAMPLES / INDEX).get("examples", []):
        for form in ("png", "pdf"):
            (folder / EXAMPLES / f"{earlier['name']}.{form}").unlink(missing_ok=True)
    for image in examples:
        io.write(folder / EXAMPLES / f"{image.name}.png", image.png, durable=False)
        io.write(folder / EXAMPLES / f"{image.name}.pdf", raster.to_pdf(image.png), durable=False)
    index = [{"about": image.about, "name": image.name, "caption": image.caption} for image in examples]
    content = {"remarks": remarks, "examples": index}
    io.write(folder / EXAMPLES / INDEX, io.to_json(content) + "\n")


def _load_examples(folder: Path, gathered: GridResults, images: bool | None) -> tuple[list[Image], list[str]]:
    """Return the examples in `folder` that may be shown, and remarks about the others."""
    from clef.results.examples import HIDDEN, may_show  # slow to import

    index, examples = records.read_json(folder / EXAMPLES / INDEX), list[Image]()
    remarks = list[str](index.get("remarks", []))
    allowed = {name for _, card, name in parts_of(gathered) if may_show(card, images)}
    for entry in index.get("examples", []):
        path = folder / EXAMPLES / f"{entry['name']}.png"
        if entry["about"] not in allowed:
            remarks.append(f"{entry['about']}: {HIDDEN}")
        elif not path.exists():
            remarks.append(f"{path} is gone")
        else:
            examples.append(Image(**entry, png=raster.shrink(path.read_bytes(), EXAMPLE_SCALE)))
    return examples, list(dict.fromkeys(remarks))


# Two grids side by side


def side_by_side(first: GridResults, second: GridResults) -> list[Table]:
    """Return a table for each dataset and protocol of two grids: the headline of every method that either has.

    A grid is called by its name; where both have the same name, a number is added.
    """
    names = [first.grid, second.grid] if first.grid != second.grid else [f"{first.grid} 1", f"{second.grid} 2"]
    tables = []
    for part, card, name in parts_of(replace(first, runs=first.runs + second.runs, cards=first.cards | second.cards)):
        key = part.runs[0].dataset, part.runs[0].protocol
        both = [grid.select(*key) for grid in (first, second)]
        columns = ["backbone", "method", "split", "seeds", *names, "difference"]
        rows = _rows_of_both(part.pairs, both, card)
        tables.append(Table(f"{name}: {card.metric}, percent", columns, rows, _notes_on_both(names, both)))
    return tables


def _rows_of_both(pairs: list[tuple[str, str]], both: list[GridResults], card: Card) -> list[list[str]]:
    """Return a row for each pair of backbone and method, and each test split."""
    rows, sides = [], [part.values for part in both]
    for pair in pairs:
        for split in card.test_splits:
            values = [side.by_seed(*pair, split, card.metric).values() for side in sides]
            means = [side.mean(*pair, split, card.metric) for side in sides]
            shown = [side.mark(*pair, format_spread(each)) for side, each in zip(sides, values, strict=True)]
            seeds = ", ".join(str(len(each)) for each in values)
            difference = format_signed(subtract(means[1], means[0]))
            rows.append([backbone_title(pair[0]), pair[1], split, seeds, *shown, difference])
    return rows


def _notes_on_both(names: list[str], both: list[GridResults]) -> list[str]:
    """Return what the difference is, and what else than the intended setting may have caused it."""
    rows = frame.concatenate([part.rows for part in both])
    notes = [
        f"difference: the mean of {names[1]} minus that of {names[0]}, each over its own seeds; it is not tested",
        *untrained(rows),
    ]
    if not all(len(part.rows) for part in both):
        return notes
    commits = [sorted(part.rows["commit"].fillna("unknown").unique()) for part in both]
    if commits[0] != commits[1]:
        texts = (f"{name} {', '.join(commit[:9] for commit in c)}" for name, c in zip(names, commits, strict=True))
        notes.append(f"code: {'; '.join(texts)}")
    data = {
        f"{name}: {cell}": facts for name, part in zip(names, both, strict=True) for cell, facts in part.data.items()
    }
    return [*notes, *(f"{WARNING}{text}" for text in (*precision(rows), *data_quality.differences(data)))]
