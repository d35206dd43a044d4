"""The prediction as a picture: each person in the image, and bars of the classes that score highest.

A prediction in numbers: for each person and class what the cell scores, and what that is made of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clef import io, metrics
from clef.config import CellConfig
from clef.cues.view import read
from clef.datasets import Box

if TYPE_CHECKING:
    from clef.methods import Prediction  # needs torch


@dataclass(frozen=True)
class Told:
    """Of one person; every array has K numbers. What a method doesn't have is None."""

    classes: list[str]
    score: np.ndarray
    factual: np.ndarray | None
    """Probabilities, where the method states any."""
    counterfactual: np.ndarray | None
    """Probabilities without the subject."""
    effects: Mapping[str, np.ndarray]
    """TE, NDE and TIE of CLEF."""

    @property
    def order(self) -> list[int]:
        """The classes, the highest score first."""
        return [int(k) for k in np.argsort(-self.score, kind="stable")]


def told(config: CellConfig, classes: list[str], prediction: "Prediction") -> list[Told]:
    """Of each person of a batch."""
    arrays = {"scores": prediction.scores} | prediction.effects
    return of_arrays(config, classes, {name: values.cpu().numpy() for name, values in arrays.items()})


def of_arrays(config: CellConfig, classes: list[str], known: metrics.Arrays) -> list[Told]:
    """Of each person of predictions that are written down: scores, and the effects that the method has, each N,K."""
    factual = metrics.probabilities(config, metrics.factual(known))
    against = metrics.counterfactual(known)
    unseen = None if against is None else metrics.probabilities(config, against)
    parts = metrics.effects(known)
    return [
        Told(
            classes,
            score,
            None if factual is None else factual[row],
            None if unseen is None else unseen[row],
            {name: values[row] for name, values in parts.items()},
        )
        for row, score in enumerate(known["scores"])
    ]


SHOWN = 8
HEIGHT, NAMES, BARS, GAP, LINE, TEXT = 600, 260, 300, 40, 60, 30
"""Pixels: the image, the column of names, a column of bars, and between them; a line, and its letters. A panel as wide
as a page of text has over 300 dots an inch, and letters of 5.5 points and more."""
POSITIVE, NEGATIVE, GREY, FRAME = (0, 114, 178), (213, 94, 0), (110, 110, 110), (240, 228, 66)
"""Okabe and Ito's colours, which the colour-blind can tell apart."""
TIE, SCORE = "TIE", "score"
Column = tuple[str, np.ndarray]


def save(path: Path, image: Path, boxes: Sequence[Box], people: Sequence[Told]) -> None:
    """Write a PNG. `boxes` are in pixels of the image."""
    picture = Image.fromarray(read(image))
    rows = [person(picture, box, told) for box, told in zip(boxes, people, strict=True)]
    canvas = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height
    with io.atomic(path) as file:
        canvas.save(file, "PNG")


def person(
    picture: Image.Image, box: Box, told: Told, truth: Sequence[int] = (), before: Sequence[Column] = ()
) -> Image.Image:
    """One person: the image with the box, and a column of bars for each number.

    `truth`: the person's classes, where they are known; they are all shown, with a mark. `before`: columns of others'
    probabilities, K each, in front of this one's.
    """
    columns, chosen = [*before, *_columns(told)], _chosen(told, truth)
    shown = _boxed(picture, box)
    width = shown.width + 3 * GAP + NAMES + len(columns) * (BARS + GAP)
    row = Image.new("RGB", (width, max(HEIGHT, (len(chosen) + 1) * LINE) + 2 * GAP), "white")
    row.paste(shown, (GAP, GAP))
    draw, left = ImageDraw.Draw(row), shown.width + 2 * GAP
    if truth:
        _mark(draw, left, GAP, "truth")
    for line, k in enumerate(chosen, 1):
        if k in truth:
            _mark(draw, left, GAP + line * LINE, told.classes[k])
        draw.text((left, GAP + line * LINE), told.classes[k], fill="black", font=_font())
    left += NAMES
    for title, values in columns:
        draw.text((left, GAP), title, fill="black", font=_font())
        _bars(draw, left, values[chosen], signed=title in (TIE, SCORE))
        left += BARS + GAP
    return row


def _chosen(told: Told, truth: Sequence[int]) -> list[int]:
    """The classes that score highest, and the true ones, the highest first."""
    room = max(0, SHOWN - sum(k not in told.order[:SHOWN] for k in truth))
    shown = {*told.order[:room], *truth}
    return [k for k in told.order if k in shown]


def _mark(draw: ImageDraw.ImageDraw, left: int, top: int, text: str) -> None:
    """Text on yellow."""
    x1, y1, x2, y2 = draw.textbbox((left, top), text, font=_font())
    draw.rectangle((x1 - 8, y1 - 8, x2 + 8, y2 + 8), fill=FRAME)
    draw.text((left, top), text, fill="black", font=_font())


def _columns(told: Told) -> list[Column]:
    if told.factual is None:
        return [(SCORE, told.score)]
    if told.counterfactual is None:
        return [("probability", told.factual)]
    return [("factual", told.factual), ("counterfactual", told.counterfactual), (TIE, told.effects[TIE])]


def _bars(draw: ImageDraw.ImageDraw, left: int, values: np.ndarray, signed: bool) -> None:
    """From a common zero. Signed ones are as long as the largest allows, others are parts of 1."""
    low, high = (min(0.0, float(values.min())), max(0.0, float(values.max()))) if signed else (0.0, 1.0)
    scale = (BARS - 100) / ((high - low) or 1)
    zero = left + round(-low * scale)
    for line, value in enumerate(values.tolist(), 1):
        top, end = GAP + line * LINE, zero + round(value * scale)
        colour = (POSITIVE if value >= 0 else NEGATIVE) if signed else GREY
        draw.rectangle((min(zero, end), top + 4, max(zero, end), top + LINE - 20), fill=colour)
        draw.text((max(zero, end) + 10, top), f"{value:.2f}", fill="black", font=_font())
    draw.line((zero, GAP + LINE, zero, GAP + (len(values) + 1) * LINE - 16), fill="black", width=2)


def _boxed(picture: Image.Image, box: Box) -> Image.Image:
    """The image at the panel's height, its subject in a frame."""
    scale = HEIGHT / picture.height
    shown = picture.resize((max(1, round(picture.width * scale)), HEIGHT), Image.Resampling.LANCZOS)
    corners = [round(value * scale) for value in box]
    draw = ImageDraw.Draw(shown)
    for width, colour in ((10, (0, 0, 0)), (6, FRAME)):
        draw.rectangle(corners, outline=colour, width=width)
    return shown


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT)
