"""Which known release of a dataset a source is, by its counts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clef.cards import Release

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
