"""Reads all splits of a dataset, and decides what only several people or several splits together show."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from clef.datasets.cards import Card
from clef.datasets.person import Person, Reading

HELD_OUT = "val"
"""The split that must share no image with another: models are selected on it."""


def read(card: Card, source: Path) -> dict[str, Reading]:
    """Every split of the card below `source`, by name, as its policies have it."""
    readings = as_listed(card, source)
    settle(readings)
    return readings


def as_listed(card: Card, source: Path) -> dict[str, Reading]:
    """The splits as `read` has them, but for what only several people or splits together show."""
    from clef.datasets import open_reader

    readers = {root: open_reader(card, source / root) for root in sorted({part.root for part in card.splits.values()})}
    return {name: readers[part.root].read(part.split) for name, part in card.splits.items()}


def settle(readings: dict[str, Reading]) -> None:
    """Apply the rules of people who stand in several splits, or several times in one."""
    for name, reading in readings.items():
        if name == HELD_OUT:
            others = [person for other, read in readings.items() if other != HELD_OUT for person in read.people]
            _shared(reading, {person.image for person in others})
        _repeated(reading)


def _shared(reading: Reading, elsewhere: set[Path]) -> None:
    """People whose image another split holds too."""
    kept = []
    for person in reading.people:
        if person.image not in elsewhere:
            kept.append(person)
        elif reading.keeps("image_shared", person.id):
            kept.append(_flagged(person, "image_shared"))
    reading.people = kept


def _repeated(reading: Reading) -> None:
    """People whose image and box were listed before; the first of them is no fault."""
    seen = Counter[tuple[Path, object]]()
    kept = []
    for person in reading.people:
        subject = (person.image, person.box)
        seen[subject] += 1
        if seen[subject] == 1 or person.box is None:
            kept.append(person)
        elif reading.keeps("box_repeated", person.id):
            kept.append(_flagged(person, "box_repeated"))
    reading.people = kept


def _flagged(person: Person, rule: str) -> Person:
    return replace(person, flags=(*person.flags, rule))
