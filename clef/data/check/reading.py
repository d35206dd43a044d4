"""What a source lists, under each protocol of its card."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clef.cards import Card
from clef.console import Progress
from clef.cues import join
from clef.data.check.releases import Listed
from clef.data.check.tally import unstopped
from clef.datasets import splits
from clef.datasets.person import Person, Reading
from clef.errors import DataError


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
    cards: Mapping[str, Card],
    protocol: str,
    source: Path,
    cues: Path,
    progress: Progress | None = None,
) -> dict[str, Source | DataError]:
    """The source under each protocol, or why it can't be read so. DataError if it can't under the one asked for."""
    result: dict[str, Source | DataError] = {}
    for name, card in cards.items():
        try:
            result[name] = _read(card, source, cues)
        except DataError as error:
            if name == protocol:
                raise
            result[name] = error
        if progress:
            progress("lists", len(result), len(cards))
    return result


def images(sources: Iterable[Source | DataError]) -> set[Path]:
    """All images of all protocols."""
    read = [source for source in sources if isinstance(source, Source)]
    return {person.image for source in read for people in source.people.values() for person in people}


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
