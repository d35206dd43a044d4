"""Examples: the people of a test split for whom CLEF gains most on vanilla, and loses most, as panels. No torch.

The layout is that of the paper's figure 6. Drawing needs the cells' predictions and their shards.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from clef.cells.identity import check_cell
from clef.cells.plan_file import PlannedRun
from clef.cells.predictions import path_of
from clef.cells.records import CONFIG
from clef.config import CellConfig, resolve
from clef.data import manifest as manifests
from clef.data.shards import SplitShards
from clef.datasets.cards import Card
from clef.errors import CellError, ClefError
from clef.metrics import label_ranking_precision
from clef.predict import panel
from clef.predict.panel import PersonPrediction, predictions_from_arrays
from clef.results import predictions
from clef.results.frame import GridResults, parts_of
from clef.results.page import Image
from clef.results.published import backbone_title
from clef.sharding.stats.numbers import read_meta

EACH = 2
"""Examples of gains, and of losses, for each backbone."""
HIDDEN = "no examples, which would show people of the set (--images shows them)"
BASE, METHOD = "vanilla", "clef"


def may_show(card: Card, images: bool | None) -> bool:
    """Return whether people of a dataset may be shown. None: if a program drew them, as others may not be passed on."""
    return card.generator is not None if images is None else images


def draw_examples(gathered: GridResults, folder: Path, images: bool | None) -> tuple[list[Image], list[str]]:
    """Return panels for each dataset and backbone, and remarks about those that could not be made.

    They are of the first seed that has both methods. `folder` holds the grid's cells; `images` is as in `may_show`.
    """
    examples: list[Image] = []
    remarks: list[str] = []
    for part, card, name in parts_of(gathered):
        if not may_show(card, images):
            remarks.append(f"{name}: {HIDDEN}")
            continue
        for run, base in _pairs(part):
            try:
                examples += _panels(_load_pair(part, folder, run, base), name)
            except ClefError as error:
                remarks.append(f"{name}, {backbone_title(run.backbone)}: no examples: {error}")
    return examples, remarks


def _pairs(part: GridResults) -> Iterator[tuple[PlannedRun, PlannedRun]]:
    """Yield CLEF's and vanilla's cell of each backbone, of the lowest seed that has numbers of both."""
    done = {(run.backbone, run.method, run.seed): run for run in part.runs if run.name in part.data}
    for backbone in part.backbones:
        seeds = [s for b, m, s in done if (b, m) == (backbone, METHOD) and (backbone, BASE, s) in done]
        if seeds:
            yield done[backbone, METHOD, min(seeds)], done[backbone, BASE, min(seeds)]


@dataclass(frozen=True)
class _Cell:
    """A trained cell's config, and what it predicted on a split."""

    config: CellConfig
    arrays: predictions.Arrays

    def predict(self, classes: list[str], index: int) -> PersonPrediction:
        """Return the prediction for one sample of the split."""
        row = {key: values[index : index + 1] for key, values in self.arrays.items()}
        return predictions_from_arrays(self.config, classes, row)[0]


@dataclass(frozen=True)
class _Pair:
    """CLEF's cell and vanilla's on the first test split, and the people of the split."""

    card: Card
    run: PlannedRun
    clef: _Cell
    vanilla: _Cell
    shards: SplitShards
    truth: np.ndarray
    """Which classes each person has, N,K bool."""

    @property
    def gains(self) -> np.ndarray:
        """Return how much higher CLEF ranks each person's labels, N."""
        clef, vanilla = (label_ranking_precision(c.arrays["scores"], self.truth) for c in (self.clef, self.vanilla))
        return clef - vanilla


def _load_pair(part: GridResults, grid: Path, run: PlannedRun, base: PlannedRun) -> _Pair:
    """Raise a ClefError where predictions or shards are gone, or the shards are not the cell's."""
    card = part.cards[run.dataset, run.protocol]
    split = card.test_splits[0]
    clef, vanilla = (
        _load_cell(grid / str(each.folder), split, part.data[each.name].splits[split].samples, card)
        for each in (run, base)
    )
    manifest = manifests.load(clef.config.shards)
    check_cell(grid / str(run.folder), clef.config, manifest)
    target = clef.arrays["target"]
    truth = np.eye(len(card.classes), dtype=bool)[target] if target.ndim == 1 else target > 0
    return _Pair(card, run, clef, vanilla, SplitShards(clef.config.shards, split, manifest), truth)


def _load_cell(folder: Path, split: str, samples: int, card: Card) -> _Cell:
    path, config = path_of(folder, split), resolve.from_yaml(folder / CONFIG)
    if not path.exists():
        unkept = config.runtime.predictions == "none"
        raise CellError(f"{folder} keeps no predictions (runtime.predictions=none)" if unkept else f"{path} is gone")
    return _Cell(config, predictions.load(folder, split, samples, len(card.classes)))


def _panels(pair: _Pair, name: str) -> Iterator[Image]:
    """Yield the best gains, then the worst losses; among equal ones, those that come first in the split."""
    gains = pair.gains
    for what, change in (("gain", gains), ("loss", -gains)):
        for number, index in enumerate(np.argsort(-change, kind="stable")[:EACH].tolist(), 1):
            if change[index] > 0:
                stem = f"{pair.card.folder}-{pair.run.backbone}-{what}-{number}"
                yield _panel(pair, index, name, stem, f"{what} {number}")


def _panel(pair: _Pair, index: int, name: str, stem: str, what: str) -> Image:
    """Return one person: vanilla's probabilities, then CLEF's factual and counterfactual ones, and TIE."""
    classes, facts = list(pair.card.classes), read_meta(pair.shards, index)
    clef, vanilla = (cell.predict(classes, index) for cell in (pair.clef, pair.vanilla))
    labels = np.flatnonzero(pair.truth[index]).tolist()
    frame = PilImage.open(io.BytesIO(pair.shards.read(index, "scene.jpg") or b"")).convert("RGB")
    before = [] if vanilla.factual is None else [(BASE, vanilla.factual)]
    drawn = panel.draw_person(frame, tuple(facts["box"]), clef, labels, before)
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    caption = (
        f"{backbone_title(pair.run.backbone)}, seed {pair.run.seed}, {pair.shards.name}, {what}: {facts['id']}, true: "
        f"{', '.join(classes[k] for k in labels)}. Highest by {BASE}: {classes[vanilla.order[0]]}, by {METHOD}: "
        f"{classes[clef.order[0]]}."
    )
    return Image(name, stem, caption, buffer.getvalue())
