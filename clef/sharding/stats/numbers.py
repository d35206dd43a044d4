"""The numbers of one split of a set of shards: from its manifest, its index, and every person's meta.json."""

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
from clef.geometry import inside

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
VAD = ("valence", "arousal", "dominance")
EVERY = 500
"""People between two words of progress."""


@dataclass
class Sizes:
    """Boxes, in pixels of the source images: width, height, and the share of the frame that they take, 0-1."""

    width: list[float] = field(default_factory=list)
    height: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)

    def add(self, width: float, height: float, frame: tuple[int, int]) -> None:
        """One more box of a frame of this size."""
        self.width.append(width)
        self.height.append(height)
        self.share.append(width * height / (frame[0] * frame[1]))

    @property
    def sides(self) -> dict[str, list[float]]:
        """What is measured of each box, by name."""
        short = [min(pair) for pair in zip(self.width, self.height, strict=True)]
        return {"width": self.width, "height": self.height, "short side": short, "share of the frame": self.share}


@dataclass
class Numbers:
    """One split, counted."""

    name: str
    split: Split
    labels: Counter[int] = field(default_factory=Counter)
    """People by how many labels they have."""
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """People by two labels that they have both."""
    vad: dict[str, Counter[int]] = field(default_factory=lambda: {name: Counter() for name in VAD})
    """People by whole steps of valence, arousal and dominance."""
    subjects: Sizes = field(default_factory=Sizes)
    faces: Sizes = field(default_factory=Sizes)
    """To within a pixel of the stored frame, in which face boxes are kept."""
    people: Counter[int] = field(default_factory=Counter)
    """Images by how many people of the split they show."""
    flagged: dict[str, list[int]] = field(default_factory=dict)
    """The places of the people with each flag."""
    sizes: dict[str, np.ndarray] = field(default_factory=dict)
    """Bytes of each member that there is, by its kind."""

    def share(self, label: str) -> float:
        """The part of the people who have this label, 0-1."""
        return self.split.classes.get(label, 0) / max(1, self.split.samples)


def count(shards: SplitShards, progress: Progress | None = None) -> Numbers:
    """Read every meta.json of a split, and nothing else of its tars. Raises ShardError for one that is damaged."""
    made = Numbers(shards.name, shards.split)
    images: Counter[str] = Counter()
    for place in range(len(shards)):
        facts = meta(shards, place)
        try:
            _add(made, place, facts)
            images[facts["image_sha256"]] += 1
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise _damaged(shards, place, error) from None
        if progress and (place % EVERY == 0 or place + 1 == len(shards)):
            progress(shards.name, place + 1, len(shards))
    made.people = Counter(images.values())
    bytes_of = shards.index["size"]
    made.sizes = {kind: column[column >= 0] for kind, column in zip(KINDS, bytes_of.T, strict=True)}
    return made


def meta(shards: SplitShards, place: int) -> dict[str, Any]:
    """The facts of the person at `place`. Raises ShardError where there are none."""
    content = shards.read(place, "meta.json")
    try:
        facts: dict[str, Any] = json.loads(content or b"")
    except ValueError as error:
        raise _damaged(shards, place, error) from None
    return facts


def _damaged(shards: SplitShards, place: int, error: Exception) -> ShardError:
    where = f"{shards.root}: {shards.name}: sample {shards.key(place)}"
    return ShardError(f"{where}: its meta.json is damaged ({type(error).__name__}: {error}); {shards.remedy}")


def _add(made: Numbers, place: int, facts: dict[str, Any]) -> None:
    frame, stored = tuple(facts["source_size"]), facts["size"]
    box = inside(facts["source_box"] and tuple(facts["source_box"]), *frame)
    if box is None:
        raise ValueError("a box outside the frame")
    made.subjects.add(box[2] - box[0], box[3] - box[1], frame)
    if face := facts["face_box"]:
        x, y = frame[0] / stored[0], frame[1] / stored[1]
        made.faces.add((face[2] - face[0]) * x, (face[3] - face[1]) * y, frame)
    labels = facts["labels"]
    made.labels[len(labels)] += 1
    made.pairs.update(combinations(sorted(labels), 2))
    for name, value in zip(VAD, facts["vad"] or (), strict=False):
        if value is not None:
            made.vad[name][math.floor(value + 0.5)] += 1
    for flag in dict.fromkeys(facts["flags"]):
        made.flagged.setdefault(flag, []).append(place)


def quantiles(values: Iterable[float]) -> list[float]:
    """The values at `QUANTILES`, interpolated; none of no values."""
    known = np.asarray(list(values), float)
    return [float(value) for value in np.quantile(known, QUANTILES)] if len(known) else []


def histogram(values: Iterable[float], edges: Iterable[float]) -> list[int]:
    """How many values lie between each two edges; what lies beyond the ends counts there."""
    known, at = np.asarray(list(values), float), np.asarray(list(edges), float)
    return [int(n) for n in np.histogram(np.clip(known, at[0], at[-1]), at)[0]]
