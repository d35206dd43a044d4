"""Pictures of pixels, for print: as a PDF, and smaller for a page. Same picture, same bytes. Imports no torch."""

import io

from PIL import Image

COLOURS = 128
WIDTH = 7.0
"""Inches in print: the text of a page. In figures, letters have 7 points and more at this width, small numbers 5.5."""


def for_a_screen(png: bytes, share: float) -> bytes:
    """As PNG, at a share of its width and height, and of few colours."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    size = round(picture.width * share), round(picture.height * share)
    smaller = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    smaller.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def pdf(png: bytes) -> bytes:
    """One page, as large as the picture, which is `WIDTH` wide. Without a date, which would change the bytes."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    undated = {"creationDate": None, "modDate": None}
    buffer = io.BytesIO()
    picture.save(buffer, "PDF", resolution=picture.width / WIDTH, quality=95, subsampling=0, **undated)
    return buffer.getvalue()
