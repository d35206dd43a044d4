"""Count one split of a set of shards: from its manifest, its index, and the meta.json of each person."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from clef.console import Progress
from clef.data.manifest import KINDS, Split
from clef.data.shards import SplitShards
from clef.errors import ShardError
from clef.geometry import clip

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
VAD = ("valence", "arousal", "dominance")
PROGRESS_EVERY = 500
"""People between two reports of progress."""


@dataclass
class BoxSizes:
    """Widths and heights of boxes, in pixels of the source images, and the share of the frame that each takes, 0-1."""

    width: list[float] = field(default_factory=list)
    height: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)

    def add(self, width: float, height: float, frame: tuple[int, int]) -> None:
        """Add a box in a frame of this width and height."""
        self.width.append(width)
        self.height.append(height)
        self.share.append(width * height / (frame[0] * frame[1]))

    @property
    def sides(self) -> dict[str, list[float]]:
        """Return everything that is measured of each box, by name."""
        short = [min(pair) for pair in zip(self.width, self.height, strict=True)]
        return {"width": self.width, "height": self.height, "short side": short, "share of the frame": self.share}


@dataclass
class SplitNumbers:
    """The counts of one split."""

    name: str
    split: Split
    labels: Counter[int] = field(default_factory=Counter)
    """Number of labels -> how many people have so many."""
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Two labels -> how many people have both."""
    vad: dict[str, Counter[int]] = field(default_factory=lambda: {name: Counter() for name in VAD})
    """Valence, arousal and dominance: value rounded to a whole number -> how many people have it."""
    subjects: BoxSizes = field(default_factory=BoxSizes)
    faces: BoxSizes = field(default_factory=BoxSizes)
    """Exact to a pixel of the stored frame, because face boxes are stored in its pixels."""
    people: Counter[int] = field(default_factory=Counter)
    """Number of people in an image -> how many images have so many of this split."""
    flagged: dict[str, list[int]] = field(default_factory=dict)
    """Flag -> the indices of the people who have it."""
    sizes: dict[str, np.ndarray] = field(default_factory=dict)
    """Kind of member -> the bytes of each member that exists."""

    def share(self, label: str) -> float:
        """Return the share of the people who have this label, 0-1."""
        return self.split.classes.get(label, 0) / max(1, self.split.samples)


def count_split(shards: SplitShards, progress: Progress | None = None) -> SplitNumbers:
    """Count a split from every meta.json and nothing else in its tar files. Raises ShardError for a damaged one."""
    numbers = SplitNumbers(shards.name, shards.split)
    images: Counter[str] = Counter()
    for index in range(len(shards)):
        facts = read_meta(shards, index)
        try:
            _add_person(numbers, index, facts)
            images[facts["image_sha256"]] += 1
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise _damaged_error(shards, index, error) from None
        if progress and (index % PROGRESS_EVERY == 0 or index + 1 == len(shards)):
            progress(shards.name, index + 1, len(shards))
    numbers.people = Counter(images.values())
    member_sizes = shards.rows["size"]  # -1 where a person has no such member
    numbers.sizes = {kind: column[column >= 0] for kind, column in zip(KINDS, member_sizes.T, strict=True)}
    return numbers


def read_meta(shards: SplitShards, index: int) -> dict[str, Any]:
    """Return the meta.json of the person at an index of the split. Raises ShardError where it is damaged."""
    content = shards.read(index, "meta.json")
    try:
        facts: dict[str, Any] = json.loads(content or b"")
    except ValueError as error:
        raise _damaged_error(shards, index, error) from None
    return facts


def _damaged_error(shards: SplitShards, index: int, error: Exception) -> ShardError:
    where = f"{shards.root}: {shards.name}: sample {shards.key(index)}"
    return ShardError(f"{where}: its meta.json is damaged ({type(error).__name__}: {error}); {shards.remedy}")


def _add_person(numbers: SplitNumbers, index: int, facts: dict[str, Any]) -> None:
    frame, stored = tuple(facts["source_size"]), facts["size"]
    box = clip(facts["source_box"] and tuple(facts["source_box"]), (frame[1], frame[0]))
    if box is None:
        raise ValueError("a box outside the frame")
    numbers.subjects.add(box[2] - box[0], box[3] - box[1], frame)
    if face := facts["face_box"]:
        x, y = frame[0] / stored[0], frame[1] / stored[1]
        numbers.faces.add((face[2] - face[0]) * x, (face[3] - face[1]) * y, frame)
    labels = facts["labels"]
    numbers.labels[len(labels)] += 1
    numbers.pairs.update(combinations(sorted(labels), 2))
    for name, value in zip(VAD, facts["vad"] or (), strict=False):
        if value is not None:
            numbers.vad[name][math.floor(value + 0.5)] += 1
    for flag in dict.fromkeys(facts["flags"]):
        numbers.flagged.setdefault(flag, []).append(index)


def quantiles(values: Iterable[float]) -> list[float]:
    """Return the values at `QUANTILES`, interpolated; [] for no values."""
    array = np.asarray(list(values), float)
    return [float(value) for value in np.quantile(array, QUANTILES)] if len(array) else []


def histogram(values: Iterable[float], edges: Iterable[float]) -> list[int]:
    """Return how many values lie between each two edges; values beyond the ends count in the first or last bin."""
    array, bounds = np.asarray(list(values), float), np.asarray(list(edges), float)
    return [int(n) for n in np.histogram(np.clip(array, bounds[0], bounds[-1]), bounds)[0]]
