"""The page of a grid: that it holds tables and figures, needs nothing else, and that a browser shows and sorts it."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from clef.cells.audits import AuditRow
from clef.results import gather as pictures
from clef.results import page
from clef.results.collect import gather
from clef.results.gather import write_tables
from tests.results.factories import Grid, result, write_audit

CLICK = (
    """<script>document.querySelectorAll("#set1 table")[0].querySelectorAll("th button")[{column}].click();</script>"""
)


@pytest.fixture
def audited(grid: Grid) -> Grid:
    """Three methods whose order by name, by number, and as numbers' text differs, one failed cell, an audit."""
    for method, value in (("vanilla", 9.5), ("clef", 27.0), ("ccim", 100.0)):
        grid.add(
            "emotic_demo", "emot_net", method, 0, result(value, dirty=True, run={"checkpoint": {"sha256": method}})
        )
    grid.add("emotic_demo", "caer_net", "clef", 0, None, state="non-finite loss <b>at step 3</b>")
    rows = [AuditRow(f"{name}.score", "test", None, 12.25, 100) for name in ("value", "subject_only", "swap.all.value")]
    write_audit(grid.out / "g/emotic_demo-emot_net-clef-s0", "clef", rows)
    return grid


def column(text: str, number: int) -> list[str]:
    """The cells of a column of the first table."""
    body = text.split("<tbody>")[1].split("</tbody>")[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row)[number] for row in body.split("<tr>")[1:]]


@pytest.mark.slow
def test_a_browser_shows_tables_and_figures_and_sorts(
    audited: Grid, tmp_path: Path, browser: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    pictures.publish_page(tmp_path, gather(audited.plan()))
    text = (tmp_path / "report.html").read_text()
    assert column(text, 3) == ["9.50", "27.00", "100.00", "–"]
    orders = {
        (3,): ["100.00", "27.00", "9.50", "–"],
        (3, 3): ["9.50", "27.00", "100.00", "–"],
        (1,): ["100.00", "27.00", "–", "9.50"],
    }
    for columns, order in orders.items():
        clicked = tmp_path / "clicked.html"
        clicks = "".join(CLICK.format(column=number) for number in columns)
        clicked.write_text(text.replace("</body>", f"{clicks}</body>"))
        done = browser(clicked, "--dump-dom")
        assert "CONSOLE" not in done.stderr
        assert column(done.stdout, 3) == order, columns
        assert done.stdout.count('aria-sort="') == 1
    assert done.stdout.count("<img") == len(list((tmp_path / "figures").glob("*.png"))) >= 1


def test_it_holds_what_the_tables_hold_and_what_they_warn_of(audited: Grid, tmp_path: Path) -> None:
    gathered = gather(audited.plan())
    text = page.render(gathered, [], [], ["a remark"])
    for table in write_tables(tmp_path, gathered):
        assert f"<h3>{table.title}</h3>" in text
    assert "EMOTIC demo: the audit on test, mAP, percent" in text
    assert '<td class="n">12.2</td>' in text
    assert '<p class="note">EMOTIC demo: some code was edited and not committed</p>' in text
    assert "non-finite loss &lt;b&gt;at step 3&lt;/b&gt;" in text
    assert "3 of 4 cells have numbers" in text
    assert "a remark" in text


def test_it_loads_nothing(audited: Grid) -> None:
    text = page.render(gather(audited.plan()), [page.Image("EMOTIC demo", "a", "words", b"\x89PNG")], [], [])
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    assert "default-src 'none'" in text
