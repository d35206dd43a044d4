"""Pictures of pixels, for print (PDF) and for the page (smaller). Same picture, same bytes. Needs no matplotlib."""

import io

from PIL import Image

PAGE_WIDTH = 7.0
"""Inches: the width of the text on a printed page. At this width letters in figures have 7 points or more, small
numbers 5.5."""
_COLORS = 128


def shrink(png: bytes, scale: float) -> bytes:
    """Return a PNG at `scale` times its width and height, with few colors."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    size = round(picture.width * scale), round(picture.height * scale)
    smaller = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    smaller.quantize(_COLORS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def to_pdf(png: bytes) -> bytes:
    """Return a PDF of one page as large as the picture at a width of `PAGE_WIDTH`. It has no date: same bytes."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    undated = {"creationDate": None, "modDate": None}
    buffer = io.BytesIO()
    picture.save(buffer, "PDF", resolution=picture.width / PAGE_WIDTH, quality=95, subsampling=0, **undated)
    return buffer.getvalue()
