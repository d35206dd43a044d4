"""From what was listed and seen to the report."""

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from pathlib import Path

from clef.cards import Card
from clef.console import Progress
from clef.cues.files import image_key
from clef.data.check import leaks, releases
from clef.data.check.reading import Source
from clef.data.check.report import Copies, Met, Pair, Protocol, Report, Rows, Rule
from clef.data.check.survey import Look
from clef.data.check.tally import Tally, tally
from clef.errors import DataError
from clef.policies import RULES, describe

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
        release=releases.recognise(card.releases, source.listed),
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
