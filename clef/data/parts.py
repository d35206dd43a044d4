"""Which shards there are to make, and which of them fall to a part, so that many machines can make one set.

Where a shard ends is fixed by the source's list before anything is skipped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clef.cards import Card
from clef.data.shard_file import ShardFile
from clef.datasets import Person, Reading
from clef.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Job(ShardFile):
    """A shard to make: `people` are those of the source's list from position `first` on."""

    card: Card
    first: int
    people: tuple[Person, ...]

    @property
    def size(self) -> int:
        """How many people."""
        return len(self.people)


@dataclass(frozen=True)
class Part:
    """The part `number` of `of`, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse(text: str) -> Part:
    """The part that `--part 2/8` names. ConfigError for one that there can't be."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise ConfigError(f"--part {text}: i/n is expected, from 1/n to n/n, such as 2/8")
    return Part(int(number), int(of))


def share(jobs: Sequence[Job], part: Part) -> list[Job]:
    """The jobs of a part. All parts together have each job once, and none has a shard more to do than another."""
    return [job for job, owner in zip(jobs, owners(jobs, part.of), strict=True) if owner == part.number]


def owners(jobs: Sequence[Job], parts: int) -> list[int]:
    """The part (from 1) that makes each job: the largest first, each for the part that has least to do so far."""
    result, loads = [0] * len(jobs), [0] * parts
    for place in sorted(range(len(jobs)), key=lambda place: -jobs[place].size):
        lightest = loads.index(min(loads))
        loads[lightest] += jobs[place].size
        result[place] = lightest + 1
    return result


def jobs(card: Card, readings: Mapping[str, Reading], out: Path, fingerprint: str, parts: int) -> list[Job]:
    """Every shard of a set, in order. DataError for a split without people."""
    step, found = card.storage.samples_per_shard, []
    for split, reading in readings.items():
        if not reading.people:
            raise DataError(f"{card.name}: split {split} lists nobody; is the source complete?")
        for number, first in enumerate(range(0, len(reading.people), step)):
            people = tuple(reading.people[first : first + step])
            made_of = f"{fingerprint} {step}"
            found.append(
                Job(
                    out=out, split=split, number=number, fingerprint=made_of, parts=parts,
                    card=card, first=first, people=people,
                )
            )  # fmt: skip
    return found
