"""What two splits share: images by path, by bytes and by sight, and subjects."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clef.data.check.near import nearest
from clef.data.check.survey import Look
from clef.datasets.person import EXAMPLES, Person

Name = Callable[[Path], str]
"""What the report calls an image."""


@dataclass(frozen=True)
class Shared:
    """What the second of two splits has of the first. An image counts in the first of these that finds it."""

    images: int
    """Images that stand in both, by path."""
    people: int
    """The second split's people in them."""
    boxes: int
    """Of all its people, those with a box that the first has in the same image, or one of the same bytes."""
    copies: int
    """Images of the same bytes as one of the first, under another name."""
    near: int
    """Images that look like one of the first: frames re-encoded or made smaller, or next to it in a shot."""
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        """Whether the two share anything."""
        return any((self.images, self.boxes, self.copies, self.near))


def shared(
    first: Iterable[Person], second: Iterable[Person], looks: Mapping[Path, Look], near: int, name: Name
) -> Shared:
    """What the people of `second` share with those of `first`; frames within `near` bits look the same."""
    first, second = list(first), list(second)
    ours, theirs = _images(second), _images(first)
    in_both = [image for image in ours if image in theirs]
    digests = {digest: image for image in reversed(theirs) if (digest := looks[image].digest)}
    rest = [image for image in ours if image not in theirs]
    copies = [image for image in rest if looks[image].digest in digests]
    alike = _alike([image for image in rest if looks[image].digest not in digests], list(theirs), looks, near)
    subjects = {_subject(person, looks) for person in first if person.box}
    examples = {
        "images": [name(image) for image in in_both[:EXAMPLES]],
        "copies": [f"{name(image)} = {name(digests[looks[image].digest])}" for image in copies[:EXAMPLES]],
        "near": [f"{name(image)} ~ {name(other)} ({distance})" for image, other, distance in alike[:EXAMPLES]],
    }
    return Shared(
        images=len(in_both),
        people=sum(person.image in theirs for person in second),
        boxes=sum(person.box is not None and _subject(person, looks) in subjects for person in second),
        copies=len(copies),
        near=len(alike),
        examples={kind: found for kind, found in examples.items() if found},
    )


def copies(people: Iterable[Person], looks: Mapping[Path, Look], name: Name) -> list[str]:
    """The images of one split that have the same bytes as one before: `second = first`."""
    firsts: dict[str, Path] = {}
    found = []
    for image in _images(people):
        digest = looks[image].digest
        if digest and firsts.setdefault(digest, image) != image:
            found.append(f"{name(image)} = {name(firsts[digest])}")
    return found


def _images(people: Iterable[Person]) -> dict[Path, None]:
    """Each image once, in order, and quick to look up."""
    return dict.fromkeys(person.image for person in people)


def _subject(person: Person, looks: Mapping[Path, Look]) -> tuple[object, ...]:
    return (looks[person.image].digest or person.image, person.box)


def _alike(
    images: list[Path], others: list[Path], looks: Mapping[Path, Look], near: int
) -> list[tuple[Path, Path, int]]:
    """Images with a hash at most `near` bits from another's: the image, the nearest other, and how far that is."""
    hashed = [(image, bits) for image in images if (bits := looks[image].hash)]
    known = [(image, bits) for image in others if (bits := looks[image].hash)]
    if not hashed or not known:
        return []
    distances, places = nearest([bits for _, bits in hashed], [bits for _, bits in known])
    found = zip(hashed, distances.tolist(), places.tolist(), strict=True)
    return [(image, known[place][0], distance) for (image, _), distance, place in found if distance <= near]
