"""Shards: the same bytes however they are made, whole or not there, readable by stock webdataset."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from clef import io
from clef.data import manifest as manifests
from clef.data.manifest import KINDS
from clef.data.shards import SplitShards
from clef.datasets import cards
from clef.datasets.cards import Card
from clef.errors import SetupError, ShardError
from clef.sharding import build
from clef.sharding.verify import verify
from tests.faults import refused
from tests.sharding import small_set


@pytest.fixture(scope="module")
def card() -> Card:
    """emotic_demo in shards of 40, so that even small sets have several."""
    card = cards.load("emotic_demo")
    return card.model_copy(update={"storage": card.storage.model_copy(update={"samples_per_shard": 40})})


@pytest.fixture(scope="module")
def built(card: Card, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "emotic_demo"
    build.build(card, sources / "emotic_demo", out, workers=1)
    return out


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: io.sha256(path) for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_one_and_four_workers_write_the_same_bytes(card: Card, sources: Path, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "emotic_demo"
    build.build(card, sources / "emotic_demo", out, workers=4)
    assert hashes(out) == hashes(built)
    assert len(list(out.glob("train-*.tar"))) > 2


@pytest.mark.slow
def test_a_killed_build_goes_on_to_the_same_bytes(card: Card, sources: Path, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "emotic_demo"
    code = (
        "import sys; from pathlib import Path; from clef.datasets import cards; from clef.sharding import build\n"
        "import os, signal\n"
        "real, done = build.write_shard, []\n"
        "def once(job, tick):\n"
        "    real(job, (lambda n: os.kill(os.getpid(), signal.SIGKILL)) if done else tick)\n"
        "    done.append(job)\n"
        "build.write_shard = once\n"
        "card = cards.Card.model_validate_json(sys.argv[1])\n"
        "build.build(card, Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    arguments = [card.model_dump_json(), str(sources / "emotic_demo"), str(out)]
    assert subprocess.run([sys.executable, "-c", code, *arguments]).returncode == -signal.SIGKILL
    assert not manifests.path_of(out).exists()
    with pytest.raises(ShardError, match="no shards here"):
        manifests.load(out)
    first = sorted(out.glob("train-*.rows.npz"))[0].with_suffix("").with_suffix(".tar")
    before = first.stat().st_mtime_ns
    build.build(card, sources / "emotic_demo", out)
    assert first.stat().st_mtime_ns == before, "a finished shard was written again"
    assert {k: v for k, v in hashes(out).items() if not k.startswith(".")} == hashes(built)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_an_image_that_may_not_be_read_stops_the_build_which_goes_on_later(
    number: int, small_source: Path, small_shards: Path, tmp_path: Path
) -> None:
    image, out = small_source / "train/Sad/0003.png", tmp_path / "small"
    with refused(image, number), pytest.raises(SetupError, match=re.escape(f"{image}: {os.strerror(number)}; ")):
        build.build(small_set.card(), small_source, out)
    assert not manifests.path_of(out).exists()
    build.build(small_set.card(), small_source, out)
    assert hashes(out) == hashes(small_shards)


def test_building_again_does_nothing_and_another_source_is_refused(
    card: Card, sources: Path, built: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.iterdir()}
    build.build(card, sources / "emotic_demo", built)
    assert {path: path.stat().st_mtime_ns for path in built.iterdir()} == before
    changed = shutil.copytree(sources / "emotic_demo", tmp_path / "changed")
    image = next((changed / "main/emotic/mscoco/images").glob("*.jpg"))
    image.write_bytes(image.read_bytes() + b"x")
    with pytest.raises(ShardError, match="another source"):
        build.build(card, changed, built)


def test_stock_webdataset_reads_every_sample_once_with_its_members(built: Path) -> None:
    split = manifests.load(built).splits["train"]
    urls = [str(built / shard.name) for shard in split.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert len(samples) == split.samples
    assert len({sample["__key__"] for sample in samples}) == split.samples
    for sample in samples:
        facts = sample["meta.json"]
        assert sample["context.jpg"].shape == sample["scene.jpg"].shape == (*facts["size"][::-1], 3)
        assert ("face.jpg" in sample) == (facts["face_box"] is not None)


def test_names_with_dots_stay_apart(built: Path, card: Card) -> None:
    # Trap: webdataset cuts keys at the first dot, so `f.1` and `f.2` would become one sample.
    shards = SplitShards(built, "train")
    keys = [shards.key(index) for index in range(len(shards))]
    ids = [json.loads(shards.read(index, "meta.json") or b"")["id"] for index in range(len(shards))]
    assert all(key.isdigit() and len(key) == 8 for key in keys)
    assert len(set(keys)) == len(keys)
    assert all("." in name for name in ids)


def test_tars_carry_no_time_and_no_owner(built: Path) -> None:
    # Trap: webdataset's TarWriter stamps the time of writing unless told not to.
    for path in built.glob("*.tar"):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
        assert [m.name for m in members] == sorted(m.name for m in members)


def test_the_index_finds_the_bytes_that_tarfile_finds(built: Path) -> None:
    shards = SplitShards(built, "test")
    index_of = {shards.key(i): i for i in range(len(shards))}
    count = 0
    for shard in shards.split.shards:
        with tarfile.open(built / shard.name) as tar:
            for member in tar:
                key, _, kind = member.name.partition(".")
                content = tar.extractfile(member)
                assert content is not None
                assert shards.read(index_of[key], kind) == content.read()
                count += 1
    assert count == sum(shards.split.members.values())


def test_everyone_is_stored_or_left_out_with_a_reason(built: Path) -> None:
    manifest = manifests.load(built)
    for split in manifest.splits.values():
        assert split.listed == split.samples + sum(split.left_out.values())
        assert sum(shard.samples for shard in split.shards) == split.samples
    reasons = set(manifest.splits["train"].left_out)
    assert {"image_missing", "image_unreadable", "box_empty"} <= reasons
    assert "image_shared" in manifest.splits["val"].left_out


def test_content_hashes_do_not_depend_on_where_shards_are_cut(sources: Path, built: Path, tmp_path: Path) -> None:
    whole = build.build(cards.load("emotic_demo"), sources / "emotic_demo", tmp_path / "emotic_demo")
    cut = manifests.load(built)
    assert len(cut.splits["train"].shards) != len(whole.splits["train"].shards)
    assert {n: s.content for n, s in cut.splits.items()} == {n: s.content for n, s in whole.splits.items()}


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "copy")


def first_tar(folder: Path) -> Path:
    return sorted(folder.glob("train-*.tar"))[0]


def test_a_tar_cut_at_a_member_is_an_error_although_webdataset_reads_on(copy: Path) -> None:
    # Trap: cut at a member's header, a tar yields fewer samples and no exception.
    tar = first_tar(copy)
    with tarfile.open(tar) as opened:
        cut = opened.getmembers()[-len(KINDS) - 1].offset  # the last sample is gone whole
    whole = len(list(webdataset.WebDataset(str(tar), shardshuffle=False)))
    os.truncate(tar, cut)
    assert 0 < len(list(webdataset.WebDataset(str(tar), shardshuffle=False))) < whole
    with pytest.raises(ShardError, match=rf"{tar.name}.*damaged or cut short.*python -m clef.shard"):
        SplitShards(copy, "train")


def flip_a_byte(folder: Path) -> str:
    tar = first_tar(folder)
    data = bytearray(tar.read_bytes())
    data[5000] ^= 1
    tar.write_bytes(data)
    return f"{tar.name}: not the bytes"


def lose_a_shard(folder: Path) -> str:
    tar = first_tar(folder)
    tar.unlink()
    return f"{tar.name}: missing"


def add_a_shard(folder: Path) -> str:
    shutil.copy(first_tar(folder), folder / "train-000099.tar")
    return "train-000099.tar: not in the manifest"


def spoil_the_index(folder: Path) -> str:
    rows = np.load(folder / "val.index.npy")
    rows["offset"][0, 0] += 1
    np.save(folder / "val.index.npy", rows)
    return "val.index.npy: not the bytes"


@pytest.mark.parametrize("damage", [flip_a_byte, lose_a_shard, add_a_shard, spoil_the_index])
def test_verify_names_what_is_damaged(copy: Path, damage) -> None:
    assert verify(copy) == []
    expected = damage(copy)
    assert any(expected in fault for fault in verify(copy))


@pytest.mark.slow
def test_sharding_imports_no_torch() -> None:
    # Importing torch takes seconds, in the command and in each worker that is spawned.
    code = "import sys, clef.shard, clef.sharding.build, clef.sharding.reshard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
