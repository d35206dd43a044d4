"""What the check reads and counts: lists, images, and what would become of each person.

In this order: read the source under each protocol of its card; open every image once, as sharding would; decide about
each person as sharding would, without pixels; compare what the source lists with the known releases.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from clef.console import Progress
from clef.cues import files
from clef.datasets import splits
from clef.datasets.cards import Card, Release
from clef.datasets.orientation import turn_person
from clef.datasets.person import EXAMPLES, Person, Reading
from clef.datasets.policies import RULES, allowed_policies
from clef.errors import DataError
from clef.geometry import clip, turned_size
from clef.sharding import frame
from clef.sharding.box_policy import Flags, Unusable, clip_subject_and_face

# The source under each protocol


@dataclass(frozen=True)
class SplitCounts:
    """What a source lists for a split."""

    images: int
    people: int
    classes: dict[str, int]
    """People of each class."""
    box_kind: str
    """What the subject's box surrounds: `person` or `face`."""
    left_out: dict[str, int] = field(default_factory=dict)
    """The people who are in none of `classes` because the reader leaves them out, by reason."""


@dataclass(frozen=True)
class ProtocolReading:
    """A dataset on disk as one protocol reads it. All dicts are by split."""

    card: Card
    """The card with its own policies, some of which may stop."""
    lenient_card: Card
    """The card with which the source was read: none of its policies stops."""
    listed: dict[str, SplitCounts]
    people: dict[str, list[Person]]
    """Everyone whom the reader returns, before the rules that compare splits and people."""
    readings: dict[str, Reading]
    """What sharding would start from: after those rules, and with cues."""


def read_protocols(
    cards: Mapping[str, Card],
    protocol: str,
    source: Path,
    cues: Path,
    progress: Progress | None = None,
) -> dict[str, ProtocolReading | DataError]:
    """Return the source as each protocol reads it, or the DataError that says why it can't.

    Args:
        cards: the card of each protocol, by the protocol's name.
        protocol: the protocol asked for.
        source: the folder of the dataset.
        cues: the folder of the cue files.
        progress: called with how many protocols were read.

    Raises:
        DataError: the source can't be read under the protocol asked for.
    """
    result: dict[str, ProtocolReading | DataError] = {}
    for name, card in cards.items():
        try:
            result[name] = _read_protocol(card, source, cues)
        except DataError as error:
            if name == protocol:
                raise
            result[name] = error
        if progress:
            progress("lists", len(result), len(cards))
    return result


def all_images(sources: Iterable[ProtocolReading | DataError]) -> set[Path]:
    """Return the images of all protocols together."""
    readable = [source for source in sources if isinstance(source, ProtocolReading)]
    return {person.image for source in readable for people in source.people.values() for person in people}


def _read_protocol(card: Card, source: Path, cues: Path) -> ProtocolReading:
    lenient = without_stops(card)
    readings = splits.read_listed(lenient, source)
    listed = {split: _count_listed(card, reading) for split, reading in readings.items()}
    people = {split: reading.people for split, reading in readings.items()}
    splits.apply_cross_split_rules(readings)
    # With cues, because a face that only a cue states is judged, too.
    files.join_cues(lenient, cues, readings, files.load_cue_files(lenient, cues))
    return ProtocolReading(card, lenient, listed, people, readings)


def _count_listed(card: Card, reading: Reading) -> SplitCounts:
    images = reading.images or len({person.image for person in reading.people})
    labels = Counter(label for person in reading.people for label in person.labels)
    classes = {name: labels[name] for name in card.classes}
    return SplitCounts(images, reading.listed, classes, reading.box_kind, dict(sorted(reading.left_out.items())))


def without_stops(card: Card) -> Card:
    """Return the card with the mildest other policy for each rule that would stop."""
    stopping = [rule for rule in RULES if card.policies.of(rule) == "raise"]
    milder = {rule: next(word for word in allowed_policies(rule) if word != "raise") for rule in stopping}
    return card.model_copy(update={"policies": card.policies.model_copy(update=milder)})


# The images

_HASH_SIDE = 16
BITS = _HASH_SIDE * _HASH_SIDE
"""Bits of the perceptual hash. With 64 bits, different views of one place often differ in only four; not with 256."""
MIN_SHORT_SIDE = 512
"""Pixels on the short side that are enough to scan an image; far larger JPEGs are decoded smaller, to save memory."""
_CHUNK = 16
"""Images that a process takes at a time."""


@dataclass(frozen=True)
class ImageScan:
    """What was found in an image when it was opened."""

    size: tuple[int, int] = (0, 0)
    """As in `clef.sharding.frame.Frame`, like the next; 0, 0 where the image can't be used."""
    orientation: int = 1
    digest: str = ""
    """The sha256 of the file."""
    hash: bytes | None = None
    """The perceptual hash; None for an image that shows too little to be told from others."""
    faults: tuple[str, ...] = ()
    """The rules that the image meets."""
    refused: str = ""
    """The rule by which the image can't be used, if there is one."""


def scan_images(
    paths: Iterable[Path], max_pixels: int, workers: int = 1, progress: Progress | None = None
) -> dict[Path, ImageScan]:
    """Open each image once, in `workers` processes that hold one image at a time, and return what was found."""
    ordered = sorted(set(paths))
    scans: dict[Path, ImageScan] = {}
    with _mapper(workers) as map_images:
        results = map_images(partial(scan_image, max_pixels=max_pixels), ordered)
        for path, scan in zip(ordered, results, strict=True):
            scans[path] = scan
            if progress:
                progress("looked at", len(scans), len(ordered))
    return scans


def scan_image(path: Path, max_pixels: int) -> ImageScan:
    """Open one image. A fault of the image is part of the result. Raises SetupError where the system won't read it."""
    try:
        decoded = frame.decode_frame(path, max_pixels, short_side=MIN_SHORT_SIDE)
    except frame.UnusableImage as fault:
        return ImageScan(refused=str(fault))
    return ImageScan(decoded.size, decoded.orientation, decoded.sha256, perceptual_hash(decoded.pixels), decoded.faults)


def perceptual_hash(image: Image.Image) -> bytes | None:
    """Return `BITS` bits, packed, that say which low frequencies of the image are strong.

    Returns None for an image that is almost flat, because its hash would be near that of any other.
    """
    import imagehash  # slow to import

    bits = np.asarray(imagehash.phash(image, hash_size=_HASH_SIDE).hash).ravel()
    # The hash compares with the median, so half of the bits are set unless most frequencies are absent.
    return np.packbits(bits).tobytes() if bits.sum() >= BITS / 4 else None


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterator[ImageScan]]]:
    """Yield `map`, or the same in `workers` processes."""
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers) as pool:
        yield partial(pool.map, chunksize=_CHUNK)


# What becomes of each person


@dataclass
class SplitOutcome:
    """What sharding would make of a split. The counts are by rule, or by a text where there is no rule."""

    people: list[Person] = field(default_factory=list)
    """The people who would be stored."""
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    images: defaultdict[str, set[Path]] = field(default_factory=lambda: defaultdict(set))
    """By rule, the images in which it was met, for rules that only decoding shows."""
    examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    spellings: dict[str, Counter[str]] = field(default_factory=dict)

    def met(self, rule: str) -> int:
        """Return how many people (or files, or rows) meet the rule."""
        return self.left_out[rule] + self.notes[rule]

    def _note(self, rule: str, person: Person) -> None:
        self.images[rule].add(person.image)
        if len(self.examples[rule]) < EXAMPLES:
            self.examples[rule].append(person.id)


def judge_split(card: Card, reading: Reading, scans: Mapping[Path, ImageScan]) -> SplitOutcome:
    """Return what sharding would decide about each person of a split. `card` must have no policy that stops."""
    spellings = {rule: Counter(counts) for rule, counts in reading.spellings.items()}
    result = SplitOutcome(left_out=Counter(reading.left_out), notes=Counter(reading.notes), spellings=spellings)
    for rule, examples in reading.examples.items():
        result.examples[rule] += examples
    for person in reading.people:
        flags = Flags(card.policies, person)
        for fact in _boxes_beyond(person, scans[person.image]):
            spellings.setdefault("image_rotated", Counter())[fact] += 1
        try:
            _judge_person(person, scans[person.image], flags)
        except Unusable as reason:
            result.left_out[str(reason)] += 1
            result._note(str(reason), person)
            continue
        result.people.append(person)
        result.notes.update(flags.met)
        for rule in flags.met:
            result._note(rule, person)
    return result


def _boxes_beyond(person: Person, scan: ImageScan) -> Iterator[str]:
    """Yield what the box of a person in an image that EXIF turns can't refer to; who chooses a policy wants to know."""
    if scan.orientation == 1 or scan.refused or person.box is None:
        return
    sizes = {"as stored": turned_size(scan.size, scan.orientation), "as turned": scan.size}
    yield from (f"box beyond the image {name}" for name, size in sizes.items() if clip(person.box, size) != person.box)


def _judge_person(person: Person, scan: ImageScan, flags: Flags) -> None:
    if scan.refused:
        flags.refuse(scan.refused)
    for rule in scan.faults:
        flags.add(rule)
    turned = turn_person(person, scan.orientation, scan.size, flags.policies.image_rotated)
    clip_subject_and_face(turned, scan.size, flags)


# Which release it is

MAX_DISTANCE = 0.2
"""A source whose counts are off by more than this share, on average, is not taken for a release."""


@dataclass(frozen=True)
class ReleaseCount:
    """A number that a release states, next to what the source lists."""

    split: str
    """A split, or several joined by `+`."""
    what: str
    """`images`, `people`, or a class."""
    expected: int
    found: int


@dataclass(frozen=True)
class ReleaseMatch:
    """How a source compares with a release."""

    name: str
    counts: list[ReleaseCount]

    @property
    def exact(self) -> bool:
        """Return whether every number is as stated."""
        return not self.differing

    @property
    def recognized(self) -> bool:
        """Return whether the source may be this release with something lost or added."""
        return self.distance <= MAX_DISTANCE

    @property
    def differing(self) -> list[ReleaseCount]:
        """Return the numbers that differ from what the release states."""
        return [count for count in self.counts if count.found != count.expected]

    @property
    def distance(self) -> float:
        """Return by what share the numbers are off, on average."""
        return sum(abs(c.found - c.expected) / max(c.expected, 1) for c in self.counts) / max(len(self.counts), 1)


def nearest_release(releases: Mapping[str, Release], splits: Mapping[str, SplitCounts]) -> ReleaseMatch | None:
    """Return the release whose counts come nearest; None when the card states none."""
    matches = [ReleaseMatch(name, list(_compare_counts(release, splits))) for name, release in releases.items()]
    return min((match for match in matches if match.counts), key=lambda match: match.distance, default=None)


def _compare_counts(release: Release, splits: Mapping[str, SplitCounts]) -> Iterator[ReleaseCount]:
    for what, stated in (("images", release.images), ("people", release.people)):
        for key, expected in stated.items():
            if joined := _joined_splits(key, splits):
                yield ReleaseCount(key, what, expected, sum(getattr(split, what) for split in joined))
    for key, classes in release.classes.items():
        if joined := _joined_splits(key, splits):
            for label, expected in classes.items():
                yield ReleaseCount(key, label, expected, sum(split.classes.get(label, 0) for split in joined))


def _joined_splits(key: str, splits: Mapping[str, SplitCounts]) -> list[SplitCounts]:
    """Return the splits that a key joins, or [] when one of them isn't there."""
    names = key.split("+")
    return [splits[name] for name in names] if all(name in splits for name in names) else []
