"""A table, and its forms: terminal, Markdown, CSV and LaTeX. Imports no torch."""

import csv
import io
from dataclasses import dataclass, field

from rich.table import Table as RichTable

DASH = "–"
_TEXT = ("backbone", "method", "split", "system", "class", "setting", "verdict")
"""Columns of words; all others hold numbers."""
_LATEX_HEAD = r"""\documentclass[a4paper]{article}
\usepackage[utf8]{inputenc}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
"""
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "–": "--", "−": "$-$", "±": r"$\pm$", "°": r"$^\circ$", "×": r"$\times$", "’": "'",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A title, column heads, rows of text, and notes below."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

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


def to_markdown(made: list[Table], grid: str) -> str:
    """All tables as one Markdown page."""
    lines = [f"# Results of the grid `{grid}`", ""]
    for table in made:
        lines += [f"## {table.title}", "", "| " + " | ".join(table.columns) + " |"]
        lines.append("| " + " | ".join("---:" if numeric else "---" for numeric in table.numeric) + " |")
        lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in table.rows]
        lines += ["", *(f"- {_cell(note)}" for note in table.notes), *([""] if table.notes else [])]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def to_csv(made: list[Table]) -> str:
    """All tables as CSV: a title line, heads, rows, and an empty line between tables."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, table in enumerate(made):
        writer.writerows([[]] if i else [])
        writer.writerows([[table.title], table.columns, *table.rows])
    return text.getvalue()


def to_latex(made: list[Table]) -> str:
    """All tables as a LaTeX document, each with booktabs' rules and on a page of its own, to be copied into a paper."""
    return _LATEX_HEAD + "".join(f"\n{_latex_table(table)}\\clearpage\n" for table in made) + "\n\\end{document}\n"


def _latex_table(table: Table) -> str:
    """A float, made narrower where it is wider than the text; notes below it."""
    rows = [" & ".join(map(_latex, row)) + r" \\" for row in table.rows]
    notes = [rf"  \item {_latex(note)}" for note in table.notes]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{_latex(table.title)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{''.join('r' if numeric else 'l' for numeric in table.numeric)}}}",
        r"\toprule",
        " & ".join(map(_latex, table.columns)) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
        *([r"\begin{itemize}\footnotesize\raggedright", *notes, r"\end{itemize}"] if notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex(text: str) -> str:
    """Text as LaTeX sets it; what is beyond Latin letters and has no name above becomes a question mark."""
    return "".join(_LATEX.get(letter, letter if ord(letter) < 0x180 else "?") for letter in " ".join(text.split()))


def to_rich(table: Table) -> RichTable:
    """A table for the terminal."""
    made = RichTable(title=table.title, title_justify="left", title_style="bold")
    for column, numeric in zip(table.columns, table.numeric, strict=True):
        made.add_column(column, justify="right" if numeric else "left", no_wrap=not numeric)
    for row in table.rows:
        made.add_row(*row)
    return made
