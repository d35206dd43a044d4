"""What every reader returns: annotated people, as the dataset states them, before any repair."""

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
from clef.geometry import Box, Size

EXAMPLES = 5
"""How many examples of each fault are remembered."""


@dataclass(frozen=True)
class Cues:
    """What cue extractors found for a person and in their image, in pixels of the stored image; None: not found."""

    face: Box | None = None
    person: Box | None = None
    """A detector's box around the subject."""
    landmarks: tuple[tuple[float, ...], ...] | None = None
    """68 points x, y (`clef.geometry.NUM_LANDMARKS`)."""
    pose: tuple[tuple[float, ...], ...] | None = None
    """17 joints x, y, confidence 0-1 (`clef.geometry.JOINTS`)."""
    regions: tuple[Box, ...] | None = None
    """Region proposals for the image, the best first."""
    depth: Path | None = None
    """An 8- or 16-bit gray image of any size that covers the whole frame; brighter is nearer."""
    others: tuple[Box, ...] = ()
    """The boxes of the other people whom the source lists in this image."""


@dataclass(frozen=True)
class Person:
    """One annotated person, the subject of a sample."""

    id: str
    image: Path
    box: Box | None
    """The subject's box; None is the whole frame, whose size only the image tells."""
    labels: tuple[str, ...]
    """Class names as the card has them."""
    face: Box | None = None
    vad: tuple[float, float, float] | None = None
    """Valence, arousal and dominance, 1-10; NaN where unknown."""
    flags: tuple[str, ...] = ()
    """The rules that the reader met for this person."""
    cues: Cues = Cues()
    image_size: Size | None = None
    """Height and width of the image to which the boxes refer, where the source states them."""


@dataclass
class Reading:
    """A split as read: its people in a fixed order, and how many were left out or flagged, and why.

    Both counts are by rule (`clef.datasets.policies`), or by a text where there is no rule.
    """

    people: list[Person] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    box_kind: str = "person"
    """What the subject's box surrounds: `person` or `face`."""
    policies: Policies = field(default_factory=Policies)
    images: int = 0
    """Images in which the source lists people of this split, left out or not; 0: the reader doesn't say."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """By rule, the first ids or paths where it was met."""
    spellings: dict[str, Counter[str]] = field(default_factory=dict)
    """By rule, the spellings that met it and how many people each, for rules about labels."""

    @property
    def listed(self) -> int:
        """Return how many people the source lists for this split."""
        return len(self.people) + sum(self.left_out.values())

    def keeps(self, rule: str, where: str, people: int = 1) -> bool:
        """Count a rule that so many people meet, and return whether they stay.

        `where` is an id or a path; what is wrong there may follow after `: `. Raises DataError, which names `where`,
        if the policy is `raise`.
        """
        policy = self.policies.check(rule, where)
        (self.left_out if policy == "skip" else self.notes)[rule] += people
        self.remember(rule, where.partition(": ")[0])
        return policy != "skip"

    def remember(self, rule: str, example: str, *spellings: str) -> None:
        """Keep the first examples of a rule, and count the spellings by which this one met it."""
        examples = self.examples.setdefault(rule, [])
        if len(examples) < EXAMPLES:
            examples.append(example)
        for spelling in filter(None, dict.fromkeys(spellings)):
            self.spellings.setdefault(rule, Counter())[spelling] += 1


class Reader(Protocol):
    """Reads a dataset from its layout on disk. Both methods raise DataError where the files aren't as documented."""

    def __init__(self, root: Path, card: Card) -> None:
        """Open the dataset in the folder `root`."""

    def read(self, split: str) -> Reading:
        """Return the people of a split, as the dataset calls the split, in a fixed order."""


def parse_box(values: Mapping[str, Any] | Sequence[Any], where: str) -> Box:
    """Return the box x1, y1, x2, y2 from a row of a file: four texts or numbers, in order or by name.

    NaN passes, and makes an empty box. Raises DataError, which names `where`, for anything else.
    """
    sides = [values[key] for key in ("x1", "y1", "x2", "y2")] if isinstance(values, Mapping) else values
    try:
        x1, y1, x2, y2 = (float(side) for side in sides)
        if any(map(math.isinf, (x1, y1, x2, y2))):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        shown = f"{','.join(map(str, sides))!r:.80}"
        raise DataError(f"{where}: four numbers x1,y1,x2,y2 are expected, not {shown}") from None
    return x1, y1, x2, y2


_NEVER_IN_PATH = re.compile(r"[\x00\ud800-\udfff]")
"""NUL and lone surrogates: no file system call takes them."""


def parse_path(text: str, where: str) -> str:
    """Return a file's path as a list states it, with `/` and without outer blanks.

    Raises DataError, which names `where`, when no file can have such a path.
    """
    parts = [part.strip() for part in text.strip().replace("\\", "/").split("/")]
    path = PurePosixPath("/".join(parts)).as_posix()
    wrong = not parts[-1] or parts[-1] in (".", "..") or _NEVER_IN_PATH.search(path)
    if wrong or len(path.encode()) > 2048 or any(len(part.encode()) > 255 for part in parts):
        raise DataError(f"{where}: the path of a file is expected, not {text!r:.80}")
    return path
