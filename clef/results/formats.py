"""A table, and its forms: terminal, Markdown and CSV; `latex` has the fourth. Imports no torch.

Tables as LaTeX. Imports no torch.
"""

import csv
import io
import re
from collections.abc import Iterable
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


_PREAMBLE = r"""\documentclass[a4paper]{article}
\usepackage[utf8]{inputenc}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
"""
_LETTERS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "–": "--", "−": "$-$", "±": r"$\pm$", "°": r"$^\circ$", "×": r"$\times$", "’": "'",
}  # fmt: skip
_WIDTH, _ROWS = 140, 50
"""Letters and rows of a float: as many as a page holds in letters that can be read."""
_MINUS = re.compile(r"-(?=\d)")


def to_latex(made: list[Table]) -> str:
    """All tables as a LaTeX document, each with booktabs' rules and on a page of its own, to be copied into a paper."""
    return _PREAMBLE + "".join(f"\n{_table(table)}\\clearpage\n" for table in made) + "\n\\end{document}\n"


def _table(table: Table) -> str:
    """Its floats: several where it is much wider or longer than a page. Notes follow: they may go on over the page."""
    starts = range(0, max(len(table.rows), 1), _ROWS)
    parts = [(piece, start) for piece in pieces(table, _WIDTH) for start in starts]
    lines = []
    for number, (piece, start) in enumerate(parts, 1):
        title = f"{table.title} ({number} of {len(parts)})" if len(parts) > 1 else table.title
        lines += _float(title, table, piece, table.rows[start : start + _ROWS])
    notes = [rf"  \item {_text(note)}" for note in table.notes]
    lines += [r"\begin{itemize}\footnotesize\raggedright", *notes, r"\end{itemize}"] if notes else []
    return "\n".join(lines) + "\n"


def _float(title: str, table: Table, piece: list[int], rows: list[list[str]]) -> list[str]:
    """Some columns and rows of a table, made narrower where they are wider than the text."""
    return [
        r"\begin{table}[!htbp]",
        r"\centering",
        rf"\caption{{{_text(title)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{''.join('r' if table.numeric[i] else 'l' for i in piece)}}}",
        r"\toprule",
        _row(_column(table.columns[i]) for i in piece),
        r"\midrule",
        *(_row(_text(_MINUS.sub("−", row[i])) for i in piece) for row in rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]


def _row(cells: Iterable[str]) -> str:
    """A row; one that began with [ or * would be taken for an argument of what ends the row above."""
    text = " & ".join(cells)
    return ("{}" if text.startswith(("[", "*")) else "") + text + r" \\"


def _column(text: str) -> str:
    """A head on two lines where it has two parts: digits would be tiny below long ones."""
    first, _, rest = text.partition(", ")
    for sign in ("+", "-"):
        if not rest:
            first, found, second = text.partition(f" {sign} ")
            rest = f"{sign} {second}" if found else ""
    return rf"\shortstack[r]{{{_text(first)}\\{_text(rest)}}}" if rest else _text(text)


def _text(text: str) -> str:
    """Text as LaTeX sets it; what is beyond Latin letters and has no name above becomes a question mark."""
    return "".join(_LETTERS.get(letter, letter if ord(letter) < 0x180 else "?") for letter in " ".join(text.split()))
