"""The prediction for each person: in numbers (`PersonPrediction`), and as a picture (`draw_person`, `save_panel`).

A picture shows the image with the person's box, and bars of the classes that score highest. K is the number of classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from clef import io, metrics
from clef.config import CellConfig
from clef.cues.view import read_image
from clef.geometry import Box
from clef.predict.lettering import draw_marked_text, draw_text, shorten, text_width

if TYPE_CHECKING:
    from clef.methods import Prediction  # needs torch


@dataclass(frozen=True)
class PersonPrediction:
    """The prediction for one person. Every array has K numbers; what the method does not have is None."""

    classes: list[str]
    score: np.ndarray
    factual: np.ndarray | None
    """Probabilities of the factual prediction, where the method states probabilities."""
    counterfactual: np.ndarray | None
    """Probabilities of the prediction without the subject."""
    effects: Mapping[str, np.ndarray]
    """TE, NDE and TIE of CLEF; empty for another method."""

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """Return the score and, of CLEF, its other effects, by name."""
        return {"score": self.score} | {name: self.effects[name] for name in ("TE", "NDE") if name in self.effects}

    @property
    def probabilities(self) -> dict[str, np.ndarray]:
        """Return the probabilities that the method states, by name."""
        if self.factual is None:
            return {}
        if self.counterfactual is None:
            return {"probability": self.factual}
        return {"factual": self.factual, "counterfactual": self.counterfactual}

    @property
    def order(self) -> list[int]:
        """Return the class numbers, the highest score first."""
        return [int(k) for k in np.argsort(-self.score, kind="stable")]


def person_predictions(config: CellConfig, classes: list[str], prediction: "Prediction") -> list[PersonPrediction]:
    """Return the prediction for each person of a batch."""
    tensors = {"scores": prediction.scores} | prediction.effects
    return predictions_from_arrays(config, classes, {name: values.cpu().numpy() for name, values in tensors.items()})


def predictions_from_arrays(config: CellConfig, classes: list[str], arrays: metrics.Arrays) -> list[PersonPrediction]:
    """Return the prediction for each of N people from stored arrays: scores and the method's effects, each N,K."""
    factual = metrics.probabilities(config, metrics.stated_logits(arrays))
    logits = metrics.counterfactual(arrays)
    counterfactual = None if logits is None else metrics.probabilities(config, logits)
    effects = metrics.effects(arrays)
    return [
        PersonPrediction(
            classes,
            score,
            None if factual is None else factual[row],
            None if counterfactual is None else counterfactual[row],
            {name: values[row] for name, values in effects.items()},
        )
        for row, score in enumerate(arrays["scores"])
    ]


MAX_CLASSES = 8
HEIGHT, NAMES, BARS, GAP, LINE, TEXT = 600, 260, 300, 40, 60, 30
"""Pixels: the image's height, the width of the column of names (twice that at most, for long ones) and of a column of
bars, the gap between them; a line's height and its letters'. A panel as wide as a page of text has over 300 dots an
inch, and letters of 5.5 points or more.
"""
POSITIVE, NEGATIVE, GRAY, FRAME = (0, 114, 178), (213, 94, 0), (110, 110, 110), (240, 228, 66)
"""Okabe and Ito's colours, which colour-blind people can tell apart."""
TIE, SCORE = "TIE", "score"
Column = tuple[str, np.ndarray]
"""A title, and K numbers."""


def save_panel(path: Path, image: Path, boxes: Sequence[Box], predictions: Sequence[PersonPrediction]) -> None:
    """Write a PNG with a row for each person. `boxes` are in pixels of the image."""
    picture = Image.fromarray(read_image(image))
    rows = [draw_person(picture, box, prediction) for box, prediction in zip(boxes, predictions, strict=True)]
    canvas = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height
    with io.atomic(path) as file:
        canvas.save(file, "PNG")


def draw_person(
    picture: Image.Image,
    box: Box,
    prediction: PersonPrediction,
    truth: Sequence[int] = (),
    before: Sequence[Column] = (),
) -> Image.Image:
    """Draw one person: the image with the box, and a column of bars for each kind of number.

    `truth`: the person's true classes, where they are known; all of them are shown, and marked. `before`: columns that
    are drawn in front, such as another method's probabilities.
    """
    columns, chosen = [*before, *_columns(prediction)], _select_classes(prediction, truth)
    framed = _draw_boxed_image(picture, box)
    shown = {k: shorten(prediction.classes[k], TEXT, 2 * NAMES) for k in chosen}
    names = max(NAMES, GAP // 2 + round(max(text_width(name, TEXT) for name in shown.values())))
    width = framed.width + 3 * GAP + names + len(columns) * (BARS + GAP)
    row = Image.new("RGB", (width, max(HEIGHT, (len(chosen) + 1) * LINE) + 2 * GAP), "white")
    row.paste(framed, (GAP, GAP))
    draw, left = ImageDraw.Draw(row), framed.width + 2 * GAP
    if truth:
        draw_marked_text(draw, (left, GAP), "truth", TEXT, FRAME)
    for line, k in enumerate(chosen, 1):
        place = left, GAP + line * LINE
        if k in truth:
            draw_marked_text(draw, place, shown[k], TEXT, FRAME)
        else:
            draw_text(draw, place, shown[k], TEXT)
    left += names
    for title, values in columns:
        draw_text(draw, (left, GAP), title, TEXT)
        _draw_bars(draw, left, values[chosen], signed=title in (TIE, SCORE))
        left += BARS + GAP
    return row


def _select_classes(prediction: PersonPrediction, truth: Sequence[int]) -> list[int]:
    """Return the classes that score highest and the true ones, `MAX_CLASSES` or more, the highest score first."""
    room = max(0, MAX_CLASSES - sum(k not in prediction.order[:MAX_CLASSES] for k in truth))
    selected = {*prediction.order[:room], *truth}
    return [k for k in prediction.order if k in selected]


def _columns(prediction: PersonPrediction) -> list[Column]:
    columns = list(prediction.probabilities.items()) or [(SCORE, prediction.score)]
    return columns if prediction.counterfactual is None else [*columns, (TIE, prediction.effects[TIE])]


def _draw_boxed_image(picture: Image.Image, box: Box) -> Image.Image:
    """Return the image at the panel's height, with a frame around the person's box."""
    scale = HEIGHT / picture.height
    resized = picture.resize((max(1, round(picture.width * scale)), HEIGHT), Image.Resampling.LANCZOS)
    corners = [round(value * scale) for value in box]
    draw = ImageDraw.Draw(resized)
    for width, color in ((10, (0, 0, 0)), (6, FRAME)):
        draw.rectangle(corners, outline=color, width=width)
    return resized


def _draw_bars(draw: ImageDraw.ImageDraw, left: int, values: np.ndarray, signed: bool) -> None:
    """Draw a bar for each value from a common zero; signed values are scaled to the column, others are shares of 1."""
    low, high = (min(0.0, float(values.min())), max(0.0, float(values.max()))) if signed else (0.0, 1.0)
    scale = (BARS - 100) / ((high - low) or 1)
    zero = left + round(-low * scale)
    for line, value in enumerate(values.tolist(), 1):
        top, end = GAP + line * LINE, zero + round(value * scale)
        color = (POSITIVE if value >= 0 else NEGATIVE) if signed else GRAY
        draw.rectangle((min(zero, end), top + 4, max(zero, end), top + LINE - 20), fill=color)
        draw_text(draw, (max(zero, end) + 10, top), f"{value:.2f}", TEXT)
    draw.line((zero, GAP + LINE, zero, GAP + (len(values) + 1) * LINE - 16), fill="black", width=2)
