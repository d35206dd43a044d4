"""The disk: asked for room before any work, and full in the middle all the same."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from clef.data import manifest as manifests
from clef.errors import SetupError
from clef.sharding import build, shard_plan
from clef.sharding.shard_plan import Part
from tests.sharding import little


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_estimate_is_close(sources: Path, shards: Path) -> None:
    from clef.datasets import cards

    card, out = cards.load("emotic_demo"), shards / "emotic_demo"
    jobs = shard_plan.make(card, sources / "emotic_demo", out, None).jobs()
    assert build.needed(jobs) == pytest.approx(used(out), rel=0.25)


def test_a_full_disk_is_refused_before_any_work(
    little_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "little"
    build.build_part(little.card(), little_source, out, Part(1, 2))
    before = little.hashes(out)
    whole = build.needed(shard_plan.make(little.card(), little_source, out, None).jobs())
    for free, enough in ((whole * 2 // 5, False), (whole * 3 // 5, True)):  # a half is done: the rest is needed
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if enough:
            build.build(little.card(), little_source, out)
        else:
            told = r"what is missing of the set needs about [\d.]+ kB, [\d.]+ kB are free there. Make room, or name"
            with pytest.raises(SetupError, match=told) as refused:
                build.build(little.card(), little_source, out)
            assert refused.value.exit_code == 5
            assert little.hashes(out) == before


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("moment", [1, 4, 16, 18])  # a tar, some rows, an index, the manifest
def test_a_disk_that_fills_up_leaves_what_can_be_gone_on_with(
    fault: int, workers: int, moment: int, little_source: Path, little_set: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, flushed = tmp_path / "little", tmp_path / "flushed"
    fsync = os.fsync

    def full(file: int) -> None:
        with flushed.open("ab", buffering=0) as log:  # counted over all processes
            log.write(b".")
            if log.tell() >= moment:
                raise OSError(fault, os.strerror(fault))
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            SetupError, match=r"little: .* are free\). The shards that are done stay.*same command again"
        ):
            build.build(little.card(), little_source, out, workers)
    assert not manifests.path_of(out).exists()
    assert not list(out.glob(".*"))
    build.build(little.card(), little_source, out, workers)
    assert little.hashes(out) == little.hashes(little_set)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can't be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_real_disk_that_is_full(
    little_source: Path, little_set: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, ballast = small_disk / "little", small_disk / "ballast"
    ballast.write_bytes(bytes(700 * 1024))
    with pytest.raises(SetupError, match="needs about"):
        build.build(little.card(), little_source, out, workers=2)
    with monkeypatch.context() as patch:  # the others' files came after we had looked
        patch.setattr(build, "check", lambda *_: None)
        with pytest.raises(SetupError, match="No space left on device"):
            build.build(little.card(), little_source, out, workers=2)
    ballast.unlink()
    build.build(little.card(), little_source, out, workers=2)
    assert little.hashes(out) == little.hashes(little_set)
