"""A table, and its forms: terminal, Markdown and CSV; `latex` has the fourth. Imports no torch."""

import csv
import io
from dataclasses import dataclass, field

from rich.markup import escape
from rich.table import Table as RichTable

DASH = "–"
UNTRAINED = "°"
"""Behind a method or its number: something started at random although pre-trained weights could have been named."""
_TEXT = ("backbone", "method", "control", "split", "system", "class", "setting", "verdict", "part", "cause")
"""Columns of words; all others hold numbers."""


@dataclass(frozen=True)
class Table:
    """A title, column heads, rows of text, and notes below."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    main: bool = False
    """Whether it is among those that are printed when nobody asks for all."""

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether it holds numbers."""
        return [column not in _TEXT for column in self.columns]


def percent(value: float | None) -> str:
    """Two digits, or a dash."""
    return DASH if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """Likewise, with its sign."""
    return DASH if value is None else f"{value:+.2f}"


def to_markdown(made: list[Table], *grids: str) -> str:
    """All tables as one Markdown page, of one grid or of several side by side."""
    lines = [f"# Results of the grid {' beside '.join(f'`{grid}`' for grid in grids)}", ""]
    for table in made:
        lines += [f"## {_cell(table.title)}", "", "| " + " | ".join(map(_cell, table.columns)) + " |"]
        lines.append("| " + " | ".join("---:" if numeric else "---" for numeric in table.numeric) + " |")
        lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in table.rows]
        lines += ["", *(f"- {_cell(note)}" for note in table.notes), *([""] if table.notes else [])]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def to_csv(made: list[Table]) -> str:
    """All tables as CSV: a title line, heads, rows, a line a note, and an empty line between tables.

    Title and notes are lines of one field; every table has more columns.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, table in enumerate(made):
        if i:
            writer.writerow([])
        notes = [[" ".join(note.split())] for note in table.notes]
        writer.writerows([[table.title], table.columns, *table.rows, *notes])
    return text.getvalue()


def to_rich(table: Table, width: int) -> list[RichTable]:
    """A table for a terminal of so many columns: in pieces where it is wider, each with the words that name its rows.
    No number is cut.
    """
    needed = _needed(table)
    return [_rich_piece(table, piece, needed, width) for piece in pieces(table, width - 1)]


def _needed(table: Table) -> list[int]:
    """How many letters each column is wide at least: heads can be broken, cells can't."""
    return [
        max(len(text) for text in (*column.split(), *(row[i] for row in table.rows)))
        for i, column in enumerate(table.columns)
    ]


def pieces(table: Table, room: int) -> list[list[int]]:
    """The columns in pieces of so many letters, three of them between columns; each begins with the words."""
    words, needed = list(range((*table.numeric, True).index(True))), _needed(table)
    found = [list(words)]
    for i in range(len(words), len(table.columns)):
        if len(found[-1]) > len(words) and sum(needed[j] + 3 for j in (*found[-1], i)) > room:
            found.append(list(words))
        found[-1].append(i)
    return found


def _rich_piece(table: Table, piece: list[int], needed: list[int], width: int) -> RichTable:
    """Some columns of a table; their heads take several lines where that saves room, cells never do."""
    made = RichTable(title=escape(table.title), title_justify="left", title_style="bold")
    tight = sum(max(needed[i], len(table.columns[i])) + 3 for i in piece) + 1 > width
    for i in piece:
        justify = "right" if table.numeric[i] else "left"
        made.add_column(escape(table.columns[i]), justify=justify, width=needed[i] if tight else None)  # type: ignore[arg-type]
    for row in table.rows:
        made.add_row(*(escape(row[i]) for i in piece))
    return made
