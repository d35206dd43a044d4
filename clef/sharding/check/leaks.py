"""What two splits share: images by path, by bytes and by sight, and subjects."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clef.datasets.person import EXAMPLES, Person
from clef.sharding.check.scan import ImageScan

ImageNamer = Callable[[Path], str]
"""Returns what the report calls an image."""


@dataclass(frozen=True)
class Overlap:
    """How much of the first of two splits is in the second. An image counts once, as `images`, `copies` or `near`."""

    images: int
    """Images that both splits list, by path."""
    people: int
    """People of the second split in those images."""
    boxes: int
    """People of the second split whose box the first split has in the same image, or in one with the same bytes."""
    copies: int
    """Images with the same bytes as one of the first split, under another path."""
    near: int
    """Images that look like one of the first split: re-encoded or made smaller, or its neighbor in a shot."""
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        """Return whether the two splits share anything."""
        return any((self.images, self.boxes, self.copies, self.near))


@dataclass(frozen=True)
class SharedImages:
    """The images of the second of two splits that are in the first, too; each in one of the lists."""

    in_both: list[Path]
    """By path."""
    copies: list[tuple[Path, Path]]
    """By bytes, each with the image of the first split."""
    near: list[tuple[Path, Path, int]]
    """By sight, each with the nearest image of the first split and the bits in which their hashes differ."""

    @property
    def images(self) -> set[Path]:
        """Return the images of all three lists."""
        return {*self.in_both, *(copy for copy, _ in self.copies), *(image for image, *_ in self.near)}


def find_shared_images(
    first: Iterable[Person],
    second: Iterable[Person],
    scans: Mapping[Path, ImageScan],
    near: int,
    only: set[Path] | None = None,
) -> SharedImages:
    """Return the images of `second` that are in `first`, have its bytes, or differ in at most `near` bits of the hash.

    `only`: the images of `second` to look at, where it is known that no others are shared.
    """
    ours, theirs = _unique_images(second), _unique_images(first)
    by_digest = {digest: image for image in reversed(theirs) if (digest := scans[image].digest)}
    in_both, copies, rest = [], [], []
    for image in ours if only is None else filter(only.__contains__, ours):
        if image in theirs:
            in_both.append(image)
        elif other := by_digest.get(scans[image].digest):
            copies.append((image, other))
        else:
            rest.append(image)
    return SharedImages(in_both, copies, _find_near(rest, list(theirs), scans, near))


def measure_overlap(
    shared: SharedImages,
    first: Iterable[Person],
    second: Iterable[Person],
    scans: Mapping[Path, ImageScan],
    name: ImageNamer,
) -> Overlap:
    """Count what was found, and the subjects of `second` that are in `first`; give examples."""
    second, in_both = list(second), set(shared.in_both)
    subjects = {_subject_key(person, scans) for person in first if person.box}
    examples = {
        "images": [name(image) for image in shared.in_both[:EXAMPLES]],
        "copies": [f"{name(image)} = {name(other)}" for image, other in shared.copies[:EXAMPLES]],
        "near": [f"{name(image)} ~ {name(other)} ({bits})" for image, other, bits in shared.near[:EXAMPLES]],
    }
    return Overlap(
        images=len(in_both),
        people=sum(person.image in in_both for person in second),
        boxes=sum(person.box is not None and _subject_key(person, scans) in subjects for person in second),
        copies=len(shared.copies),
        near=len(shared.near),
        examples={kind: texts for kind, texts in examples.items() if texts},
    )


def find_copies(people: Iterable[Person], scans: Mapping[Path, ImageScan], name: ImageNamer) -> list[str]:
    """Return the images of one split with the same bytes as an earlier one, as texts `copy = first`."""
    firsts: dict[str, Path] = {}
    copies = []
    for image in _unique_images(people):
        digest = scans[image].digest
        if digest and firsts.setdefault(digest, image) != image:
            copies.append(f"{name(image)} = {name(firsts[digest])}")
    return copies


def _unique_images(people: Iterable[Person]) -> dict[Path, None]:
    """Return each image once and in order, as a dict because it is fast to look up."""
    return dict.fromkeys(person.image for person in people)


def _subject_key(person: Person, scans: Mapping[Path, ImageScan]) -> tuple[object, ...]:
    return (scans[person.image].digest or person.image, person.box)


def _find_near(
    images: list[Path], others: list[Path], scans: Mapping[Path, ImageScan], near: int
) -> list[tuple[Path, Path, int]]:
    """Return the images with a hash at most `near` bits from another's, each with the nearest other and the bits."""
    hashed = [(image, bits) for image in images if (bits := scans[image].hash)]
    others_hashed = [(image, bits) for image in others if (bits := scans[image].hash)]
    if not hashed or not others_hashed:
        return []
    distances, indices = nearest_bit_strings([bits for _, bits in hashed], [bits for _, bits in others_hashed])
    matches = zip(hashed, distances.tolist(), indices.tolist(), strict=True)
    return [(image, others_hashed[index][0], distance) for (image, _), distance, index in matches if distance <= near]


_BLOCK_ROWS = 256
"""Rows of the table of distances that are computed at a time: 50 MB against 49,007 others."""


def nearest_bit_strings(of: Sequence[bytes], among: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each string of `of` the Hamming distance to the nearest one of `among`, and its index there.

    With bits as -1 and 1, the dot product of two strings is their length minus twice their distance. So this is a
    matrix product; it is exact, because float32 holds small whole numbers exactly. Memory is bounded, and 49,007 x
    20,992 strings of 256 bits take a few seconds. Among equally near strings the first wins; `among` isn't empty.
    """
    table = _to_signs(among).T
    distances, indices = np.zeros(len(of), np.int64), np.zeros(len(of), np.int64)
    for first in range(0, len(of), _BLOCK_ROWS):
        rows = slice(first, first + _BLOCK_ROWS)
        agreement = _to_signs(of[rows]) @ table
        indices[rows] = agreement.argmax(1)
        distances[rows] = (len(table) - agreement.max(1)) / 2
    return distances, indices


def _to_signs(strings: Sequence[bytes]) -> np.ndarray:
    """Return the bits of N strings as -1 and 1, N,bits."""
    packed = np.frombuffer(b"".join(strings), np.uint8).reshape(len(strings), -1)
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
