"""Resharding: the set that sharding with that size would have made, without touching the source or the pictures."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from clef.data import manifest as manifests
from clef.data.manifest import KINDS
from clef.data.shards import SplitShards
from clef.errors import ConfigError, SetupError, ShardError
from clef.sharding import build, render
from clef.sharding.reshard import reshard
from clef.sharding.verify import verify
from tests.sharding import small_set


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("samples", [1, 3, 8, 1000])
def test_the_copy_is_the_set_that_sharding_would_have_made(
    samples: int, workers: int, small_source: Path, small_shards: Path, tmp_path: Path
) -> None:
    # A person is left out of train, so indices in the set and positions in the source's list differ.
    direct = build.build(small_set.card(samples), small_source, tmp_path / "direct/small")
    before = small_set.hashes(small_shards)
    copy = reshard(small_shards, samples, tmp_path / "copy/small", workers)
    assert copy == direct
    assert small_set.hashes(tmp_path / "copy/small") == small_set.hashes(tmp_path / "direct/small")
    assert verify(tmp_path / "copy/small") == []
    assert copy.content(set(KINDS)) == manifests.load(small_shards).content(set(KINDS))
    assert small_set.hashes(small_shards) == before
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [".small.lock", "small"]


def test_there_and_back(small_shards: Path, tmp_path: Path) -> None:
    reshard(small_shards, 3, tmp_path / "a/small")
    reshard(tmp_path / "a/small", small_set.SHARD, tmp_path / "b/small")
    assert small_set.hashes(tmp_path / "b/small") == small_set.hashes(small_shards)


def test_no_picture_is_made_anew(small_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_jpeg", lambda *_: pytest.fail("a picture was encoded"))
    reshard(small_shards, 3, tmp_path / "small")


def test_a_copy_that_is_there_is_found_and_anything_else_is_refused(small_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    first = reshard(small_shards, 3, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert reshard(small_shards, 3, out) == first
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(ShardError, match="exists already, and is not this copy"):
        reshard(small_shards, 4, out)
    (tmp_path / "other").mkdir()
    with pytest.raises(ShardError, match="exists already"):
        reshard(small_shards, 3, tmp_path / "other")


@pytest.mark.parametrize("folder", [".", "below", ".."])
def test_jobs_may_be_reading_the_set(folder: str, small_shards: Path) -> None:
    before = small_set.hashes(small_shards)
    with pytest.raises(ConfigError, match=r"overlaps the set's own folder .*name another folder"):
        reshard(small_shards, 3, small_shards / folder)
    assert small_set.hashes(small_shards) == before


def test_no_samples_and_no_room(small_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--reshard 0: at least 1"):
        reshard(small_shards, 0, tmp_path / "small")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(SetupError, match=r"the copy needs about [\d.]+ kB, 1.0 kB are free"):
        reshard(small_shards, 3, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def member(root: Path, split: str, index: int, kind: str) -> tuple[Path, int]:
    """The tar of a member, and where in it its bytes begin."""
    shards = SplitShards(root, split)
    row = shards.rows[index]
    return root / shards.split.shards[int(row["shard"])].name, int(row["offset"][KINDS.index(kind)])


@pytest.mark.parametrize("kind", ["body.jpg", "meta.json", "agents.npy"])
def test_damage_is_found_while_copying(kind: str, small_shards: Path, tmp_path: Path) -> None:
    spoilt = shutil.copytree(small_shards, tmp_path / "spoilt")
    tar, offset = member(spoilt, "train", 5, kind)
    data = bytearray(tar.read_bytes())
    data[offset] ^= 1
    tar.write_bytes(data)
    for _ in range(2):  # what the first attempt left is not gone on with
        with pytest.raises(ShardError, match=r"spoilt: .*restore it from a copy"):
            reshard(spoilt, 3, tmp_path / "copy/small")
        assert not (tmp_path / "copy/small").exists()
    shutil.copytree(small_shards, spoilt, dirs_exist_ok=True)
    reshard(spoilt, 3, tmp_path / "copy/small")
    assert verify(tmp_path / "copy/small") == []


def test_a_damaged_index_and_a_cut_tar_are_found(small_shards: Path, tmp_path: Path) -> None:
    spoilt = shutil.copytree(small_shards, tmp_path / "spoilt")
    rows = np.load(spoilt / "val.index.npy")
    rows["offset"][0, 0] += 1
    np.save(spoilt / "val.index.npy", rows)
    with pytest.raises(ShardError, match=r"val.index.npy: damaged; restore it"):
        reshard(spoilt, 3, tmp_path / "small")
    os.truncate(spoilt / "train-000000.tar", 1024)
    with pytest.raises(ShardError, match=r"train-000000.tar: 1024 bytes, .* damaged or cut short"):
        reshard(spoilt, 3, tmp_path / "small")


def test_class_counts_follow_the_samples(small_shards: Path, tmp_path: Path) -> None:
    copy = reshard(small_shards, 3, tmp_path / "small")
    for name, split in copy.splits.items():
        shards = SplitShards(tmp_path / "small", name, copy)
        for number, shard in enumerate(split.shards):
            indices = np.flatnonzero(shards.rows["shard"] == number)
            labels = [json.loads(shards.read(int(index), "meta.json") or b"")["labels"] for index in indices]
            assert {label: sum(label in found for found in labels) for label in copy.classes} == shard.classes
