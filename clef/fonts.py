"""Fonts of this machine that have the letters of a text: names of classes may be in any script.

matplotlib brings DejaVu Sans (Latin, Greek, Cyrillic, Hebrew and more) and knows where a machine keeps its fonts. It is
optional, and imported only for letters beyond ASCII.
"""

import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

DEJAVU = "DejaVu Sans"


class Font(NamedTuple):
    """A font file, the name that matplotlib and TeX know it by, and which of the letters asked for it has."""

    file: Path
    family: str
    letters: frozenset[str]


def find_fonts(text: str) -> tuple[Font, ...]:
    """Return fonts that together have the letters of `text` beyond ASCII, as far as this machine has any.

    DejaVu Sans comes first; then, at each step, the font with most of the letters that are still missing.
    """
    return _find_fonts("".join(sorted(_beyond_ascii(text))))


def missing_letters(text: str) -> str:
    """Return the letters of `text` that no font of this machine has, each once."""
    found = {letter for font in find_fonts(text) for letter in font.letters}
    return "".join(sorted(_beyond_ascii(text) - found))


def remarks(text: str) -> list[str]:
    """Return what to tell a user whose names have letters that no font of this machine has; nothing where all have."""
    missing = missing_letters(text)
    if not missing:
        return []
    shown = f"{' '.join(missing[:8])}{' ...' if len(missing) > 8 else ''} (U+{ord(missing[0]):04X} ...)"
    if find_spec("matplotlib") is None:
        return [f"pictures show boxes for {shown}: matplotlib finds the fonts (pip install 'clef-caer[figures]')"]
    return [
        f"pictures show boxes for {shown}, which no font here has; put one that has them into ~/.local/share/fonts, "
        "such as one of Noto (Debian: fonts-noto-cjk for Chinese, Japanese and Korean, fonts-noto-core for others)"
    ]


def shorten(text: str, fits: Callable[[str], bool]) -> str:
    """Return text without so much of its middle that it `fits`, with three points there instead."""
    kept, shown = len(text), text
    while kept > 2 and not fits(shown):
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
    return shown


def _beyond_ascii(text: str) -> set[str]:
    """Return the letters beyond ASCII that a font must have: no spaces, and none that only steer the others."""
    plain = (letter for letter in text if not letter.isascii() and not letter.isspace())
    return {c for c in plain if unicodedata.category(c) not in ("Cc", "Cf", "Cs") and not "\ufe00" <= c <= "\ufe0f"}


@cache
def _find_fonts(letters: str) -> tuple[Font, ...]:
    if not letters or find_spec("matplotlib") is None:
        return ()
    from matplotlib import font_manager, get_data_path

    def covering(file: str) -> Font | None:
        known = _read(file)
        return Font(Path(file), known.family, frozenset(c for c in letters if ord(c) in known.codes)) if known else None

    first = covering(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf")
    fonts, missing = [first] if first and first.letters else [], set(letters) - (first.letters if first else set())
    others = [font for file in sorted(font_manager.findSystemFonts()) if missing and (font := covering(file))]
    while best := max(others, key=lambda font: len(font.letters & missing), default=None):
        if not best.letters & missing:
            break
        fonts.append(best)
        missing -= best.letters
    return tuple(fonts)


class _FontFile(NamedTuple):
    family: str
    codes: frozenset[int]
    """Code points of its letters."""


@cache  # every name that is drawn asks all fonts
def _read(file: str) -> _FontFile | None:
    """Return what a font file has; None for one that can't be drawn with (a bitmap, or damaged)."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
    except (OSError, RuntimeError):
        return None
    if not font.scalable or font.style_flags:  # bitmaps; bold and italic, beside which there is a regular one
        return None
    return _FontFile(font.family_name, frozenset(font.get_charmap()))
