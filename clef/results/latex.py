"""Tables as LaTeX. Imports no torch."""

import re
from collections.abc import Iterable

from clef.results.formats import Table, pieces

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
