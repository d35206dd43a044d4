"""Gathers a grid from disk into `results/<grid>/`: its long form, and its tables in every format. Imports no torch."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table as Grid

from clef import console, io
from clef.results import formats, latex, store
from clef.results.collect import gather
from clef.results.formats import Table
from clef.results.pictures import PAGE
from clef.results.rows import Gathered
from clef.results.tables import all_tables

WRITTEN = ("tables.md", "tables.csv", "tables.tex", *store.FILES)


def gather_grid(plan: str | Path, results: str | Path, show_all: bool = False) -> Gathered:
    """Read the cells that `plan` (a plan.json) lists, write their long form and tables below `results`, and print."""
    with console.Steps("cells") as progress:
        gathered = gather(Path(plan), progress)
    folder = Path(results) / gathered.grid
    if store.write(folder, gathered):
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
    io.write(folder / "tables.tex", latex.to_latex(made))
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
