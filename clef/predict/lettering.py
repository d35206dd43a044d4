"""Text in pictures, in any script: each stretch of letters in a font that has them."""

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from PIL import ImageDraw, ImageFont

from clef import fonts

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Place = tuple[int, int]
"""The left and the top of a text, in pixels."""
INK = "black"


def draw_text(draw: ImageDraw.ImageDraw, place: Place, text: str, size: int) -> None:
    """Draw one line of text with letters of `size` pixels."""
    for x, y, stretch, font in _stretches(place, text, size):
        draw.text((x, y), stretch, fill=INK, font=font, anchor="ls")


def draw_marked_text(
    draw: ImageDraw.ImageDraw, place: Place, text: str, size: int, color: tuple[int, int, int]
) -> None:
    """Draw one line of text on a ground of this color."""
    boxes = [draw.textbbox((x, y), part, font=font, anchor="ls") for x, y, part, font in _stretches(place, text, size)]
    left, top, right, bottom = zip(*boxes, strict=True)
    draw.rectangle((min(left) - 8, min(top) - 8, max(right) + 8, max(bottom) + 8), fill=color)
    draw_text(draw, place, text, size)


def text_width(text: str, size: int) -> float:
    """Return how many pixels wide a line of text is."""
    return sum(font.getlength(part) for _, _, part, font in _stretches((0, 0), text, size))


def shorten(text: str, size: int, width: float) -> str:
    """Return text that is at most `width` pixels wide: without its middle, where it is wider."""
    return fonts.shorten(text, lambda shown: text_width(shown, size) <= width)


def _stretches(place: Place, text: str, size: int) -> Iterator[tuple[float, int, str, Font]]:
    """Yield each stretch of letters in one font, with its left and its base line."""
    x, y = float(place[0]), place[1] + _load(None, size).getmetrics()[0]
    found = fonts.find_fonts(text)
    files = [next((font.file for font in found if letter in font.letters), None) for letter in text]
    for i in range(1, len(text) - 1):
        if text[i] == " " and files[i - 1] == files[i + 1]:  # words of one script are set as one line
            files[i] = files[i - 1]
    for file, letters in groupby(zip(files, text, strict=True), key=itemgetter(0)):
        stretch, font = "".join(letter for _, letter in letters), _load(file, size)
        yield x, y, stretch, font
        x += font.getlength(stretch)


@cache
def _load(file: Path | None, size: int) -> ImageFont.FreeTypeFont:
    """Return a font; None: Pillow's own, which has little more than ASCII."""
    font = ImageFont.truetype(file, size) if file else ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
