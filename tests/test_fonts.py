"""Names in any script: which fonts have their letters, and what pictures show of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from clef import fonts
from clef.predict.lettering import shorten, text_width
from clef.predict.panel import BARS, GAP, NAMES, TEXT, PersonPrediction, draw_person
from clef.results.figures.style import class_ticks, render, style

LONG = "a name of a class that never seems to come to its end"


def make_font(path: Path, family: str, letters: str) -> Path:
    """Write a font with these letters: bars, each higher than the one before."""
    names = [".notdef", *(f"u{ord(letter):04X}" for letter in letters)]
    glyphs = {}
    for i, name in enumerate(names):
        pen = TTGlyphPen(None)
        for n, (x, y) in enumerate([(100, 0), (100, 200 + 300 * i), (800, 200 + 300 * i), (800, 0)]):
            (pen.lineTo if n else pen.moveTo)((x, y))
        pen.closePath()
        glyphs[name] = pen.glyph()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names[1:], strict=True)})
    font.setupGlyf(glyphs)
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": family, "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The fonts of this machine besides DejaVu Sans: two, until a test removes them."""
    made = {"One": "喜", "Two": "喜怒"}
    files = [str(make_font(tmp_path / f"{name}.ttf", name, letters)) for name, letters in made.items()]
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    files.append(str(broken))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: files)
    known = list(font_manager.fontManager.ttflist)
    fonts._find_fonts.cache_clear()
    fonts._read.cache_clear()
    yield files
    fonts._find_fonts.cache_clear()
    font_manager.fontManager.ttflist[:] = known


def test_dejavu_comes_first_then_the_font_with_most_of_the_rest(installed: list[str]) -> None:
    assert fonts.find_fonts("plain") == ()
    assert [font.family for font in fonts.find_fonts("Glück, Радость")] == ["DejaVu Sans"]
    assert [font.family for font in fonts.find_fonts("Glück 喜怒")] == ["DejaVu Sans", "Two"]
    assert fonts.missing_letters("Glück 喜怒哀\u200d\ufe0f") == "哀", "what only steers other letters needs no font"


def test_each_font_is_read_once_however_many_names_there_are(installed: list[str]) -> None:
    for name in ("喜", "怒", "喜怒", "哀", "Радость 喜"):
        fonts.find_fonts(name)
    assert fonts._read.cache_info().misses == 1 + len(installed)


def test_letters_that_no_font_has_are_named_with_what_to_install(installed: list[str]) -> None:
    assert fonts.remarks("plain Радость 喜怒") == []
    [remark] = fonts.remarks("哀")
    assert "boxes for 哀 (U+54C0 ...)" in remark
    assert "fonts-noto-cjk" in remark


def test_without_matplotlib_the_remark_says_so(installed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "find_spec", lambda name: None)
    assert fonts.find_fonts("Glück") == ()
    assert fonts.remarks("Glück") == [
        "pictures show boxes for ü (U+00FC ...): matplotlib finds the fonts (pip install 'clef-caer[figures]')"
    ]


def prediction(*classes: str) -> PersonPrediction:
    zeros = np.zeros(len(classes), np.float32)
    return PersonPrediction(list(classes), zeros, zeros, None, {})


def panel_of(name: str) -> Image.Image:
    return draw_person(Image.new("RGB", (60, 60)), (10, 10, 50, 50), prediction(name), truth=[0])


@pytest.mark.parametrize(("one", "other"), [("ä", "ö"), ("Ж", "Ш"), ("喜", "怒"), ("a 喜 b", "a 怒 b")])
def test_a_panel_shows_letters_not_boxes(one: str, other: str, installed: list[str]) -> None:
    assert panel_of(one).tobytes() != panel_of(other).tobytes()
    del installed[:]
    fonts._find_fonts.cache_clear()
    boxes = [panel_of(name).tobytes() for name in (one, other)]
    assert (boxes[0] == boxes[1]) == ("喜" in one), "only DejaVu Sans is left"


@pytest.mark.parametrize("name", ["short", LONG, 9 * "喜怒", 30 * "ש"])
def test_names_end_before_the_bars(name: str, installed: list[str]) -> None:
    panel = np.asarray(panel_of(name))
    bars = panel.shape[1] - GAP - (BARS + GAP)
    assert (panel[:, bars - 5 : bars] == 255).all()


def test_a_name_that_is_too_long_loses_its_middle() -> None:
    shown = shorten(LONG, TEXT, NAMES)
    assert text_width(shown, TEXT) <= NAMES
    first, last = shown.split("...")
    assert LONG.startswith(first)
    assert LONG.endswith(last)
    assert shorten("short", TEXT, NAMES) == "short"


def drawn(text: str) -> bytes:
    with style(text):
        figure = Figure(figsize=(2, 1))
        figure.text(0.2, 0.5, text)
        return render(figure, "png")


def test_a_figure_shows_letters_not_boxes(installed: list[str]) -> None:
    assert drawn("Ж 喜") != drawn("Ж 怒")
    del installed[:]
    fonts._find_fonts.cache_clear()
    assert drawn("Ж 喜") == drawn("Ж 怒")


def test_dollars_in_a_figure_are_dollars() -> None:
    assert drawn(r"$\nothing$")


def test_names_at_an_axis_are_turned_where_they_have_no_room_side_by_side() -> None:
    seven = ["Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]
    assert class_ticks(seven) == (seven, False)
    assert class_ticks(["x"] * 10) == (["x"] * 10, True)
    assert class_ticks([*seven, LONG]) == ([*seven, "a name of a ... to its end"], True)
    assert class_ticks([*seven[:6], 8 * "喜"])[1], "these letters are twice as wide"
