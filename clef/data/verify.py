"""Reads every byte of a set of shards and holds it against its manifest."""

import tarfile
from pathlib import Path

from clef import files
from clef.data import manifest as manifests
from clef.data.manifest import KINDS, Shard, Split
from clef.data.shards import SplitShards
from clef.errors import ShardError


def verify(root: Path) -> list[str]:
    """What is wrong with the set in `root`, a line a fault; an empty list means that it is whole."""
    manifest = manifests.load(root)
    faults = []
    stated = set()
    for name, split in manifest.splits.items():
        stated |= {shard.name for shard in split.shards}
        faults += _index_faults(root, split)
        for shard in split.shards:
            faults += _shard_faults(root / shard.name, shard)
        if not faults:
            faults += _member_faults(SplitShards(root, name, manifest))
    faults += [f"{path.name}: not in the manifest" for path in sorted(root.glob("*.tar")) if path.name not in stated]
    return faults


def _index_faults(root: Path, split: Split) -> list[str]:
    path = root / split.index
    if not path.is_file():
        return [f"{path.name}: missing"]
    return [] if files.sha256(path) == split.index_sha256 else [f"{path.name}: not the bytes that were written"]


def _shard_faults(path: Path, shard: Shard) -> list[str]:
    if not path.is_file():
        return [f"{shard.name}: missing"]
    if (size := path.stat().st_size) != shard.bytes:
        return [f"{shard.name}: {size} bytes, {shard.bytes} expected"]
    return [] if files.sha256(path) == shard.sha256 else [f"{shard.name}: not the bytes that were written"]


def _member_faults(split: SplitShards) -> list[str]:
    """Members that the index and the tars don't agree on."""
    stated = {
        (int(row["shard"]), f"{int(row['key']):08d}.{kind}")
        for row in split.index
        for kind, size in zip(KINDS, row["size"], strict=True)
        if size >= 0
    }
    found = set()
    for number, shard in enumerate(split.split.shards):
        try:
            with tarfile.open(split.root / shard.name) as tar:
                found |= {(number, name) for name in tar.getnames()}
        except tarfile.TarError as error:
            raise ShardError(f"{split.root / shard.name}: not a tar file: {error}") from None
    return [
        f"{split.split.shards[n].name}: member {name}: in the tar or the index, not in both"
        for n, name in sorted(stated ^ found)
    ]
