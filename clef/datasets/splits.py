"""Read all splits of a dataset, and apply the rules about an image or a box that is listed more than once."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from clef.datasets import open_reader
from clef.datasets.cards import Card
from clef.datasets.person import Person, Reading

HELD_OUT = "val"
"""The split that must share no image with another, because models are selected on it."""


def read(card: Card, source: Path) -> dict[str, Reading]:
    """Return every split of the card by name, read from the folder `source`, with all policies applied."""
    readings = read_listed(card, source)
    apply_cross_split_rules(readings)
    return readings


def read_listed(card: Card, source: Path) -> dict[str, Reading]:
    """Return every split as `read` does, but before the rules that compare people and splits with each other."""
    roots = sorted({split.root for split in card.splits.values()})
    readers = {root: open_reader(card, source / root) for root in roots}
    return {name: readers[split.root].read(split.split) for name, split in card.splits.items()}


def apply_cross_split_rules(readings: dict[str, Reading]) -> None:
    """Apply the rules about images that several splits list, and boxes that a split lists twice. In place."""
    for name, reading in readings.items():
        if name == HELD_OUT:
            others = [person for other, read in readings.items() if other != HELD_OUT for person in read.people]
            _apply_image_shared(reading, {person.image for person in others})
        _apply_box_repeated(reading)


def _apply_image_shared(reading: Reading, elsewhere: set[Path]) -> None:
    """Apply the rule about people whose image another split lists too."""
    kept = []
    for person in reading.people:
        if person.image not in elsewhere:
            kept.append(person)
        elif reading.keeps("image_shared", person.id):
            kept.append(_add_flag(person, "image_shared"))
    reading.people = kept


def _apply_box_repeated(reading: Reading) -> None:
    """Apply the rule about people whose image and box were listed before. The first one listed always stays."""
    seen = Counter[tuple[Path, object]]()
    kept = []
    for person in reading.people:
        subject = (person.image, person.box)  # without a box, the subject is the whole frame
        seen[subject] += 1
        if seen[subject] == 1:
            kept.append(person)
        elif reading.keeps("box_repeated", person.id):
            kept.append(_add_flag(person, "box_repeated"))
    reading.people = kept


def _add_flag(person: Person, rule: str) -> Person:
    return replace(person, flags=(*person.flags, rule))
