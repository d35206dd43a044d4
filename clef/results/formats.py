"""A table, and its forms: Markdown, CSV, terminal and LaTeX. Imports no torch."""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table as RichTable

from clef.fonts import find_fonts, missing_letters

DASH = "–"
UNTRAINED = "°"
"""After a method or its number: something was initialized at random although weights could have been named."""
_FORMULA = re.compile(r"^[=@\t\r]|^[+-](?![\d.,]+°?(?: (?:±|to) [+-]?[\d.,]+°?)?$)")
"""The beginning of what a spreadsheet takes for a formula; a signed number or interval is none."""
_TEXT_COLUMNS = ("backbone", "method", "control", "split", "system", "class", "setting", "verdict", "part", "cause")
"""Columns of words; all others hold numbers."""


@dataclass(frozen=True)
class Table:
    """A title, column heads, rows of text, and notes below."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    main: bool = False
    """Whether it is printed where not all tables were asked for."""

    @property
    def numeric(self) -> list[bool]:
        """Return, for each column, whether it holds numbers."""
        return [column not in _TEXT_COLUMNS for column in self.columns]


def format_percent(value: float | None) -> str:
    """Return a number with two digits, or a dash."""
    return DASH if value is None else f"{value:.2f}"


def format_signed(value: float | None) -> str:
    """Return a number with its sign and two digits, or a dash."""
    return DASH if value is None else f"{value:+.2f}"


# Markdown and CSV


def to_markdown(tables: list[Table], *grids: str) -> str:
    """Return all tables as one Markdown page, of one grid or of several side by side."""
    lines = [f"# Results of the grid {' next to '.join(f'`{grid}`' for grid in grids)}", ""]
    for table in tables:
        lines += [f"## {_markdown_name(table.title)}", "", _markdown_row(table.columns)]
        lines.append("| " + " | ".join("---:" if numeric else "---" for numeric in table.numeric) + " |")
        lines += [_markdown_row(row) for row in table.rows]
        lines += ["", *(f"- {_markdown_note(note)}" for note in table.notes), *([""] if table.notes else [])]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(map(_markdown_name, cells)) + " |"


def _markdown_name(text: str) -> str:
    """Return text in which nothing is markup: it may be the name of a class."""
    return re.sub(r"[\\`*<\[|]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(text.split()))


def _markdown_note(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def to_csv(tables: list[Table]) -> str:
    """Return all tables as CSV: title, heads, rows, and a line for each note; an empty line between tables.

    Titles and notes are lines of one field; every table has more columns than that. A name that a spreadsheet would
    compute (`=1+1`) has an apostrophe in front.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, table in enumerate(tables):
        if i:
            writer.writerow([])
        notes = [[" ".join(note.split())] for note in table.notes]
        rows = [[table.title], table.columns, *table.rows, *notes]
        writer.writerows([_FORMULA.sub(r"'\g<0>", cell) for cell in row] for row in rows)
    return text.getvalue()


# Terminal


def to_rich(table: Table, width: int) -> list[RichTable]:
    """Return a table for a terminal of `width` columns; a wider one in pieces, which all repeat the columns of words.

    No number is cut off.
    """
    needed = _column_widths(table)
    return [_rich_piece(table, piece, needed, width) for piece in split_columns(table, width - 1)]


def _column_widths(table: Table) -> list[int]:
    """Return how many letters each column needs at least: heads can be broken between words, cells can't.

    Letters such as Japanese ones count twice.
    """
    return [
        max(cell_len(text) for text in (*column.split(), *(row[i] for row in table.rows)))
        for i, column in enumerate(table.columns)
    ]


def split_columns(table: Table, width: int) -> list[list[int]]:
    """Return the numbers of the columns in pieces of `width` letters, counting three between columns.

    Each piece begins with the columns of words.
    """
    words, needed = list(range((*table.numeric, True).index(True))), _column_widths(table)
    pieces = [list(words)]
    for i in range(len(words), len(table.columns)):
        if len(pieces[-1]) > len(words) and sum(needed[j] + 3 for j in (*pieces[-1], i)) > width:
            pieces.append(list(words))
        pieces[-1].append(i)
    return pieces


def _rich_piece(table: Table, piece: list[int], needed: list[int], width: int) -> RichTable:
    """Return some columns of a table. Heads take several lines where that saves room, cells never do."""
    shown = RichTable(title=escape(table.title), title_justify="left", title_style="bold")
    tight = sum(max(needed[i], cell_len(table.columns[i])) + 3 for i in piece) + 1 > width
    for i in piece:
        justify = "right" if table.numeric[i] else "left"
        shown.add_column(escape(table.columns[i]), justify=justify, width=needed[i] if tight else None)  # type: ignore[arg-type]
    for row in table.rows:
        shown.add_row(*(escape(row[i]) for i in piece))
    return shown


# LaTeX

_PDFLATEX = r"\usepackage[utf8]{inputenc}"
_LUALATEX = r"""% Names have letters that pdflatex lacks: compile this with lualatex (Debian: texlive-luatex,
% fonts-lmodern), where the fonts that are named here are installed. Without a font: LETTERS
\usepackage{fontspec}
\directlua{luaotfload.add_fallback("names", {FONTS})}
\setmainfont{Latin Modern Roman}[RawFeature={fallback=names}]"""
_PREAMBLE = r"""\documentclass[a4paper]{article}
ENCODING
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
"""
_LATEX_LETTERS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "–": "--", "−": "$-$", "±": r"$\pm$", "°": r"$^\circ$", "×": r"$\times$", "’": "'",
    "‘": "`", "“": "``", "”": "''", "—": "---", "…": r"\ldots{}",
}  # fmt: skip
_LATEX_LACKS = "«»ÐðÞþĐđĄąĘęĮįŲųŊŋĦħĸĿŀŉŦŧſ"
"""The letters of Latin-1 and Latin Extended-A that pdflatex's standard fonts don't have."""
_FLOAT_WIDTH, _FLOAT_ROWS = 140, 50
"""Letters and rows of a float: as many as fit on a page in readable letters."""
_MINUS = re.compile(r"-(?=\d)")


def to_latex(tables: list[Table]) -> str:
    """Return all tables as a LaTeX document (booktabs), each on a page of its own, to be copied into a paper.

    It is one for pdflatex, or, if names have letters that this lacks, for lualatex with fonts of this machine.
    """
    text = "".join(f"\n{_latex_table(table)}\\clearpage\n" for table in tables)
    others = "".join({letter for letter in text if ord(letter) >= 0x180 or letter in _LATEX_LACKS})
    encoding = _PDFLATEX
    if others:
        families = ", ".join(f'"{font.family}:"' for font in find_fonts(others))
        encoding = _LUALATEX.replace("FONTS", families or '"Latin Modern Roman:"')
        encoding = encoding.replace("LETTERS", " ".join(missing_letters(others)) or "none")
    return _PREAMBLE.replace("ENCODING", encoding) + text + "\n\\end{document}\n"


def _latex_table(table: Table) -> str:
    """Return the floats of a table, several where it is much wider or longer than a page, and its notes.

    Notes follow the floats as a list, which may continue on the next page.
    """
    starts = range(0, max(len(table.rows), 1), _FLOAT_ROWS)
    parts = [(piece, start) for piece in split_columns(table, _FLOAT_WIDTH) for start in starts]
    lines = []
    for number, (piece, start) in enumerate(parts, 1):
        title = f"{table.title} ({number} of {len(parts)})" if len(parts) > 1 else table.title
        lines += _latex_float(title, table, piece, table.rows[start : start + _FLOAT_ROWS])
    notes = [rf"  \item {_latex_text(note)}" for note in table.notes]
    lines += [r"\begin{itemize}\footnotesize\raggedright", *notes, r"\end{itemize}"] if notes else []
    return "\n".join(lines) + "\n"


def _latex_float(title: str, table: Table, piece: list[int], rows: list[list[str]]) -> list[str]:
    """Return some columns and rows of a table, scaled down where they are wider than the text."""
    return [
        r"\begin{table}[!htbp]",
        r"\centering",
        rf"\caption{{{_latex_text(title)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{''.join('r' if table.numeric[i] else 'l' for i in piece)}}}",
        r"\toprule",
        _latex_row(_latex_head(table.columns[i]) for i in piece),
        r"\midrule",
        *(_latex_row(_latex_text(_MINUS.sub("−", row[i])) for i in piece) for row in rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]


def _latex_row(cells: Iterable[str]) -> str:
    """Return a row. An initial [ or * is protected: LaTeX would read it as an argument of the line break above."""
    text = " & ".join(cells)
    return ("{}" if text.startswith(("[", "*")) else "") + text + r" \\"


def _latex_head(text: str) -> str:
    """Return a column's head, on two lines where it has two parts, so that it isn't much wider than its numbers."""
    first, _, rest = text.partition(", ")
    for sign in ("+", "-"):
        if not rest:
            first, separator, second = text.partition(f" {sign} ")
            rest = f"{sign} {second}" if separator else ""
    return rf"\shortstack[r]{{{_latex_text(first)}\\{_latex_text(rest)}}}" if rest else _latex_text(text)


def _latex_text(text: str) -> str:
    """Return text with LaTeX's special letters escaped."""
    return "".join(_LATEX_LETTERS.get(letter, letter) for letter in " ".join(text.split()))
