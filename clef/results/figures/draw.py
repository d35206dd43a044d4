"""Which figures a grid has, and their files."""

import json
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from clef import io
from clef.console import Progress
from clef.datasets.cards import Card
from clef.demo import STRENGTH
from clef.results import published
from clef.results.figures import classes, curves
from clef.results.figures.style import FEW, for_a_screen, style, written
from clef.results.frame import Gathered, parts_of
from clef.results.page import Image

FOLDER = "figures"
SHOWN = 122
"""Pixels on a page for an inch in print."""
ON_SCREEN = 0.6
"""The part of a print's dots that a page shows."""
FORMS = ("png", "pdf")
Kind = tuple[str, str, Figure]
"""What a figure of a dataset shows, in the file's name; the caption; the figure."""
CALLED = {"name", "title", "source"}
"""Of a card: what it and its folder are called."""
Named = tuple[str, str, str, Figure]
"""The dataset as tables call it ("" for several), the file's name without an ending, the caption, the figure."""


def draw(folder: Path, gathered: Gathered, progress: Progress = lambda name, done, total: None) -> list[Image]:
    """Write all figures of a grid into `folder`/figures, each as PNG and PDF, and remove those of an earlier time.

    Returns them for the page.
    """
    made: list[Image] = []
    with style():
        figures = list(_figures(gathered))
        for about, name, caption, figure in figures:
            forms = {form: written(figure, form) for form in FORMS}
            for form, content in forms.items():
                io.write(folder / FOLDER / f"{name}.{form}", content, durable=False)
            small, width = for_a_screen(forms["png"], ON_SCREEN), round(SHOWN * figure.get_figwidth())
            made.append(Image(about, name, caption, small, width))
            progress("figures drawn", len(made), len(figures))
    known = {f"{one.name}.{form}" for one in made for form in FORMS}
    for path in [path for form in FORMS for path in (folder / FOLDER).glob(f"*.{form}") if path.name not in known]:
        path.unlink()
    return made


def _figures(gathered: Gathered) -> Iterator[Named]:
    """Whatever there are numbers for."""
    parts = parts_of(gathered)
    for sets in _families([(part, card) for part, card, _ in parts if part.rows]):
        card = sets[0][2]
        caption = (
            f"{card.metric} over the strength of the context bias, on the test that has the bias of train and on the "
            "one that has none. Mean and standard deviation over seeds."
        )
        yield "", f"{min((one.name for *_, one in sets), key=len)}-strength", caption, curves.over_strength(sets)
    for part, card, title in parts:
        for kind, caption, figure in (*_of_classes(part, card), *_of_methods(part, card)):
            yield title, f"{card.folder}-{kind}", caption, figure


def _of_classes(part: Gathered, card: Card) -> Iterator[Kind]:
    """Of one dataset and protocol: how well each class is told, what it is taken for, and how surely."""
    split = card.test_splits[0]
    of_class = f"{card.class_metric} of each class on {split}, percent"
    if figure := classes.bars(part, card, split):
        yield "classes", f"{of_class}. Mean and standard deviation over seeds.", figure
    if figure := classes.heat_map(part, card, split):
        yield "heat", f"{of_class}, and at the right {card.metric}. Means over seeds.", figure
    if figure := classes.matrices(part, card, split):
        caption = f"What share of each class was taken for which on {split}, percent. Means over seeds."
        yield "confusion", caption + _how_many(part), figure
    if figure := classes.diagrams(part, split):
        caption = (
            f"How often what was stated with a probability came true on {split}, in bins over all seeds that hold at "
            f"least {classes.FEWEST}; the larger a mark, the more it holds. On the dotted line both are equal. Of "
            "CLEF it is the factual prediction."
        )
        yield "reliability", caption + _how_many(part), figure


def _of_methods(part: Gathered, card: Card) -> Iterator[Kind]:
    """Of one dataset and protocol: the headline of each method, on both tests, and in training."""
    if figure := curves.against_shift(part, card):
        caption = (
            f"{card.metric} on the test without the bias of train, against the one with it. Large marks: means over "
            "seeds; small ones: each seed. On the dotted line both are equal."
        )
        yield "shift", caption, figure
    for backbone, figure in curves.curves(part, card):
        of = f"{published.title(backbone)}: " if backbone else ""
        caption = (
            f"{of}{card.metric} on val after each epoch. Mean over seeds, from the lowest to the highest, as far as "
            "all of them have come; beyond that each by itself, thin."
        )
        yield f"learning-{backbone}".removesuffix("-"), caption, figure


def _how_many(part: Gathered) -> str:
    count = len(part.methods)
    return f" {FEW} of {count} methods." if count > FEW else ""


def _families(parts: list[tuple[Gathered, Card]]) -> Iterator[list[curves.Set]]:
    """Demo sets whose cards differ in the strength of their bias alone, the weakest first; of equal ones the first."""
    found: dict[str, dict[float, curves.Set]] = {}
    for part, card in parts:
        if card.generator is not None:
            content = card.model_dump(mode="json", exclude=CALLED)
            strength = float(content["generator_options"].pop("strength", STRENGTH))
            found.setdefault(json.dumps(content, sort_keys=True), {}).setdefault(strength, (strength, part, card))
    for sets in found.values():
        if len(sets) > 1:
            yield [sets[strength] for strength in sorted(sets)]
