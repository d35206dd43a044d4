"""The published tables in every format, digit by digit, and what LaTeX makes of them."""

import csv
import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from clef import yaml_config
from clef.config.recipes import title
from clef.results import formats, paper_tables
from clef.results.formats import Table, format_percent, to_latex
from clef.results.frame import Row, SeedValues, to_frame
from clef.results.published import system_title

KNOWN = yaml.safe_load((yaml_config.PACKAGE / "results" / "published.yaml").read_text())
NAMES = {key: title("backbones", key) for key in KNOWN["backbones"]}
PER_CLASS = {"emotic": "emotic_per_category", "caer_s": "caer_s_per_class"}
SUFFIX = {"vanilla": "", "clef": " + CLEF", "ccim": " + CCIM"}


def expected(dataset: str) -> dict[str, set[tuple[str, str, str]]]:
    """Every published number of a dataset as (row, column, digits), by the title's words."""
    metric = KNOWN["metrics"][dataset]
    classes, systems, ablations, methods = (set[tuple[str, str, str]]() for _ in range(4))
    for name, row in KNOWN[PER_CLASS[dataset]].items():
        for backbone, (vanilla, clef) in row.items():
            classes |= {(name, NAMES[backbone], f"{vanilla:.2f}"), (name, f"{NAMES[backbone]} + CLEF", f"{clef:.2f}")}
    for entry in KNOWN["comparisons"].values():
        if entry[dataset] is not None:
            systems.add((entry["name"], "published", f"{entry[dataset]:.2f}"))
    for backbone, entry in KNOWN["backbones"].items():
        for method in SUFFIX.keys() & entry.keys():
            value = f"{entry[method][dataset]:.2f}"
            systems.add((NAMES[backbone] + SUFFIX[method], "published", value))
            methods.add((NAMES[backbone], f"{'vanilla' if method == 'vanilla' else method.upper()}, published", value))
            if method != "ccim":
                classes.add((metric, NAMES[backbone] + SUFFIX[method], value))
        if dataset in entry.get("own", {}):
            systems.add((f"{NAMES[backbone]}, its paper", "published", f"{entry['own'][dataset]:.2f}"))
    for one in KNOWN["reproductions"]:
        for method in ("vanilla", "clef"):
            if one["dataset"] == dataset:
                systems.add((NAMES[one["backbone"]] + SUFFIX[method], "reproduction", f"{one[method]:.2f}"))
    for name, entry in KNOWN["ablations"].items():
        ablations |= {(name, f"{NAMES[key]}, published", f"{value:.2f}") for key, value in entry[dataset].items()}
    return {"of each": classes, "next to": systems, "ablations": ablations, "CCIM against": methods}


def paper() -> list[Table]:
    """What is published alone, in all layouts of the paper."""
    made = []
    for dataset, name in (("emotic", "EMOTIC"), ("caer_s", "CAER-S")):
        further = (paper_tables.systems_table, paper_tables.ablations_table, paper_tables.ccim_table)
        made += [
            of_each_class(dataset, name),
            *(layout(dataset, SeedValues(to_frame(Row)), name) for layout in further),
        ]
    return made


def of_each_class(dataset: str, name: str) -> Table:
    def shown(*cell: str) -> str:
        return format_percent(paper_tables.published_or_class_value(dataset, *cell))

    columns = {(one, method): system_title(one, method) for one in NAMES for method in ("vanilla", "clef")}
    classes = list(KNOWN[PER_CLASS[dataset]])
    return paper_tables.class_table(f"{name}: of each class", KNOWN["metrics"][dataset], classes, columns, shown)


def cells(columns: list[str], rows: list[list[str]]) -> set[tuple[str, str, str]]:
    """The numbers of a table as (row, column, digits), without differences, which nobody published."""
    return {
        (row[0], column, text)
        for row in rows
        for column, text in zip(columns[1:], row[1:], strict=True)
        if re.fullmatch(r"\d+\.\d\d", text)
    }


def from_markdown(text: str) -> list[Table]:
    made = []
    for part in text.split("## ")[1:]:
        lines = [line for line in part.splitlines() if line.startswith("|")]
        columns, _, *rows = ([one.strip() for one in line.strip("|").split("|")] for line in lines)
        made.append(Table(part.splitlines()[0], columns, rows))
    return made


def from_csv(text: str) -> list[Table]:
    parts = [list(csv.reader(io.StringIO(part))) for part in text.split("\n\n")]
    return [
        Table(title[0], columns, [row for row in rows if len(row) > 1], [row[0] for row in rows if len(row) == 1])
        for title, columns, *rows in parts
    ]


def from_latex(text: str) -> list[Table]:
    made = []
    for part in text.split(r"\begin{table}")[1:]:
        plain = part.replace(r"\_", "_").replace(r"\%", "%").replace("--", "–").replace("$-$", "-")
        plain = re.sub(r"\\shortstack\[r\]{(.*?)\\\\(.*?)}", lambda two: _one_line(*two.groups()), plain)
        head, body = re.search(r"\\toprule\n(.*)\\midrule\n(.*)\\bottomrule", plain, re.DOTALL).groups()  # type: ignore[union-attr]
        rows = [line.removesuffix(r" \\").split(" & ") for line in (head + body).strip().splitlines()]
        title = re.search(r"\\caption{(.*)}", plain).group(1)  # type: ignore[union-attr]
        made.append(Table(title, rows[0], rows[1:]))
    return made


def _one_line(first: str, rest: str) -> str:
    return f"{first} {rest}" if rest.startswith("+") else f"{first}, {rest}"


def from_rich(made: list[Table], width: int) -> list[Table]:
    """What a terminal of so many columns shows; the pieces of a table one below the other."""
    found = []
    for table in made:
        columns, rows = [table.columns[0]], [[row[0]] for row in table.rows]
        for piece in formats.to_rich(table, width):
            console = Console(width=width, file=io.StringIO(), no_color=True)
            console.print(piece)
            lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
            assert max(map(len, lines)) <= width
            heads = [line[1:-1].split("┃") for line in lines if line[0] == "┃"]
            columns += [" ".join(" ".join(parts).split()) for parts in zip(*heads, strict=True)][1:]
            body = [[one.strip() for one in line[1:-1].split("│")] for line in lines if line[0] == "│"]
            assert [row[0] for row in body] == [row[0] for row in table.rows]
            rows = [row + more[1:] for row, more in zip(rows, body, strict=True)]
        found.append(Table(" ".join(table.title.split()), columns, rows))
    return found


@pytest.mark.parametrize("form", ["markdown", "csv", "latex", "terminal", "narrow terminal"])
def test_the_published_tables_come_out_digit_by_digit(form: str) -> None:
    made = paper()
    back = {
        "markdown": lambda: from_markdown(formats.to_markdown(made, "published")),
        "csv": lambda: from_csv(formats.to_csv(made)),
        "latex": lambda: from_latex(to_latex(made)),
        "terminal": lambda: from_rich(made, 200),
        "narrow terminal": lambda: from_rich(made, 80),
    }[form]()
    assert [table.title for table in back] == [table.title for table in made]
    assert form != "csv" or [table.notes for table in back] == [table.notes for table in made]
    for dataset, name in (("emotic", "EMOTIC"), ("caer_s", "CAER-S")):
        for words, numbers in expected(dataset).items():
            [table] = [table for table in back if table.title.startswith(name) and words in table.title]
            assert numbers, words
            assert cells(table.columns, table.rows) == numbers, table.title


def test_what_latex_would_take_for_commands_is_text() -> None:
    text = to_latex([Table("50 % & more_of $x$", ["a#b"], [["{1}~^\\"]], ["–±°<|>\nЖ"])])
    assert r"\caption{50 \% \& more\_of \$x\$}" in text
    assert r"a\#b \\" in text
    assert r"\{1\}\textasciitilde{}\textasciicircum{}\textbackslash{} \\" in text
    assert r"\item --$\pm$$^\circ$$<$$|$$>$ Ж" in text


def preamble(name: str) -> str:
    return to_latex([Table(name, ["class"], [["x"]])]).split(r"\begin{document}")[0]


def test_letters_beyond_latin_ask_for_lualatex_and_the_fonts_that_have_them() -> None:
    assert r"\usepackage[utf8]{inputenc}" in preamble("Glück, Überraschung, żal, cœur, ß – ± …")
    for name in ("Радость", "ĘŁ", "«oui»"):
        assert "inputenc" not in preamble(name)
        assert "% Names have letters that pdflatex lacks: compile this with lualatex" in preamble(name)
        assert 'add_fallback("names", {"DejaVu Sans:"})' in preamble(name)
        assert "Without a font: none" in preamble(name)
    assert "Without a font: \U0001f9ff" in preamble("\U0001f9ff")


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        *((name, "'" + name) for name in ("=1+1", "+1+2", "-x", "@sum", "-1+cmd|'/C'!A0", "\t=1", "+", "-1.2 to")),
        *((text, text) for text in ("+5.00", "-5.00°", "+5.00 ± 0.10", "-7.42 to -4.77", "–", "1=1", "a-b", "")),
    ],
)
def test_a_spreadsheet_computes_no_names(cell: str, shown: str) -> None:
    text = formats.to_csv([Table("t", ["class", "a"], [[cell, "1"]])])
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[2] == [shown, "1"]


def test_what_a_terminal_would_take_for_markup_is_text() -> None:
    table = Table("Set [v2] [/b]", ["class", "[bold]x[/bold]"], [["[red]", "1"]])
    assert from_rich([table], 200) == [Table("Set [v2] [/b]", ["class", "[bold]x[/bold]"], [["[red]", "1"]])]
    console = Console(width=200, file=io.StringIO(), no_color=True)
    console.print(formats.to_rich(table, 200)[0])
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Set [v2] [/b]" in shown
    assert "[red]" in shown


def test_what_markdown_would_take_for_a_column_is_text() -> None:
    lines = formats.to_markdown([Table("a | b\nc", ["x|y", "z"], [["1|2", "3"]])], "g").splitlines()
    assert lines[2:7] == ["## a \\| b c", "", "| x\\|y | z |", "| ---: | ---: |", "| 1\\|2 | 3 |"]
    marked = formats.to_markdown([Table("t", ["class", "Y_e"], [[r"*a* _b_ `c` <d> [e] \|", "3"]])], "g").splitlines()
    assert marked[4] == "| class | Y_e |"
    assert marked[6] == r"| \*a\* \_b\_ \`c\` \<d> \[e] \\\| | 3 |"


def test_a_terminal_has_room_for_wide_letters() -> None:
    table = Table("t", ["class", *(f"number {i}" for i in range(6))], [["喜怒哀楽", *["12.34"] * 6]])
    for width in range(30, 100, 7):
        for piece in formats.to_rich(table, width):
            console = Console(width=width, file=io.StringIO(), no_color=True)
            console.print(piece)
            assert "喜怒哀楽" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_table_wider_and_longer_than_a_page_comes_in_floats() -> None:
    rows = [[f"row {i}", *(f"{i}.{j:02}" for j in range(40))] for i in range(60)]
    table = Table("many", ["class", *(f"number {j}" for j in range(40))], rows)
    floats = from_latex(to_latex([table]))
    assert [one.title for one in floats] == [
        f"many ({number} of {len(floats)})" for number in range(1, len(floats) + 1)
    ]
    assert len({tuple(one.columns) for one in floats}) > 1
    assert all(len(one.rows) <= 50 for one in floats)
    found = [one for part in floats for one in cells(part.columns, part.rows)]
    assert len(found) == 60 * 40
    assert set(found) == cells(table.columns, table.rows), "each number once, below its head"


LATIN = " ".join(chr(i) for i in range(0xA1, 0x180) if chr(i) not in formats._LATEX_LACKS)
COMPILER = shutil.which("pdflatex") or shutil.which("tectonic")


@pytest.mark.slow
@pytest.mark.skipif(
    COMPILER is None and os.environ.get("CI") != "true", reason="no TeX here: neither pdflatex nor tectonic"
)
def test_latex_compiles(tmp_path: Path) -> None:
    notes = ["what % & _ $ # ~ ^ \\ { } < > | mean: 1.0 ± 0.2 – 20° × 3 ’", "naïve Schrödinger", LATIN]
    rows = [["[1em]", "0"], ["mine:Net_2", "3"], ["\\x^2", "–"], ["[2] cells", "1"], ["* all", "2"]]
    odd = Table("a_b: 50 % & {more}", ["[backbone]", "seeds"], rows, notes * 60)
    many = Table("many", ["class", *(f"number {i}" for i in range(40))], [["long words", *["12.34 ± 5.67"] * 40]] * 130)
    (tmp_path / "tables.tex").write_text(to_latex([*paper(), odd, many]), encoding="utf-8")
    assert COMPILER, "CI installs TeX"
    command = [COMPILER, *(["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in COMPILER else [])]
    done = subprocess.run([*command, "tables.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "tables.pdf").read_bytes().startswith(b"%PDF")
    assert "Missing character" not in done.stdout
    assert "Float too large" not in done.stdout, "many notes, columns and rows go over more than a page"


def has_lualatex() -> bool:
    find = shutil.which("kpsewhich") and shutil.which("lualatex") and shutil.which("fc-list")
    if not find:
        return False
    packages = subprocess.run(["kpsewhich", "luaotfload.sty", "fontspec.sty"], capture_output=True, text=True)
    return (
        packages.returncode == 0
        and "DejaVuSans.ttf" in subprocess.run(["fc-list"], capture_output=True).stdout.decode()
    )


@pytest.mark.slow
@pytest.mark.skipif(not has_lualatex(), reason="NOT TESTED: no lualatex with luaotfload and fontspec here")
def test_lualatex_compiles_letters_beyond_latin(tmp_path: Path) -> None:
    table = Table("Радость & Ę", ["class"], [["Радость"], ["שמחה_50 %"], ["«oui» Ψ"]])
    (tmp_path / "tables.tex").write_text(to_latex([table]), encoding="utf-8")
    command = ["lualatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "tables.log").read_text(errors="replace")
