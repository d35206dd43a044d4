"""What two splits share: images by path, by bytes and by sight, and subjects.

The nearest of many bit strings, exactly, in bounded memory: 49,007 x 20,992 of them in a few seconds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clef.datasets.person import EXAMPLES, Person
from clef.sharding.check.scan import Look

_ROWS = 256
"""Of the distances' table at a time: 50 MB against 49,007 others."""


def nearest(of: Sequence[bytes], among: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """For each string of `of`: the Hamming distance to the nearest one in `among` (not empty), and its place there.

    With bits as -1 and 1, the product of two strings is their length less twice their distance: a matrix product, and
    exact, as float32 holds small whole numbers exactly. The first place wins among equals.
    """
    table = _signs(among).T
    distances, places = np.zeros(len(of), np.int64), np.zeros(len(of), np.int64)
    for first in range(0, len(of), _ROWS):
        rows = slice(first, first + _ROWS)
        agreement = _signs(of[rows]) @ table
        places[rows] = agreement.argmax(1)
        distances[rows] = (len(table) - agreement.max(1)) / 2
    return distances, places


def _signs(strings: Sequence[bytes]) -> np.ndarray:
    """N,bits of -1 and 1."""
    packed = np.frombuffer(b"".join(strings), np.uint8).reshape(len(strings), -1)
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


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


@dataclass(frozen=True)
class Found:
    """The images of the second of two splits that the first has, too; each stands in one of the lists."""

    in_both: list[Path]
    copies: list[tuple[Path, Path]]
    """With an image of the first."""
    near: list[tuple[Path, Path, int]]
    """With the nearest image of the first, and how many bits are between."""

    @property
    def images(self) -> set[Path]:
        """All of them."""
        return {*self.in_both, *(copy for copy, _ in self.copies), *(image for image, *_ in self.near)}


def compare(
    first: Iterable[Person],
    second: Iterable[Person],
    looks: Mapping[Path, Look],
    near: int,
    only: set[Path] | None = None,
) -> Found:
    """What images of `second` are in `first`, have its bytes, or differ in at most `near` bits of their hash.

    `only` those of `second` are looked at, where it is known that no other can be found.
    """
    ours, theirs = _images(second), _images(first)
    digests = {digest: image for image in reversed(theirs) if (digest := looks[image].digest)}
    in_both, copied, rest = [], [], []
    for image in ours if only is None else filter(only.__contains__, ours):
        if image in theirs:
            in_both.append(image)
        elif other := digests.get(looks[image].digest):
            copied.append((image, other))
        else:
            rest.append(image)
    return Found(in_both, copied, _alike(rest, list(theirs), looks, near))


def shared(
    found: Found, first: Iterable[Person], second: Iterable[Person], looks: Mapping[Path, Look], name: Name
) -> Shared:
    """In numbers, with the subjects and examples."""
    second, in_both = list(second), set(found.in_both)
    subjects = {_subject(person, looks) for person in first if person.box}
    examples = {
        "images": [name(image) for image in found.in_both[:EXAMPLES]],
        "copies": [f"{name(image)} = {name(other)}" for image, other in found.copies[:EXAMPLES]],
        "near": [f"{name(image)} ~ {name(other)} ({bits})" for image, other, bits in found.near[:EXAMPLES]],
    }
    return Shared(
        images=len(in_both),
        people=sum(person.image in in_both for person in second),
        boxes=sum(person.box is not None and _subject(person, looks) in subjects for person in second),
        copies=len(found.copies),
        near=len(found.near),
        examples={kind: places for kind, places in examples.items() if places},
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
