"""Where CLEF gains most on vanilla, and where it loses most: people of a test split, as panels. Imports no torch.

The layout of the paper's figure 6. It needs the cells' predictions and their shards.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pixels

from clef.cells.identity import check_cell
from clef.cells.records import CONFIG
from clef.config import CellConfig, resolve
from clef.data import manifest as manifests
from clef.data.shards import SplitShards
from clef.datasets import cards
from clef.datasets.cards import Card
from clef.errors import CellError, ClefError
from clef.predict import panel
from clef.predict.panel import Told, of_arrays
from clef.results import predictions
from clef.results.frame import Gathered, PlannedRun, parts_of
from clef.results.page import Image
from clef.results.published import title
from clef.sharding.stats.numbers import meta

EACH = 2
"""Of gains, and of losses."""
HIDDEN = "no examples, which would show people of the set (--images shows them)"
BASE, METHOD = "vanilla", "clef"
Found = tuple[list[Image], list[str]]
"""Panels, and what is to be said of those that could not be made."""


@dataclass(frozen=True)
class _Cell:
    """A trained cell on a split: its config, and what it predicted there."""

    config: CellConfig
    arrays: predictions.Arrays


def may_show(card: Card, images: bool | None) -> bool:
    """Whether people of a set may be shown. None: where a program has drawn them, as no other may be passed on."""
    return card.generator is not None if images is None else images


def examples(gathered: Gathered, folder: Path, images: bool | None) -> Found:
    """Of each dataset and backbone, by the first seed that has both methods; `folder` holds the grid's cells.

    `images`: as `may_show` has it.
    """
    made: list[Image] = []
    remarks: list[str] = []
    for part, card, name in parts_of(gathered):
        if not may_show(card, images):
            remarks.append(f"{name}: {HIDDEN}")
            continue
        for one, base in _pairs(part):
            try:
                made += _panels(_pair(part, folder, one, base), name)
            except ClefError as error:
                remarks.append(f"{name}, {title(one.backbone)}: no examples: {error}")
    return made, remarks


def _pairs(part: Gathered) -> Iterator[tuple[PlannedRun, PlannedRun]]:
    """CLEF's cell and vanilla's of each backbone, of the lowest seed that has numbers of both."""
    done = {(run.backbone, run.method, run.seed): run for run in part.runs if run.name in part.data}
    for backbone in part.backbones:
        seeds = [s for b, m, s in done if (b, m) == (backbone, METHOD) and (backbone, BASE, s) in done]
        if seeds:
            yield done[backbone, METHOD, min(seeds)], done[backbone, BASE, min(seeds)]


@dataclass(frozen=True)
class _Pair:
    """CLEF's cell and vanilla's on the first test split, and its people."""

    card: Card
    run: PlannedRun
    own: _Cell
    base: _Cell
    shards: SplitShards
    truth: np.ndarray
    """Which classes a person has, N,K bool."""

    @property
    def gains(self) -> np.ndarray:
        """By how much CLEF ranks a person's labels higher, N."""
        return ranked(self.own.arrays["scores"], self.truth) - ranked(self.base.arrays["scores"], self.truth)


def _pair(part: Gathered, grid: Path, run: PlannedRun, base: PlannedRun) -> _Pair:
    """Raises a ClefError where predictions or shards are gone, or the shards are not the cell's."""
    card = cards.load(run.dataset, run.protocol)
    split = card.test_splits[0]
    own, other = (
        _load(grid / str(one.folder), split, part.data[one.name].splits[split].samples, card) for one in (run, base)
    )
    manifest = manifests.load(own.config.shards)
    check_cell(grid / str(run.folder), own.config, manifest)
    target = own.arrays["target"]
    truth = np.eye(len(card.classes), dtype=bool)[target] if target.ndim == 1 else target > 0
    return _Pair(card, run, own, other, SplitShards(own.config.shards, split, manifest), truth)


def _load(folder: Path, split: str, samples: int, card: Card) -> _Cell:
    path = predictions.path_of(folder, split)
    if not path.exists():
        raise CellError(f"{path} is gone")
    return _Cell(resolve.from_yaml(folder / CONFIG), predictions.load(path, samples, len(card.classes)))


def ranked(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How high each person's own labels rank among the classes: label ranking average precision, N, 1 is the best.

    With one label it is 1 / rank. Equal scores share the lower rank. Someone without a label has 1.
    """
    above = scores[:, None, :] >= scores[:, :, None]  # N,K,K: of each class, which ones are as high
    precision = (above & truth[:, None, :]).sum(2) / above.sum(2)
    own = truth.sum(1)
    return np.where(own > 0, (precision * truth).sum(1) / np.maximum(own, 1), 1.0)


def _panels(pair: _Pair, name: str) -> Iterator[Image]:
    """Best gains, then worst losses; of equal ones who stands first in the split."""
    gains = pair.gains
    for what, change in (("gain", gains), ("loss", -gains)):
        for number, place in enumerate(np.argsort(-change, kind="stable")[:EACH].tolist(), 1):
            if change[place] > 0:
                stem = f"{pair.card.folder}-{pair.run.backbone}-{what}-{number}"
                yield _panel(pair, place, name, stem, f"{what} {number}")


def _panel(pair: _Pair, place: int, name: str, stem: str, what: str) -> Image:
    """One person: vanilla's probability, then CLEF's factual and counterfactual ones, and TIE."""
    classes, facts = list(pair.card.classes), meta(pair.shards, place)
    own, base = (_told(one, classes, place) for one in (pair.own, pair.base))
    labels = np.flatnonzero(pair.truth[place]).tolist()
    frame = Pixels.open(io.BytesIO(pair.shards.read(place, "scene.jpg") or b"")).convert("RGB")
    before = [] if base.factual is None else [(BASE, base.factual)]
    drawn = panel.person(frame, tuple(facts["box"]), own, labels, before)
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    caption = (
        f"{title(pair.run.backbone)}, seed {pair.run.seed}, {pair.shards.name}, {what}: {facts['id']}, true: "
        f"{', '.join(classes[k] for k in labels)}. Highest by {BASE}: {classes[base.order[0]]}, by {METHOD}: "
        f"{classes[own.order[0]]}."
    )
    return Image(name, stem, caption, buffer.getvalue())


def _told(one: _Cell, classes: list[str], place: int) -> Told:
    row = {key: values[place : place + 1] for key, values in one.arrays.items()}
    return of_arrays(one.config, classes, row)[0]
