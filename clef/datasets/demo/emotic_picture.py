"""One picture of the EMOTIC-like set: the people placed in it and what is annotated of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clef.datasets.demo.emotic_mat import Annotation, ImageEntry
from clef.datasets.demo.expression import MOODS
from clef.datasets.demo.moods import draw_categories, draw_vad
from clef.datasets.demo.pose import Box, card_height
from clef.datasets.demo.world import MOOD_SCENES, Actor, Group

NAMES = {
    "mscoco": "COCO_val2014_{:012d}.jpg",
    "framesdb": "frame_{:04d}.jpg",
    "emodb_small": "emodb_{:05d}.jpg",
    "ade20k": "labelme_{:05d}.jpg",
}
OFF_FRAME = 0.06
"""Share of people whom the left or lower edge cuts, so that their boxes overshoot the frame."""
FRACTIONAL = 0.1
"""Share of boxes with fractions of pixels."""


@dataclass(frozen=True)
class Picture:
    """All that it takes to draw one image, and its entry in the annotations."""

    root: Path
    entry: ImageEntry
    scene: str
    seed: int
    actors: tuple[Actor, ...]
    cards: tuple[Box, ...]
    fault: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.entry.size

    @property
    def name(self) -> str:
        """How the annotations name the image: folder and file."""
        return f"{self.entry.database}/images/{self.entry.filename}"

    @property
    def path(self) -> Path:
        """Where the image lies."""
        return self.root / "emotic" / self.name

    @property
    def readable(self) -> bool:
        """Whether the image is there and whole."""
        return self.fault not in ("truncated", "missing")


def compose(root: Path, group: Group, number: int) -> Picture:
    """Choose a frame, place the group's people side by side, and annotate them."""
    rng = np.random.default_rng([group.seed, 3])
    database = list(NAMES)[int(rng.choice(4, p=[0.35, 0.35, 0.15, 0.15]))]
    size = _frame_size(rng, len(group.actors))
    cards = tuple(_place(rng, size, i, len(group.actors)) for i in range(len(group.actors)))
    people = tuple(_annotate(rng, actor, card) for actor, card in zip(group.actors, cards, strict=True))
    entry = ImageEntry(NAMES[database].format(number), database, size, people)
    return Picture(root, entry, list(MOOD_SCENES.values())[group.scene], group.seed, group.actors, cards)


def _frame_size(rng: np.random.Generator, people: int) -> tuple[int, int]:
    """Upright only where one person stands alone."""
    long, short = int(rng.integers(150, 181)), int(rng.integers(112, 137))
    return (short, long) if people == 1 and rng.random() < 0.3 else (long, short)


def _place(rng: np.random.Generator, size: tuple[int, int], index: int, people: int) -> Box:
    slot = size[0] // people
    width = int(rng.integers(40, min(58, slot - 7)))
    tall = card_height(width)
    left = slot * index + int(rng.integers(2, slot - width - 2))
    top = int(rng.integers(2, size[1] - tall - 1))
    if rng.random() < OFF_FRAME:
        left, top = (-width // 5, top) if index == 0 and rng.random() < 0.5 else (left, size[1] - tall + tall // 6)
    return left, top, left + width, top + tall


def _annotate(rng: np.random.Generator, actor: Actor, card: Box) -> Annotation:
    mood = list(MOODS)[actor.label]
    fraction = rng.random(4).round(2) * 0.9 if rng.random() < FRACTIONAL else np.zeros(4)
    x1, y1, x2, y2 = (float(v) for v in np.add(card, (1, 1, 0, 0)) + fraction)
    valence, arousal, dominance = (float(v) for v in draw_vad(rng, mood))
    gender = "Female" if rng.random() < 0.5 else "Male"
    age = ("Kid", "Teenager", "Adult")[int(rng.choice(3, p=[0.1, 0.1, 0.8]))]
    return Annotation((x1, y1, x2, y2), draw_categories(rng, mood), (valence, arousal, dominance), gender, age)
