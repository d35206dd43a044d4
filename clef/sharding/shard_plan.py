"""What a set of shards will be, known before any is made: its people, its shards, and its fingerprint.

`make_plan` reads the source. Where a shard ends is fixed by the positions in the source's list, before anyone is left
out. A part is a share of the shards: many machines can each make one, and together they make the set.
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
from clef.sharding.finish import SplitFacts
from clef.sharding.shard_file import ShardFile


@dataclass(frozen=True, kw_only=True)
class ShardJob(ShardFile):
    """A shard to be made: `people` are those of the source's list from position `first` on."""

    card: Card
    first: int
    people: tuple[Person, ...]

    @property
    def size(self) -> int:
        """Return how many people it holds."""
        return len(self.people)


@dataclass(frozen=True)
class Part:
    """The part `number` (from 1) of `of` parts."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_part(text: str) -> Part:
    """Return the part that `--part 2/8` names. ConfigError for one that can't exist."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise ConfigError(f"--part {text}: i/n is expected, from 1/n to n/n, such as 2/8")
    return Part(int(number), int(of))


def jobs_of_part(jobs: Sequence[ShardJob], part: Part) -> list[ShardJob]:
    """Return the jobs of a part. All parts together have each job exactly once."""
    return [job for job, owner in zip(jobs, assign_parts(jobs, part.of), strict=True) if owner == part.number]


def assign_parts(jobs: Sequence[ShardJob], parts: int) -> list[int]:
    """Return the part (from 1) that makes each job.

    The largest jobs are assigned first, each to the part that has the fewest people so far.
    """
    owners, loads = [0] * len(jobs), [0] * parts
    for i in sorted(range(len(jobs)), key=lambda i: -jobs[i].size):
        lightest = loads.index(min(loads))
        loads[lightest] += jobs[i].size
        owners[i] = lightest + 1
    return owners


def shard_jobs(card: Card, readings: Mapping[str, Reading], out: Path, fingerprint: str, parts: int) -> list[ShardJob]:
    """Return every shard of a set, in order. DataError for a split without people."""
    step, result = card.storage.samples_per_shard, []
    for split, reading in readings.items():
        if not reading.people:
            raise DataError(f"{card.name}: split {split} lists nobody; is the source complete?")
        for number, first in enumerate(range(0, len(reading.people), step)):
            people = tuple(reading.people[first : first + step])
            result.append(
                ShardJob(
                    out=out, split=split, number=number, fingerprint=f"{fingerprint} {step}", parts=parts,
                    card=card, first=first, people=people,
                )
            )  # fmt: skip
    return result


_WITHOUT_EFFECT = (
    "source", "title", "layout", "request", "generator", "generator_options", "releases", "protocols", "test_splits",
    "block", "metric",
)  # fmt: skip
"""The keys of a card that change nothing in the shards, and so are not part of the fingerprint."""


@dataclass(frozen=True)
class ShardPlan:
    """What is to be made of a source, and where. Its people have no cues before `jobs` is called."""

    card: Card
    source: Path
    out: Path
    readings: dict[str, Reading]
    cue_files: files.CueFilesByRoot
    fingerprint: str

    def jobs(self, of: int = 1) -> list[ShardJob]:
        """Return every shard of the set, to be made in `of` parts. It joins the cues to the people: call it once."""
        files.join_cues(self.card, self.source, self.readings, self.cue_files)
        return shard_jobs(self.card, self.readings, self.out, self.fingerprint, of)

    def existing(self) -> Manifest | None:
        """Return the manifest of the set if it exists already. ShardError when it is that of another set."""
        if not manifests.path_of(self.out).exists():
            return None
        manifest = manifests.load(self.out)
        if manifest.source != self.fingerprint:
            raise ShardError(
                f"{self.out}: holds shards of another source, card, version or cues than {self.source} has now; "
                f"restore what they were made of, or name another folder with --out"
            )
        return manifest

    def split_facts(self) -> dict[str, SplitFacts]:
        """Return what the readings say of each split."""
        return {
            name: SplitFacts(
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
        """Return the manifest without its splits."""
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
            "storage": self.card.stored_as,
            "cues": files.makers_by_cue(self.cue_files),
        }


def make_plan(card: Card, source: Path, out: Path, cues: Path | None) -> ShardPlan:
    """Read the source and return the plan. DataError when the source is not as documented.

    Cue files are looked for in the folder `cues`, or in the source.
    """
    readings = splits.read(card, source)
    cue_files = files.load_cue_files(card, cues or source)
    return ShardPlan(card, source, out, readings, cue_files, _fingerprint(card, readings, cue_files))


def _fingerprint(card: Card, readings: dict[str, Reading], cue_files: files.CueFilesByRoot) -> str:
    """Return a hash of what is read and how it is stored, but not of where shards are cut."""
    excluded = dict.fromkeys(_WITHOUT_EFFECT, True) | {"storage": {"samples_per_shard"}}
    settings = card.model_dump_json(exclude=excluded)
    digest = hashlib.sha256(f"{manifests.FORMAT} {clef.__version__} {settings}".encode())
    sizes: dict[Path, int] = {}
    for name, reading in readings.items():
        digest.update(f"{name} {reading.box_kind} {len(reading.people)}\n".encode())
        for person in reading.people:
            if person.image not in sizes:
                sizes[person.image] = person.image.stat().st_size if person.image.exists() else -1
            identity = (person.id, person.box, person.labels, person.face, person.vad, sizes[person.image])
            digest.update(repr(identity).encode())
    digest.update(files.digest_roots(cue_files).encode())
    return digest.hexdigest()
