"""What a set of shards will be, known before any is made: its people, its jobs, and its fingerprint."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clef
from clef.cards import Card
from clef.cues import join
from clef.data import manifest as manifests
from clef.data import parts
from clef.data.finish import Facts
from clef.data.manifest import Manifest
from clef.data.parts import Job
from clef.datasets import Reading, splits
from clef.errors import ShardError

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
    cue_files: join.Roots
    fingerprint: str

    def jobs(self, of: int = 1) -> list[Job]:
        """Every shard of the set, to be made in `of` parts. The cues join here: call it once."""
        join.join(self.card, self.source, self.readings, self.cue_files)
        return parts.jobs(self.card, self.readings, self.out, self.fingerprint, of)

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
            "cues": join.made_by(self.cue_files),
        }


def make(card: Card, source: Path, out: Path, cues: Path | None) -> Plan:
    """Read the source. DataError when it is not as documented."""
    readings = splits.read(card, source)
    cue_files = join.cue_files(card, cues or source)
    return Plan(card, source, out, readings, cue_files, _fingerprint(card, readings, cue_files))


def _fingerprint(card: Card, readings: dict[str, Reading], cue_files: join.Roots) -> str:
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
    digest.update(join.digest(cue_files).encode())
    return digest.hexdigest()
