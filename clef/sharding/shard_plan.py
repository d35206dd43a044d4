"""What a set of shards will be, known before any is made: its people, its jobs, and its fingerprint.

Which shards there are to make, and which of them fall to a part, so that many machines can make one set.

Where a shard ends is fixed by the source's list before anything is skipped.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clef
from clef.cues import files
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.datasets import Person, Reading, splits
from clef.datasets.cards import Card
from clef.errors import ConfigError, DataError, ShardError
from clef.sharding.finish import Facts
from clef.sharding.shard_file import ShardFile


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


_TOLD = (
    "source", "title", "layout", "request", "generator", "generator_options", "releases", "protocols", "test_splits",
    "block",
)  # fmt: skip
"""What a card says that changes nothing in the shards."""


@dataclass(frozen=True)
class Plan:
    """What is to be made of a source, and where. Its people have no cues before `jobs` was called."""

    card: Card
    source: Path
    out: Path
    readings: dict[str, Reading]
    cue_files: files.Roots
    fingerprint: str

    def jobs(self, of: int = 1) -> list[Job]:
        """Every shard of the set, to be made in `of` parts. The cues join here: call it once."""
        files.join(self.card, self.source, self.readings, self.cue_files)
        return jobs(self.card, self.readings, self.out, self.fingerprint, of)

    def found(self) -> Manifest | None:
        """The manifest of the set, if it is there already. ShardError when it is another set's."""
        if not manifests.path_of(self.out).exists():
            return None
        manifest = manifests.load(self.out)
        if manifest.source != self.fingerprint:
            raise ShardError(
                f"{self.out}: holds shards of another source, card, version or cues than {self.source} has now; "
                f"remove that folder, or name another with --out"
            )
        return manifest

    def facts(self) -> dict[str, Facts]:
        """What the readings say of each split."""
        return {
            name: Facts(
                listed=reading.listed,
                positions=len(reading.people),
                left_out=reading.left_out,
                notes=reading.notes,
                unusable={},
                box_kind=reading.box_kind,
            )
            for name, reading in self.readings.items()
        }

    def header(self) -> dict[str, Any]:
        """The manifest without its splits."""
        return {
            "format": manifests.FORMAT,
            "dataset": self.card.name,
            "task": self.card.task,
            "classes": list(self.card.classes),
            "vad": self.card.vad,
            "source": self.fingerprint,
            "protocol": self.card.protocol,
            "policies": self.card.policies.model_dump(),
            "samples_per_shard": self.card.storage.samples_per_shard,
            "tool": f"clef {clef.__version__}",
            "cues": files.made_by(self.cue_files),
        }


def make(card: Card, source: Path, out: Path, cues: Path | None) -> Plan:
    """Read the source. DataError when it is not as documented."""
    readings = splits.read(card, source)
    cue_files = files.cue_files(card, cues or source)
    return Plan(card, source, out, readings, cue_files, _fingerprint(card, readings, cue_files))


def _fingerprint(card: Card, readings: dict[str, Reading], cue_files: files.Roots) -> str:
    """A hash of what is read and how it is stored, but for where shards are cut."""
    told = dict.fromkeys(_TOLD, True) | {"storage": {"samples_per_shard"}}
    stored = card.model_dump_json(exclude=told)
    digest = hashlib.sha256(f"{manifests.FORMAT} {clef.__version__} {stored}".encode())
    sizes: dict[Path, int] = {}
    for name, reading in readings.items():
        digest.update(f"{name} {reading.box_kind} {len(reading.people)}\n".encode())
        for person in reading.people:
            if person.image not in sizes:
                sizes[person.image] = person.image.stat().st_size if person.image.exists() else -1
            facts = (person.id, person.box, person.labels, person.face, person.vad, sizes[person.image])
            digest.update(repr(facts).encode())
    digest.update(files.cues_digest(cue_files).encode())
    return digest.hexdigest()
