"""Gathers a grid from disk into `results/<grid>/`: rows.csv, tables.md and tables.csv. Imports no torch."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table as Grid

from clef import console, files
from clef.results.rows import Gathered, gather, to_csv
from clef.results.tables import Table, tables, to_markdown, to_rich
from clef.results.tables import to_csv as tables_to_csv


def gather_grid(plan: str | Path, results: str | Path) -> Gathered:
    """Read the cells that `plan` (a plan.json) lists, and write their rows and tables below `results`."""
    gathered = gather(Path(plan))
    made = tables(gathered)
    folder = Path(results) / gathered.grid
    files.write(folder / "rows.csv", to_csv(gathered.rows))
    files.write(folder / "tables.md", to_markdown(made, gathered.grid))
    files.write(folder / "tables.csv", tables_to_csv(made))
    show(made)
    console.out.print(f"written to {folder}: tables.md, tables.csv, rows.csv", highlight=False)
    return gathered


def show(made: list[Table]) -> None:
    """Print the tables with their notes."""
    for table in made:
        console.out.print(to_rich(table))
        notes = Grid.grid(padding=(0, 1))
        for note in table.notes:  # a long one goes on below its own beginning
            notes.add_row(" -", escape(note))
        if table.notes:
            console.out.print(notes)
        console.out.print()
