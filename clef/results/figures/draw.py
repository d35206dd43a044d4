"""Which figures a grid has, and their files."""

import json
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from clef import io
from clef.console import Progress
from clef.datasets.cards import Card
from clef.demo import STRENGTH
from clef.results.figures import classes, curves
from clef.results.figures.curves import DemoSet
from clef.results.figures.raster import shrink
from clef.results.figures.style import MAX_METHODS, render, style
from clef.results.frame import GridResults, parts_of
from clef.results.page import Image
from clef.results.published import backbone_title

FOLDER, INDEX = "figures", "figures.txt"
FORMS = ("png", "pdf")
PIXELS_PER_INCH = 122
"""Of a figure on the page."""
PAGE_SCALE = 0.6
"""The resolution of a figure on the page, relative to its file."""
CardFigure = tuple[str, str, Figure]
"""What a figure of a dataset shows, as its file's name says; the caption; the figure."""
NamedFigure = tuple[str, str, str, Figure]
"""The dataset as tables call it ("" for several), the file's name without an ending, the caption, the figure."""
_NAMES_OF_CARD = {"name", "title", "source"}
"""The parts of a card that only name it."""


def draw_figures(
    folder: Path, gathered: GridResults, progress: Progress = lambda name, done, total: None
) -> list[Image]:
    """Write all figures of a grid into `folder`/figures, as PNG and PDF, and remove earlier ones that it lists there.

    Returns them for the page.
    """
    images: list[Image] = []
    with style(gathered.names):
        figures = list(_figures(gathered))
        for about, name, caption, figure in figures:
            rendered = {form: render(figure, form) for form in FORMS}
            for form, content in rendered.items():
                io.write(folder / FOLDER / f"{name}.{form}", content, durable=False)
            width = round(PIXELS_PER_INCH * figure.get_figwidth())
            images.append(Image(about, name, caption, shrink(rendered["png"], PAGE_SCALE), width))
            progress("figures drawn", len(images), len(figures))
    names, index = [image.name for image in images], folder / FOLDER / INDEX
    earlier = index.read_text(encoding="utf-8").splitlines() if index.exists() else []
    for name in set(earlier) - set(names):
        for form in FORMS:
            (folder / FOLDER / f"{name}.{form}").unlink(missing_ok=True)
    if names or earlier:
        io.write(index, "\n".join(names) + "\n", durable=False)
    return images


def _figures(gathered: GridResults) -> Iterator[NamedFigure]:
    """Yield every figure that there are numbers for."""
    parts = parts_of(gathered)
    for sets in _bias_families([(part, card) for part, card, _ in parts if len(part.rows)]):
        card = sets[0][2]
        caption = (
            f"{card.metric} over the strength of the context bias, on the test that has the bias of train and on the "
            "one that has none. Mean and standard deviation over seeds."
        )
        yield "", f"{min((one.name for *_, one in sets), key=len)}-strength", caption, curves.over_strength(sets)
    for part, card, title in parts:
        for kind, caption, figure in (*_class_figures(part, card), *_method_figures(part, card)):
            yield title, f"{card.folder}-{kind}", caption, figure


def _class_figures(part: GridResults, card: Card) -> Iterator[CardFigure]:
    """Yield the figures about classes, on the first test split of a dataset and protocol."""
    split = card.test_splits[0]
    of_class = f"{card.class_metric} of each class on {split}, percent"
    if figure := classes.bars(part, card, split):
        yield "classes", f"{of_class}. Mean and standard deviation over seeds.", figure
    if figure := classes.heat_map(part, card, split):
        yield "heat", f"{of_class}, and at the right {card.metric}. Means over seeds.", figure
    if figure := classes.matrices(part, card, split):
        caption = f"Which share of each class was predicted as which class on {split}, percent. Means over seeds."
        yield "confusion", caption + _how_many(part), figure
    if figure := classes.diagrams(part, split):
        caption = (
            f"How often predictions of a given probability were right on {split}, in bins over all seeds with at least "
            f"{classes.FEWEST} predictions; a larger mark has more. On the dotted line both are equal. For CLEF: the "
            "factual prediction."
        )
        yield "reliability", caption + _how_many(part), figure


def _method_figures(part: GridResults, card: Card) -> Iterator[CardFigure]:
    """Yield the figures about methods: the headline on both tests, and in training."""
    if figure := curves.against_shift(part, card):
        caption = (
            f"{card.metric} on the test without the bias of train, against the one with it. Large marks: means over "
            "seeds; small ones: each seed. On the dotted line both are equal."
        )
        yield "shift", caption, figure
    for backbone, figure in curves.learning_curves(part, card):
        of = f"{backbone_title(backbone)}: " if backbone else ""
        caption = (
            f"{of}{card.metric} on val after each epoch. Mean and range over seeds up to the epoch that all "
            "seeds have reached; after that each seed as a thin line."
        )
        yield f"learning-{backbone}".removesuffix("-"), caption, figure


def _how_many(part: GridResults) -> str:
    count = len(part.methods)
    return f" {MAX_METHODS} of {count} methods." if count > MAX_METHODS else ""


def _bias_families(parts: list[tuple[GridResults, Card]]) -> Iterator[list[DemoSet]]:
    """Yield the demo sets whose cards differ only in the strength of their bias, the weakest first.

    Of sets with the same strength, the first is taken.
    """
    families: dict[str, dict[float, DemoSet]] = {}
    for part, card in parts:
        if card.generator is not None:
            content = card.model_dump(mode="json", exclude=_NAMES_OF_CARD)
            strength = float(content["generator_options"].pop("strength", STRENGTH))
            key = json.dumps(content, sort_keys=True)
            families.setdefault(key, {}).setdefault(strength, (strength, part, card))
    for sets in families.values():
        if len(sets) > 1:
            yield [sets[strength] for strength in sorted(sets)]
