"""What a source lists, under each protocol of its card."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clef.cards import Card
from clef.cues import join
from clef.data.check.releases import Listed
from clef.data.check.tally import unstopped
from clef.datasets import splits
from clef.datasets.person import Person, Reading


@dataclass(frozen=True)
class Source:
    """A dataset on disk as one protocol reads it."""

    card: Card
    """As it stands, rules that stop among them."""
    mild: Card
    """As it was read: no rule of it stops."""
    listed: dict[str, Listed]
    people: dict[str, list[Person]]
    """Those whom the reader yields, before the rules of several splits."""
    readings: dict[str, Reading]
    """As sharding would take them from there."""


def read(
    cards: Mapping[str, Card], source: Path, cues: Path, progress: Callable[[str, int, int], None] | None = None
) -> dict[str, Source]:
    """The source under each protocol. DataError only for what is not the documented layout."""
    result = {}
    for name, card in cards.items():
        result[name] = _read(card, source, cues)
        if progress:
            progress("lists", len(result), len(cards))
    return result


def _read(card: Card, source: Path, cues: Path) -> Source:
    mild = unstopped(card)
    readings = splits.as_listed(mild, source)
    listed = {split: _listed(card, reading) for split, reading in readings.items()}
    people = {split: reading.people for split, reading in readings.items()}
    splits.settle(readings)
    join.join(mild, cues, readings, join.cue_files(mild, cues))  # a face that only a cue knows is judged, too
    return Source(card, mild, listed, people, readings)


def _listed(card: Card, reading: Reading) -> Listed:
    images = reading.images or len({person.image for person in reading.people})
    found = Counter(label for person in reading.people for label in person.labels)
    return Listed(images, reading.listed, {label: found[label] for label in card.classes}, reading.box_kind)
