"""The record that every reader yields: one annotated person, as the dataset states it, before any repair."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from clef.datasets.cards import Card
from clef.datasets.policies import Policies
from clef.errors import DataError

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the source image: 0-based, half-open, possibly fractional or beyond the frame."""
EXAMPLES = 5
"""How many places of each fault are remembered."""


@dataclass(frozen=True)
class Cues:
    """What extractors found of a person and their image, in pixels of the source image; None: not found."""

    face: Box | None = None
    person: Box | None = None
    """A detector's box of the subject."""
    landmarks: tuple[tuple[float, ...], ...] | None = None
    """68 points x, y (`clef.geometry.LANDMARKS`)."""
    pose: tuple[tuple[float, ...], ...] | None = None
    """17 joints x, y, confidence 0-1 (`clef.geometry.JOINTS`)."""
    regions: tuple[Box, ...] | None = None
    """Region proposals of the image, the best first."""
    depth: Path | None = None
    """An 8- or 16-bit grey image of any size that stands for the whole frame; brighter is nearer."""
    others: tuple[Box, ...] = ()
    """The boxes of the other people that the source lists in this image."""


@dataclass(frozen=True)
class Person:
    """One subject. Labels are canonical class names; unknown VAD values are NaN."""

    id: str
    image: Path
    box: Box | None
    """The subject; None stands for the whole frame, whose size only the image tells."""
    labels: tuple[str, ...]
    face: Box | None = None
    vad: tuple[float, float, float] | None = None
    flags: tuple[str, ...] = ()
    """What the reader had to decide about this person."""
    cues: Cues = Cues()


@dataclass
class Reading:
    """A split as read: its people in a fixed order, and counts of who was left out or repaired on the way, and why.

    Both counts are by the rule of `clef.datasets.policies`, or in words where there is no rule for it.
    """

    people: list[Person] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    box_kind: str = "person"
    """What the subject's box surrounds: a person or a face."""
    policies: Policies = field(default_factory=Policies)
    images: int = 0
    """Images in which the source lists anyone of this split, left out or not; 0: the reader doesn't say."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """By rule, the first places where it was met: ids or paths."""
    found: dict[str, Counter[str]] = field(default_factory=dict)
    """By rule, what was found there and how often, where that is a spelling."""

    @property
    def listed(self) -> int:
        """All whom the source lists for this split."""
        return len(self.people) + sum(self.left_out.values())

    def keeps(self, rule: str, where: str, people: int = 1) -> bool:
        """Count a fault of so many people, and say whether they stay. DataError that names `where` if it may not be.

        `where` is an id or a path, and may go on after `: ` with what is wrong there.
        """
        policy = self.policies.check(rule, where)
        (self.left_out if policy == "skip" else self.notes)[rule] += people
        self.remember(rule, where.partition(": ")[0])
        return policy != "skip"

    def remember(self, rule: str, place: str, found: str = "") -> None:
        """Keep the first places where a rule was met, and count what was found where that is a spelling."""
        examples = self.examples.setdefault(rule, [])
        if len(examples) < EXAMPLES:
            examples.append(place)
        if found:
            self.found.setdefault(rule, Counter())[found] += 1


class Reader(Protocol):
    """Reads the official layout of a dataset. Raises DataError when the tree is not as documented."""

    def __init__(self, root: Path, card: Card) -> None: ...

    def read(self, split: str) -> Reading: ...


def parse_box(values: Mapping[str, Any] | Sequence[Any], where: str) -> Box:
    """Four numbers x1, y1, x2, y2 from a row of a box file; NaN passes: such a box is empty. DataError at `where`."""
    found = [values[key] for key in ("x1", "y1", "x2", "y2")] if isinstance(values, Mapping) else values
    try:
        x1, y1, x2, y2 = (float(value) for value in found)
        if any(map(math.isinf, (x1, y1, x2, y2))):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        shown = f"{','.join(map(str, found))!r:.80}"
        raise DataError(f"{where}: four numbers x1,y1,x2,y2 are expected, not {shown}") from None
    return x1, y1, x2, y2


def parse_path(text: str, where: str) -> str:
    """A file's path as a list states it, with `/` and without outer blanks. DataError when no file can be called so."""
    parts = [part.strip() for part in text.strip().replace("\\", "/").split("/")]
    path = PurePosixPath("/".join(parts)).as_posix()
    wrong = not parts[-1] or parts[-1] in (".", "..") or _IN_NO_PATH.search(path)
    if wrong or len(path.encode()) > 2048 or any(len(part.encode()) > 255 for part in parts):
        raise DataError(f"{where}: the path of a file is expected, not {text!r:.80}")
    return path


_IN_NO_PATH = re.compile(r"[\x00\ud800-\udfff]")
