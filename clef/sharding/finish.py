"""From shards that are done to a set: the index of each split, and the manifest, which comes last."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clef import io
from clef.data import manifest as manifests
from clef.data.manifest import KINDS, Manifest, Shard, Split
from clef.datasets.policies import described
from clef.errors import DataError
from clef.sharding.shard_file import Rows, ShardFile

_OURS = re.compile(r"\..*\.tmp|.+-\d{6}\.(tar|rows\.npz)|.+\.index\.npy")
"""Names of files that a build makes, besides the manifest."""


@dataclass(frozen=True)
class Facts:
    """What is known of a split besides its shards. Counts are by rule; those of the shards are added to them."""

    listed: int
    positions: int
    left_out: Mapping[str, int]
    notes: Mapping[str, int]
    unusable: Mapping[str, str]
    box_kind: str


def join(
    out: Path, split: str, facts: Facts, shards: Sequence[tuple[ShardFile, Rows]], classes: Sequence[str]
) -> Split:
    """Write the index of a split from its shards' rows. Returns what the manifest says of the split.

    DataError when it holds nobody.
    """
    index = np.concatenate([_numbered(rows, number) for number, (_, rows) in enumerate(shards)])
    records = [rows.record for _, rows in shards]
    left_out = _summed(facts.left_out, records, "left_out")
    if not len(index):
        raise DataError(f"{out.name}: split {split}: nobody is left: {described(left_out)}")
    path = out / f"{split}.index.npy"
    with io.atomic(path) as file:
        np.save(file, index)
    counts = _summed({}, records, "classes")
    return Split(
        listed=facts.listed,
        positions=facts.positions,
        samples=len(index),
        members={kind: int((index["size"][:, k] >= 0).sum()) for k, kind in enumerate(KINDS)},
        content=content([rows.digests for _, rows in shards]),
        classes={label: counts[label] for label in classes},
        left_out=dict(sorted(left_out.items())),
        notes=dict(sorted(_summed(facts.notes, records, "notes").items())),
        unusable={**facts.unusable, **{name: rule for record in records for name, rule in record["unusable"].items()}},
        box_kind=facts.box_kind,
        index=path.name,
        index_sha256=io.sha256(path),
        shards=[_shard(shard, rows, classes) for shard, rows in shards],
    )


def save(out: Path, header: Mapping[str, Any], splits: Mapping[str, Split]) -> Manifest:
    """Write the manifest, which makes the set exist, and remove what only its making needed."""
    manifest = Manifest.model_validate({**header, "splits": splits})
    manifests.save(out, manifest)
    sweep(out, manifest)
    return manifest


def content(digests: Sequence[np.ndarray]) -> dict[str, str]:
    """The content hash of each kind, from the digests (n,kinds,32) of shards in order."""
    hashes = [hashlib.sha256() for _ in KINDS]
    for table in digests:
        for k, digest in enumerate(hashes):
            digest.update(table[:, k].tobytes())
    return {kind: digest.hexdigest() for kind, digest in zip(KINDS, hashes, strict=True)}


def sweep(out: Path, manifest: Manifest | None = None) -> None:
    """Remove what killed builds left in `out`: temporaries and, once there is a manifest, what it doesn't name.

    Only for who has the lock of the folder alone.
    """
    kept = set() if manifest is None else names(manifest)
    for path in list(out.glob("*")):
        stale = path.name.endswith(".tmp") if manifest is None else path.name not in kept
        if stale and _OURS.fullmatch(path.name):
            path.unlink()


def names(manifest: Manifest) -> set[str]:
    """The files of a set."""
    of_splits = {name for split in manifest.splits.values() for name in (split.index, *(s.name for s in split.shards))}
    return {manifests.NAME, *of_splits}


def _numbered(rows: Rows, number: int) -> np.ndarray:
    table = rows.index.copy()
    table["shard"] = number
    return table


def _summed(base: Mapping[str, int], records: Sequence[dict[str, Any]], name: str) -> Counter[str]:
    result = Counter(base)
    for record in records:
        result.update(record[name])
    return result


def _shard(shard: ShardFile, rows: Rows, classes: Sequence[str]) -> Shard:
    keys = [f"{key:08d}" for key in rows.index["key"][[0, -1]]] if len(rows.index) else [None, None]
    return Shard(
        name=shard.path.name,
        bytes=rows.record["bytes"],
        sha256=rows.record["sha256"],
        samples=len(rows.index),
        first_key=keys[0],
        last_key=keys[1],
        classes={label: rows.record["classes"].get(label, 0) for label in classes},
    )
