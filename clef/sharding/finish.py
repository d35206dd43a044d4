"""From finished shards to a set: the index of each split, and the manifest, which comes last."""

import hashlib
import re
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from clef import io
from clef.data import manifest as manifests
from clef.data.manifest import KINDS, Manifest, Shard, Split
from clef.datasets.policies import describe_counts
from clef.errors import DataError, ShardError
from clef.sharding.shard_file import ShardFile, ShardRows

_BUILD_FILES = re.compile(r"\..*\.tmp|.+-\d{6}\.(tar|rows\.npz)|.+\.index\.npy")
"""Names of the files that a build makes, besides the manifest."""


@dataclass(frozen=True)
class SplitFacts:
    """What is known of a split besides its shards. Counts are by rule; those of the shards are added to them."""

    listed: int
    positions: int
    left_out: Mapping[str, int]
    notes: Mapping[str, int]
    unusable: Mapping[str, str]
    box_kind: str


def join_shards(
    out: Path, split: str, facts: SplitFacts, shards: Sequence[tuple[ShardFile, ShardRows]], classes: Sequence[str]
) -> Split:
    """Write the index of a split from its shards' rows. Returns what the manifest says of the split.

    Raises DataError when nobody is left in it.
    """
    index = np.concatenate([_numbered_rows(rows, number) for number, (_, rows) in enumerate(shards)])
    records = [rows.record for _, rows in shards]
    left_out = _sum_counts(facts.left_out, records, "left_out")
    if not len(index):
        raise DataError(f"{out.name}: split {split}: nobody is left: {describe_counts(left_out)}")
    path = out / f"{split}.index.npy"
    with io.atomic(path) as file:
        np.save(file, index)
    counts = _sum_counts({}, records, "classes")
    return Split(
        listed=facts.listed,
        positions=facts.positions,
        samples=len(index),
        members={kind: int((index["size"][:, k] >= 0).sum()) for k, kind in enumerate(KINDS)},
        content=content_hashes([rows.digests for _, rows in shards]),
        classes={label: counts[label] for label in classes},
        left_out=dict(sorted(left_out.items())),
        notes=dict(sorted(_sum_counts(facts.notes, records, "notes").items())),
        unusable={**facts.unusable, **{name: rule for record in records for name, rule in record["unusable"].items()}},
        box_kind=facts.box_kind,
        index=path.name,
        index_sha256=io.sha256(path),
        shards=[_shard_entry(shard, rows, classes) for shard, rows in shards],
    )


def finish_set(out: Path, header: Mapping[str, Any], splits: Mapping[str, Split]) -> Manifest:
    """Write the manifest, with which the set exists, and remove the files that only the build needed."""
    manifest = Manifest.model_validate({**header, "splits": splits})
    manifests.save(out, manifest)
    remove_leftovers(out, manifest)
    return manifest


def content_hashes(digests: Sequence[np.ndarray]) -> dict[str, str]:
    """Return the content hash of each kind, from the digests (n,kinds,32) of shards in order."""
    hashes = [hashlib.sha256() for _ in KINDS]
    for table in digests:
        for k, digest in enumerate(hashes):
            digest.update(table[:, k].tobytes())
    return {kind: digest.hexdigest() for kind, digest in zip(KINDS, hashes, strict=True)}


def check_folder(out: Path) -> None:
    """Refuse to begin a set where it would mix with, or write over, what no build has left. Raises ShardError."""
    visible = [path for path in sorted(out.glob("*")) if not path.name.startswith(".")]
    foreign = [path for path in visible if not _is_left_by_build(path)]
    if len(foreign) < len(visible):  # a build was here: files of other names do no harm
        foreign = [path for path in foreign if _BUILD_FILES.fullmatch(path.name)]
    if foreign:
        more = f" and {len(foreign) - 1:,} more" if len(foreign) > 1 else ""
        raise ShardError(f"{out}: holds {foreign[0].name}{more}, not part of a set; name another folder with --out")


def _is_left_by_build(path: Path) -> bool:
    """Return whether a build made the file: by its name, and a tar without rows by its time: others name theirs so."""
    if not (_BUILD_FILES.fullmatch(path.name) and path.is_file()):
        return False
    if path.suffix != ".tar" or path.with_suffix(".rows.npz").exists():
        return True
    try:
        with tarfile.open(path) as tar:
            return all(member.mtime == 0 for member in islice(tar, 1))
    except tarfile.TarError:
        return False


def remove_leftovers(out: Path, manifest: Manifest | None = None) -> None:
    """Remove what killed builds left in `out`: temporary files and, with a manifest, build files that it doesn't name.

    The caller must hold the lock of the folder alone.
    """
    kept = set() if manifest is None else file_names(manifest)
    begins = (".",) if manifest is None else (".", *(f"{split}{mark}" for split in manifest.splits for mark in "-."))
    for path in list(out.glob("*")):
        if path.name not in kept and path.name.startswith(begins) and _is_left_by_build(path):
            path.unlink()


def file_names(manifest: Manifest) -> set[str]:
    """Return the names of a set's files."""
    of_splits = {name for split in manifest.splits.values() for name in (split.index, *(s.name for s in split.shards))}
    return {manifests.FILE_NAME, *of_splits}


def _numbered_rows(rows: ShardRows, number: int) -> np.ndarray:
    table = rows.index.copy()
    table["shard"] = number
    return table


def _sum_counts(base: Mapping[str, int], records: Sequence[dict[str, Any]], name: str) -> Counter[str]:
    result = Counter(base)
    for record in records:
        result.update(record[name])
    return result


def _shard_entry(shard: ShardFile, rows: ShardRows, classes: Sequence[str]) -> Shard:
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
