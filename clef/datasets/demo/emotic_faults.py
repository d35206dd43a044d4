"""What is wrong with the EMOTIC-like set, on purpose: each fault is one that copies of the real set have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from math import nan
from pathlib import Path

import numpy as np
from PIL import Image

from clef.datasets.demo.emotic_mat import Annotation, ImageEntry
from clef.datasets.demo.emotic_picture import Picture

IMAGE_FAULTS = ("truncated", "missing", "png", "png", "grey", "grey", "cmyk", "cmyk")
PERSON_FAULTS = ("empty_box", "tiny_box", "twice", "twice", "no_vad", "no_vad", "no_vad")
ALIASES = {
    "Disquietment": "Disquitement",
    "Disconnection": "Disconnect",
    "Doubt/Confusion": "Doubt Confusion",
}
ALIASED = 0.2
"""How often a category of train or val that has another spelling is written so."""


def spoil(pictures: Sequence[Picture], rng: np.random.Generator) -> list[Picture]:
    """Give each fault a picture of its own."""
    spoiled = list(pictures)
    faults = IMAGE_FAULTS + PERSON_FAULTS
    for i, fault in zip(rng.permutation(len(spoiled))[: len(faults)], faults, strict=True):
        spoiled[i] = _with(spoiled[i], fault)
    return spoiled


def respell(annotation: Annotation, rng: np.random.Generator) -> Annotation:
    """Write some categories in the other spelling that circulates."""
    names = [ALIASES.get(c, c) if rng.random() < ALIASED else c for c in annotation.categories]
    return replace(annotation, categories=tuple(names))


def _with(picture: Picture, fault: str) -> Picture:
    (width, height), (first, *rest) = picture.size, picture.entry.people
    x, y = first.box[:2]
    if fault == "twice":
        rest = [*rest, first]
    if fault == "no_vad":
        first = replace(first, vad=(nan, nan, nan))
    if fault == "empty_box":
        first = replace(first, box=(width + 4.0, y, width + 30.0, height + 0.0))
    if fault == "tiny_box":
        first = replace(first, box=(x, y, x + 8, y + 9))
    entry: ImageEntry = replace(picture.entry, people=(first, *rest))
    return replace(picture, entry=entry, fault=fault)


def save(image: Image.Image, path: Path, fault: str) -> None:
    """Write an image as its fault has it; with none, or a person's, as a plain JPEG."""
    if fault == "missing":
        return
    modes = {"grey": "L", "cmyk": "CMYK"}
    encoded = BytesIO()
    image.convert(modes.get(fault, "RGB")).save(encoded, "PNG" if fault == "png" else "JPEG", quality=92)
    content = encoded.getvalue()
    path.write_bytes(content[: len(content) // 2] if fault == "truncated" else content)
