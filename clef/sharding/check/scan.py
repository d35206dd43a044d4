"""Which known release of a dataset a source is, by its counts.

What a source lists, under each protocol of its card.

Every image of a source read once, as sharding will read it: whether it can be used, its size, bytes and look.

What becomes of the people of a split, rule by rule: sharding's own decisions, taken without pixels.
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
from clef.datasets.person import EXAMPLES, Person, Reading
from clef.datasets.policies import RULES, allowed
from clef.errors import DataError
from clef.sharding import frame
from clef.sharding.box_policy import Flags, Unusable, decide

FAR = 0.2
"""A source whose counts are off by more than this share, on average, is not taken for a release."""


@dataclass(frozen=True)
class Listed:
    """What a source lists for a split."""

    images: int
    people: int
    classes: dict[str, int]
    box_kind: str


@dataclass(frozen=True)
class Count:
    """A number that a release states, and what was found. `split` may be several, joined by `+`."""

    split: str
    what: str
    """images, people, or a class."""
    expected: int
    found: int


@dataclass(frozen=True)
class Match:
    """How a source compares with a release."""

    name: str
    counts: list[Count]

    @property
    def exact(self) -> bool:
        """Whether every number is as stated."""
        return not self.differing

    @property
    def recognised(self) -> bool:
        """Whether the source may well be this release, with something lost or added."""
        return self.distance <= FAR

    @property
    def differing(self) -> list[Count]:
        """The numbers that are not."""
        return [count for count in self.counts if count.found != count.expected]

    @property
    def distance(self) -> float:
        """How far the numbers are off, as a share, on average."""
        return sum(abs(c.found - c.expected) / max(c.expected, 1) for c in self.counts) / max(len(self.counts), 1)


def recognise(releases: Mapping[str, Release], splits: Mapping[str, Listed]) -> Match | None:
    """The release whose counts come nearest; None when none is known."""
    matches = [Match(name, list(_counts(release, splits))) for name, release in releases.items()]
    return min((match for match in matches if match.counts), key=lambda match: match.distance, default=None)


def _counts(release: Release, splits: Mapping[str, Listed]) -> Iterator[Count]:
    for what, stated in (("images", release.images), ("people", release.people)):
        for key, expected in stated.items():
            if parts := _parts(key, splits):
                yield Count(key, what, expected, sum(getattr(part, what) for part in parts))
    for key, classes in release.classes.items():
        if parts := _parts(key, splits):
            for label, expected in classes.items():
                yield Count(key, label, expected, sum(part.classes.get(label, 0) for part in parts))


def _parts(key: str, splits: Mapping[str, Listed]) -> list[Listed]:
    """The splits that a key joins; none when one of them is not there."""
    names = key.split("+")
    return [splits[name] for name in names] if all(name in splits for name in names) else []


SIDE = 16
BITS = SIDE * SIDE
"""Bits of the perceptual hash. Of 64, different views of one place often share all but four; not so of 256."""
SEEN = 512
"""Pixels on the short side that a look needs at least; far larger JPEGs are decoded smaller, to bound memory."""
_CHUNK = 16
"""Images that a process takes at a time."""


@dataclass(frozen=True)
class Look:
    """What an image turned out to be."""

    size: tuple[int, int] = (0, 0)
    """Width and height; 0, 0 where it can't be used."""
    digest: str = ""
    """The sha256 of the file."""
    hash: bytes | None = None
    """The perceptual hash; None for an image that shows too little to be told from others."""
    faults: tuple[str, ...] = ()
    """Rules that were met in reading it."""
    refused: str = ""
    """The rule by which it can't be used."""


def survey(
    paths: Iterable[Path], max_pixels: int, workers: int = 1, progress: Progress | None = None
) -> dict[Path, Look]:
    """A look at each image, the pixels dropped at once: a process holds one image at a time."""
    ordered = sorted(set(paths))
    looks: dict[Path, Look] = {}
    with _mapping(workers) as each:
        for path, look in zip(ordered, each(partial(look_at, max_pixels=max_pixels), ordered), strict=True):
            looks[path] = look
            if progress:
                progress("looked at", len(looks), len(ordered))
    return looks


def look_at(path: Path, max_pixels: int) -> Look:
    """A look at one image."""
    try:
        read = frame.decoded(path, max_pixels, short_side=SEEN)
    except frame.BadImage as fault:
        return Look(refused=str(fault))
    return Look(read.size, read.digest, perceptual_hash(read.image), read.faults)


def perceptual_hash(image: Image.Image) -> bytes | None:
    """256 bits that say which low frequencies of the image are strong; those of a flat one would fit any other."""
    import imagehash  # with SciPy's transforms: slow to import

    bits = np.asarray(imagehash.phash(image, hash_size=SIDE).hash).ravel()
    # Half of the bits are set, by the median, unless most frequencies are absent.
    return np.packbits(bits).tobytes() if bits.sum() >= BITS / 4 else None


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterator[Look]]]:
    if workers == 1:
        yield map
        return
    with ProcessPoolExecutor(workers) as pool:
        yield partial(pool.map, chunksize=_CHUNK)


@dataclass
class Tally:
    """A split: who would be counted, and by rule (or in words) who is left out or noted, with examples."""

    people: list[Person] = field(default_factory=list)
    """Who would be counted."""
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    images: defaultdict[str, set[Path]] = field(default_factory=lambda: defaultdict(set))
    """By rule, the images in which it was met, where only decoding shows it."""
    examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    found: dict[str, Counter[str]] = field(default_factory=dict)

    def met(self, rule: str) -> int:
        """People (or files, or rows) of whom the rule speaks."""
        return self.left_out[rule] + self.notes[rule]

    def _note(self, rule: str, person: Person) -> None:
        self.images[rule].add(person.image)
        if len(self.examples[rule]) < EXAMPLES:
            self.examples[rule].append(person.id)


def unstopped(card: Card) -> Card:
    """The card with the mildest other policy for each rule that would stop."""
    stopping = [rule for rule in RULES if card.policies.of(rule) == "raise"]
    milder = {rule: next(word for word in allowed(rule) if word != "raise") for rule in stopping}
    return card.model_copy(update={"policies": card.policies.model_copy(update=milder)})


def tally(card: Card, reading: Reading, looks: Mapping[Path, Look]) -> Tally:
    """What sharding would decide about each person of a split that was read and settled with an unstopped card."""
    result = Tally(left_out=Counter(reading.left_out), notes=Counter(reading.notes), found=reading.found)
    for rule, places in reading.examples.items():
        result.examples[rule] += places
    for person in reading.people:
        flags = Flags(card.policies, person)
        try:
            _judge(person, looks[person.image], flags)
        except Unusable as reason:
            result.left_out[str(reason)] += 1
            result._note(str(reason), person)
            continue
        result.people.append(person)
        result.notes.update(flags.met)
        for rule in flags.met:
            result._note(rule, person)
    return result


def _judge(person: Person, look: Look, flags: Flags) -> None:
    if look.refused:
        flags.refuse(look.refused)
    for rule in look.faults:
        flags.add(rule)
    decide(person, look.size, flags)


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
    files.join(mild, cues, readings, files.cue_files(mild, cues))  # a face that only a cue knows is judged, too
    return Source(card, mild, listed, people, readings)


def _listed(card: Card, reading: Reading) -> Listed:
    images = reading.images or len({person.image for person in reading.people})
    found = Counter(label for person in reading.people for label in person.labels)
    return Listed(images, reading.listed, {label: found[label] for label in card.classes}, reading.box_kind)
