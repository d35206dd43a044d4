"""The report: what was found, as plain values, and as JSON that is the same for the same source."""

import json
from collections import Counter
from dataclasses import asdict, dataclass

from clef.data.check.leaks import Shared
from clef.data.check.releases import Listed, Match

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
