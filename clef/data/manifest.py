"""The manifest of a set of shards, `manifest.json`: written last, so without it the set does not exist.

`shards/README.md` specifies the format. Imports no torch: the planner reads manifests too.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError, field_validator

from clef import io
from clef.config import InputName, Strict
from clef.errors import ShardError, raise_if_system_error

FORMAT = 3
"""The version of the shard format."""
FILE_NAME = "manifest.json"
KINDS = (
    "context.jpg",
    "scene.jpg",
    "body.jpg",
    "face.jpg",
    "depth.png",
    "landmarks.npy",
    "pose.npy",
    "regions.npy",
    "agents.npy",
    "meta.json",
)
"""The kinds of members that a sample may have, in the order of the index's columns."""

MEMBER_OF_INPUT: dict[InputName, str] = {
    "context": "context.jpg",
    "scene": "scene.jpg",
    "scene_without_face": "scene.jpg",
    "body": "body.jpg",
    "face": "face.jpg",
    "scene_without_extended_face": "scene.jpg",
    "scene_without_person": "scene.jpg",
    "depth": "depth.png",
    "landmarks": "landmarks.npy",
    "pose": "pose.npy",
    "regions": "regions.npy",
    "agents": "agents.npy",
}
"""The member that each input of a batch is decoded from.

Its order is fixed: the row of an input in the table of augmentation draws is its place here. New inputs go to the end.
"""

INDEX_DTYPE = np.dtype(
    [("key", "<i8"), ("shard", "<i4"), ("offset", "<i8", (len(KINDS),)), ("size", "<i8", (len(KINDS),))]
)
"""A row of the binary index: of each kind, where the member's bytes begin in the tar and how many (-1: absent)."""


class Shard(Strict):
    """One tar file."""

    name: str
    bytes: int
    sha256: str
    samples: int
    first_key: str | None
    last_key: str | None
    classes: dict[str, int]


class Split(Strict):
    """One split: its shards in order, and what became of the people whom the source lists."""

    listed: int
    positions: int
    """How many of them have a position in the source's list. Shards are cut by positions, and keys are positions."""
    samples: int
    members: dict[str, int]
    """How many samples have a member of each kind."""
    content: dict[str, str]
    """A hash of all members of a kind, in order, that doesn't depend on where shards are cut."""
    classes: dict[str, int]
    left_out: dict[str, int]
    """How many were left out, by rule of `clef.datasets.policies` or in words: `listed` is `samples` plus these."""
    notes: dict[str, int]
    """What was repaired or flagged, and how often, by rule or in words."""
    unusable: dict[str, str]
    """The rule that left out each person whose image or box could not be used, by id."""
    box_kind: str
    """What the subject's box surrounds: a person or a face."""
    index: str
    index_sha256: str
    shards: list[Shard]

    @field_validator("members", "content")
    @classmethod
    def _every_kind(cls, value: dict[str, Any]) -> dict[str, Any]:
        if lacking := [kind for kind in KINDS if kind not in value]:
            raise ValueError(f"nothing is said of {', '.join(lacking)}")
        return value


class Manifest(Strict):
    """A sharded dataset."""

    format: Literal[3]
    dataset: str
    task: Literal["multi_label", "single_label"]
    classes: list[str]
    vad: bool
    source: str
    """A hash of what was read: the people as listed, their files' sizes, and the settings of storage."""
    protocol: str
    """How the set was cut into splits and counted."""
    policies: dict[str, str]
    """What was done about each fault; the splits' counts say how often."""
    samples_per_shard: int
    tool: str
    storage: dict[str, int] | None = None
    """The card's settings of storage; None in sets that an earlier version made."""
    cues: dict[str, str] = {}
    """What extracted each cue that was joined: name and version."""
    splits: dict[str, Split]

    def split(self, name: str) -> Split:
        """Return the split called `name`. Raises ShardError that lists the splits there are."""
        if name not in self.splits:
            raise ShardError(f"{self.dataset}: no split {name!r} in its shards; there are: {', '.join(self.splits)}")
        return self.splits[name]

    def content(self, kinds: set[str]) -> dict[str, str]:
        """Return the content hash of each of these member kinds in every split, by `split/kind`."""
        return {f"{name}/{kind}": split.content[kind] for name, split in self.splits.items() for kind in sorted(kinds)}


def path_of(root: Path) -> Path:
    """Return the path of the manifest of the set in `root`."""
    return root / FILE_NAME


def remedy(dataset: str) -> str:
    """Return what to do about a file of a set that is damaged, for an error's text. The others may well be sound."""
    command = f"python -m clef.shard --dataset {dataset} --out FOLDER"
    return f"restore it from a copy, or make the shards again in another folder: {command}"


def load(root: Path) -> Manifest:
    """Read the manifest of the set in `root`. ShardError when there is none, or one that this version can't read."""
    path = path_of(root)
    hint = f"make the shards with: python -m clef.shard --dataset {root.name} --out {root.parent}"
    again = remedy(root.name)
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ShardError(f"{path}: no shards here (the manifest is written last); {hint}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise_if_system_error(error, path)
        raise ShardError(f"{path}: damaged: {error}; {again}") from None
    if not isinstance(content, dict):
        raise ShardError(f"{path}: damaged: not a manifest; {again}")
    if content.get("format") != FORMAT:
        raise ShardError(
            f"{path}: format {content.get('format')!r}, this version reads {FORMAT}; make the shards again in another "
            f"folder: python -m clef.shard --dataset {root.name} --out FOLDER"
        )
    try:
        manifest = Manifest.model_validate({key: value for key, value in content.items() if key != "checksum"})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ")
        raise ShardError(f"{path}: damaged: {where}: {what}; {again}") from None
    if content.get("checksum") != _checksum(manifest):
        raise ShardError(f"{path}: damaged: not what was written (checksum); {again}")
    return manifest


def save(root: Path, manifest: Manifest) -> None:
    """Write the manifest, which makes the set exist."""
    io.write(path_of(root), serialize(manifest))


def serialize(manifest: Manifest) -> bytes:
    """Return the bytes of `manifest.json`: its content, and a hash of it."""
    content = _content(manifest) | {"checksum": _checksum(manifest)}
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _content(manifest: Manifest) -> dict[str, Any]:
    content = manifest.model_dump(mode="json")
    if manifest.storage is None:  # so that the checksum of an older set stays right
        del content["storage"]
    return content


def _checksum(manifest: Manifest) -> str:
    text = json.dumps(_content(manifest), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
