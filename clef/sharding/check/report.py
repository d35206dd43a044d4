"""From what was listed and seen to the report.

The report: what was found, as plain values, and as JSON that is the same for the same source.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

from clef.console import Progress
from clef.cues.files import image_key
from clef.datasets.cards import Card
from clef.datasets.policies import RULES, describe
from clef.errors import DataError
from clef.sharding.check import leaks, scan
from clef.sharding.check.leaks import Shared
from clef.sharding.check.scan import Listed, Look, Match, Source, Tally, tally

FORMAT = 1


@dataclass(frozen=True)
class Met:
    """A rule that was met in a split."""

    count: int
    """People; files or rows, where the rule is about those."""
    images: int | None
    """Images, where only decoding shows the fault."""
    examples: list[str]
    found: dict[str, int]
    """What was found, and how often, where that is a spelling."""


@dataclass(frozen=True)
class Rule:
    """A rule, what is done about it, and where it was met."""

    about: str
    policy: str
    splits: dict[str, Met]


@dataclass(frozen=True)
class Rows:
    """What a protocol would make of a split: `listed` is `counted` and all that is left out."""

    listed: int
    left_out: dict[str, int]
    notes: dict[str, int]
    counted: int


@dataclass(frozen=True)
class Protocol:
    """What a protocol would count, and what stops it: rules, `split: nobody is left`, or a file that is not there."""

    about: str
    stops: list[str]
    splits: dict[str, Rows]


@dataclass(frozen=True)
class Pair:
    """What two splits share, as the source lists them, and among those whom the protocol counts."""

    first: str
    second: str
    listed: Shared
    counted: Shared


@dataclass(frozen=True)
class Copies:
    """Images of a split with the same bytes as another of it."""

    images: int
    examples: list[str]


@dataclass(frozen=True)
class Report:
    """All that the check found, for one protocol of a card, and what the others would count."""

    dataset: str
    title: str
    protocol: str
    classes: list[str]
    near: int
    release: Match | None
    """The nearest that the card knows."""
    listed: dict[str, Listed]
    rules: dict[str, Rule]
    """All of them, also those that were not met."""
    copies: dict[str, Copies]
    pairs: list[Pair]
    protocols: dict[str, Protocol]

    @property
    def stops(self) -> list[str]:
        """What would stop sharding."""
        return self.protocols[self.protocol].stops

    @property
    def left_out(self) -> Counter[str]:
        """How many people would be left out, by rule or in words."""
        return sum((Counter(rows.left_out) for rows in self.protocols[self.protocol].splits.values()), Counter())

    @property
    def leaks(self) -> list[Pair]:
        """Splits that would share something all the same."""
        return [pair for pair in self.pairs if pair.counted.anything]

    def json(self) -> str:
        """The report as `shards/README.md` documents it: keys sorted, no times and no paths of this machine."""
        content = asdict(self) | {"format": FORMAT, "stops": self.stops, "left_out": self.left_out}
        if self.release:
            content["release"] |= {"exact": self.release.exact, "recognised": self.release.recognised}
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


Tallies = dict[str, Tally]
"""By split."""


def examine(
    sources: Mapping[str, Source | DataError],
    protocol: str,
    root: Path,
    looks: Mapping[Path, Look],
    near: int,
    progress: Progress | None = None,
) -> Report:
    """The report on `protocol`, with what every other one of `sources` would count. `root` is where the set lies."""
    source = sources[protocol]
    if isinstance(source, DataError):
        raise source
    ours, card = _tallies(source, looks), source.card
    name = partial(image_key, root)
    copies = {split: leaks.copies(people, looks, name) for split, people in source.people.items()}
    return Report(
        dataset=card.name,
        title=card.title,
        protocol=protocol,
        classes=list(card.classes),
        near=near,
        release=scan.recognise(card.releases, source.listed),
        listed=source.listed,
        rules={rule: _rule(rule, card, ours, f"{root}/") for rule in RULES},
        copies={split: Copies(len(found), found[: leaks.EXAMPLES]) for split, found in copies.items()},
        pairs=_pairs(source, ours, looks, near, name, progress),
        protocols={
            name: _unread(each, card, name, root)
            if isinstance(each, DataError)
            else _protocol(each, _tallies(each, looks))
            for name, each in sources.items()
        },
    )


def _tallies(source: Source, looks: Mapping[Path, Look]) -> Tallies:
    return {split: tally(source.mild, reading, looks) for split, reading in source.readings.items()}


def _rule(rule: str, card: Card, tallies: Tallies, prefix: str) -> Rule:
    met = {split: _met(rule, tally, prefix) for split, tally in tallies.items() if tally.met(rule)}
    return Rule(describe(rule), card.policies.of(rule), met)


def _met(rule: str, tally: Tally, prefix: str) -> Met:
    images = len(tally.images[rule]) if rule in tally.images else None
    found = dict(tally.found.get(rule, {}))
    return Met(tally.met(rule), images, [place.removeprefix(prefix) for place in tally.examples[rule]], found)


def _protocol(source: Source, tallies: Tallies) -> Protocol:
    met = {rule for rule in RULES for tally in tallies.values() if tally.met(rule)}
    stops = [rule for rule in RULES if rule in met and source.card.policies.of(rule) == "raise"]
    stops += [f"{split}: nobody is left" for split, tally in tallies.items() if not tally.people]
    return Protocol(
        _about(source.card, source.card.protocol),
        stops,
        {split: _rows(source.readings[split].listed, tally) for split, tally in tallies.items()},
    )


def _unread(error: DataError, card: Card, name: str, root: Path) -> Protocol:
    """A protocol that needs what the source has not."""
    return Protocol(_about(card, name), [str(error).replace(f"{root}/", "").splitlines()[0]], {})


def _about(card: Card, protocol: str) -> str:
    stated = card.protocols.get(protocol)
    return stated.about if stated else "val shares no image with another split"


def _rows(listed: int, tally: Tally) -> Rows:
    return Rows(listed, dict(sorted(tally.left_out.items())), dict(sorted(tally.notes.items())), len(tally.people))


def _pairs(
    source: Source,
    tallies: Tallies,
    looks: Mapping[Path, Look],
    near: int,
    name: leaks.Name,
    progress: Progress | None,
) -> list[Pair]:
    pairs = []
    every = list(combinations(source.people, 2))
    for first, second in every:
        people = source.people[first], source.people[second]
        found = leaks.compare(*people, looks, near)
        listed = leaks.shared(found, *people, looks, name)
        people = tallies[first].people, tallies[second].people  # some of those listed: nothing else can be found
        found = leaks.compare(*people, looks, near, only=found.images)
        pairs.append(Pair(first, second, listed, leaks.shared(found, *people, looks, name)))
        if progress:
            progress("compared", len(pairs), len(every))
    return pairs
