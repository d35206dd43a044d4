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
from tests.sharding import little


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("samples", [1, 3, 8, 1000])
def test_the_copy_is_the_set_that_sharding_would_have_made(
    samples: int, workers: int, little_source: Path, little_set: Path, tmp_path: Path
) -> None:
    # A person is left out of train, so places in the tars and positions in the source's list differ.
    direct = build.build(little.card(samples), little_source, tmp_path / "direct/little")
    before = little.hashes(little_set)
    copy = reshard(little_set, samples, tmp_path / "copy/little", workers)
    assert copy == direct
    assert little.hashes(tmp_path / "copy/little") == little.hashes(tmp_path / "direct/little")
    assert verify(tmp_path / "copy/little") == []
    assert copy.content(set(KINDS)) == manifests.load(little_set).content(set(KINDS))
    assert little.hashes(little_set) == before
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [".little.lock", "little"]


def test_there_and_back(little_set: Path, tmp_path: Path) -> None:
    reshard(little_set, 3, tmp_path / "a/little")
    reshard(tmp_path / "a/little", little.SHARD, tmp_path / "b/little")
    assert little.hashes(tmp_path / "b/little") == little.hashes(little_set)


def test_no_picture_is_made_anew(little_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_jpeg", lambda *_: pytest.fail("a picture was encoded"))
    reshard(little_set, 3, tmp_path / "little")


def test_a_copy_that_is_there_is_found_and_anything_else_is_refused(little_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "little"
    first = reshard(little_set, 3, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert reshard(little_set, 3, out) == first
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(ShardError, match="is there already, and not this copy"):
        reshard(little_set, 4, out)
    (tmp_path / "other").mkdir()
    with pytest.raises(ShardError, match="is there already"):
        reshard(little_set, 3, tmp_path / "other")


@pytest.mark.parametrize("place", [".", "below", ".."])
def test_jobs_may_be_reading_the_set(place: str, little_set: Path) -> None:
    before = little.hashes(little_set)
    with pytest.raises(ConfigError, match=r"the set lies there .*name another folder"):
        reshard(little_set, 3, little_set / place)
    assert little.hashes(little_set) == before


def test_no_samples_and_no_room(little_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--reshard 0: at least 1"):
        reshard(little_set, 0, tmp_path / "little")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(SetupError, match=r"the copy needs about [\d.]+ kB, 1.0 kB are free"):
        reshard(little_set, 3, tmp_path / "little")
    assert not (tmp_path / "little").exists()


def member(root: Path, split: str, place: int, kind: str) -> tuple[Path, int]:
    """The tar of a member, and where in it its bytes begin."""
    shards = SplitShards(root, split)
    row = shards.index[place]
    return root / shards.split.shards[int(row["shard"])].name, int(row["offset"][KINDS.index(kind)])


@pytest.mark.parametrize("kind", ["body.jpg", "meta.json", "agents.npy"])
def test_damage_is_found_while_copying(kind: str, little_set: Path, tmp_path: Path) -> None:
    spoilt = shutil.copytree(little_set, tmp_path / "spoilt")
    tar, offset = member(spoilt, "train", 5, kind)
    data = bytearray(tar.read_bytes())
    data[offset] ^= 1
    tar.write_bytes(data)
    for _ in range(2):  # what the first attempt left is not gone on with
        with pytest.raises(ShardError, match=r"spoilt: .*remove"):
            reshard(spoilt, 3, tmp_path / "copy/little")
        assert not (tmp_path / "copy/little").exists()
    shutil.copytree(little_set, spoilt, dirs_exist_ok=True)
    reshard(spoilt, 3, tmp_path / "copy/little")
    assert verify(tmp_path / "copy/little") == []


def test_a_damaged_index_and_a_cut_tar_are_found(little_set: Path, tmp_path: Path) -> None:
    spoilt = shutil.copytree(little_set, tmp_path / "spoilt")
    rows = np.load(spoilt / "val.index.npy")
    rows["offset"][0, 0] += 1
    np.save(spoilt / "val.index.npy", rows)
    with pytest.raises(ShardError, match=r"val.index.npy: damaged; remove"):
        reshard(spoilt, 3, tmp_path / "little")
    os.truncate(spoilt / "train-000000.tar", 1024)
    with pytest.raises(ShardError, match=r"train-000000.tar: 1024 bytes, .* damaged or cut short"):
        reshard(spoilt, 3, tmp_path / "little")


def test_class_counts_follow_the_samples(little_set: Path, tmp_path: Path) -> None:
    copy = reshard(little_set, 3, tmp_path / "little")
    for name, split in copy.splits.items():
        shards = SplitShards(tmp_path / "little", name, copy)
        for number, shard in enumerate(split.shards):
            places = np.flatnonzero(shards.index["shard"] == number)
            labels = [json.loads(shards.read(int(place), "meta.json") or b"")["labels"] for place in places]
            assert {label: sum(label in found for found in labels) for label in copy.classes} == shard.classes
