"""The report of the check as plain values, and as JSON that is the same for the same source.

`build_report` makes it from what `clef.sharding.check.scan` read. The names of the fields are the keys of the JSON.
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
from clef.sharding.check.leaks import Overlap
from clef.sharding.check.scan import ImageScan, ProtocolReading, ReleaseMatch, SplitCounts, SplitOutcome, judge_split

FORMAT = 1
"""The version of the JSON's form."""


@dataclass(frozen=True)
class RuleCount:
    """How often a rule was met in a split."""

    count: int
    """People; files or rows, where the rule is about those."""
    images: int | None
    """Images, where only decoding shows the fault."""
    examples: list[str]
    found: dict[str, int]
    """The spellings, or other facts, that met the rule and how many people each, for rules about labels."""


@dataclass(frozen=True)
class RuleReport:
    """A rule, its policy, and where it was met."""

    about: str
    policy: str
    splits: dict[str, RuleCount]


@dataclass(frozen=True)
class SplitReport:
    """What a protocol would make of a split, in people. `listed` is the sum of `counted` and all who are left out."""

    listed: int
    left_out: dict[str, int]
    notes: dict[str, int]
    counted: int
    """People who would be stored."""


@dataclass(frozen=True)
class ProtocolReport:
    """What a protocol would make of the source, and what stops it."""

    about: str
    stops: list[str]
    """Rules, `split: nobody is left`, or the error when the source lacks what the protocol needs."""
    splits: dict[str, SplitReport]


@dataclass(frozen=True)
class SplitPair:
    """What two splits share."""

    first: str
    second: str
    listed: Overlap
    """Among all whom the source lists."""
    counted: Overlap
    """Among those whom the protocol would store."""


@dataclass(frozen=True)
class Copies:
    """Images of a split with the same bytes as another image of that split."""

    images: int
    examples: list[str]


@dataclass(frozen=True)
class Report:
    """Everything that the check found for one protocol of a card, and what the other protocols would store."""

    dataset: str
    title: str
    protocol: str
    classes: list[str]
    near: int
    """Images count as similar up to this many different bits."""
    release: ReleaseMatch | None
    """The nearest release that the card states."""
    listed: dict[str, SplitCounts]
    rules: dict[str, RuleReport]
    """All rules, also those that were not met."""
    copies: dict[str, Copies]
    pairs: list[SplitPair]
    protocols: dict[str, ProtocolReport]

    @property
    def stops(self) -> list[str]:
        """Return what would stop sharding."""
        return self.protocols[self.protocol].stops

    @property
    def left_out(self) -> Counter[str]:
        """Return how many people would be left out, by rule or by a text."""
        splits = self.protocols[self.protocol].splits.values()
        return sum((Counter(split.left_out) for split in splits), Counter())

    @property
    def leaks(self) -> list[SplitPair]:
        """Return the pairs of splits that would still share something."""
        return [pair for pair in self.pairs if pair.counted.anything]

    def json(self) -> str:
        """Return the report as JSON, as shards/README.md documents it. It holds no times and no absolute paths."""
        content = asdict(self) | {"format": FORMAT, "stops": self.stops, "left_out": self.left_out}
        if self.release:
            content["release"] |= {"exact": self.release.exact, "recognised": self.release.recognized}
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


Outcomes = dict[str, SplitOutcome]
"""By split."""


def build_report(
    sources: Mapping[str, ProtocolReading | DataError],
    protocol: str,
    root: Path,
    scans: Mapping[Path, ImageScan],
    near: int,
    progress: Progress | None = None,
) -> Report:
    """Build the report on one protocol, with what every other protocol would store.

    Args:
        sources: what `scan.read_protocols` returned.
        protocol: the protocol to report on.
        root: the folder of the source; paths in the report are relative to it.
        scans: what `scan.scan_images` returned.
        near: images count as similar up to this many different bits.
        progress: called with how many pairs of splits were compared.

    Raises:
        DataError: the source can't be read under the protocol.
    """
    source = sources[protocol]
    if isinstance(source, DataError):
        raise source
    outcomes, card = _judge_splits(source, scans), source.card
    name = partial(image_key, root)
    copies = {split: leaks.find_copies(people, scans, name) for split, people in source.people.items()}
    return Report(
        dataset=card.name,
        title=card.title,
        protocol=protocol,
        classes=list(card.classes),
        near=near,
        release=scan.nearest_release(card.releases, source.listed),
        listed=source.listed,
        rules={rule: _report_rule(rule, card, outcomes, f"{root}/") for rule in RULES},
        copies={split: Copies(len(texts), texts[: leaks.EXAMPLES]) for split, texts in copies.items()},
        pairs=_compare_splits(source, outcomes, scans, near, name, progress),
        protocols={
            other: _report_unreadable(reading, card, other, root)
            if isinstance(reading, DataError)
            else _report_protocol(reading, _judge_splits(reading, scans))
            for other, reading in sources.items()
        },
    )


def _judge_splits(source: ProtocolReading, scans: Mapping[Path, ImageScan]) -> Outcomes:
    return {split: judge_split(source.lenient_card, reading, scans) for split, reading in source.readings.items()}


def _report_rule(rule: str, card: Card, outcomes: Outcomes, prefix: str) -> RuleReport:
    met = {split: _count_rule(rule, outcome, prefix) for split, outcome in outcomes.items() if outcome.met(rule)}
    return RuleReport(describe(rule), card.policies.of(rule), met)


def _count_rule(rule: str, outcome: SplitOutcome, prefix: str) -> RuleCount:
    return RuleCount(
        count=outcome.met(rule),
        images=len(outcome.images[rule]) if rule in outcome.images else None,
        examples=[example.removeprefix(prefix) for example in outcome.examples[rule]],
        found=dict(outcome.spellings.get(rule, {})),
    )


def _report_protocol(source: ProtocolReading, outcomes: Outcomes) -> ProtocolReport:
    met = {rule for rule in RULES for outcome in outcomes.values() if outcome.met(rule)}
    stops = [rule for rule in RULES if rule in met and source.card.policies.of(rule) == "raise"]
    stops += [f"{split}: nobody is left" for split, outcome in outcomes.items() if not outcome.people]
    return ProtocolReport(
        _describe_protocol(source.card, source.card.protocol),
        stops,
        {split: _report_split(source.readings[split].listed, outcome) for split, outcome in outcomes.items()},
    )


def _report_unreadable(error: DataError, card: Card, protocol: str, root: Path) -> ProtocolReport:
    """Return the report on a protocol that needs what the source doesn't have."""
    message = str(error).replace(f"{root}/", "").splitlines()[0]
    return ProtocolReport(_describe_protocol(card, protocol), [message], {})


def _describe_protocol(card: Card, protocol: str) -> str:
    stated = card.protocols.get(protocol)
    return stated.about if stated else "val shares no image with another split"


def _report_split(listed: int, outcome: SplitOutcome) -> SplitReport:
    return SplitReport(
        listed,
        left_out=dict(sorted(outcome.left_out.items())),
        notes=dict(sorted(outcome.notes.items())),
        counted=len(outcome.people),
    )


def _compare_splits(
    source: ProtocolReading,
    outcomes: Outcomes,
    scans: Mapping[Path, ImageScan],
    near: int,
    name: leaks.ImageNamer,
    progress: Progress | None,
) -> list[SplitPair]:
    pairs = []
    combined = list(combinations(source.people, 2))
    for first, second in combined:
        people = source.people[first], source.people[second]
        shared = leaks.find_shared_images(*people, scans, near)
        listed = leaks.measure_overlap(shared, *people, scans, name)
        # Those who would be stored are some of those who are listed: no other images can be shared.
        people = outcomes[first].people, outcomes[second].people
        shared = leaks.find_shared_images(*people, scans, near, only=shared.images)
        pairs.append(SplitPair(first, second, listed, leaks.measure_overlap(shared, *people, scans, name)))
        if progress:
            progress("compared", len(pairs), len(combined))
    return pairs
