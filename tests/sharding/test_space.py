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
from tests.sharding import small_set


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_estimate_is_close(sources: Path, shards: Path) -> None:
    from clef.datasets import cards

    card, out = cards.load("emotic_demo"), shards / "emotic_demo"
    jobs = shard_plan.make_plan(card, sources / "emotic_demo", out, None).jobs()
    assert build.estimate_bytes(jobs) == pytest.approx(used(out), rel=0.25)


def test_a_full_disk_is_refused_before_any_work(
    small_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "small"
    build.build_part(small_set.card(), small_source, out, Part(1, 2))
    before = small_set.hashes(out)
    whole = build.estimate_bytes(shard_plan.make_plan(small_set.card(), small_source, out, None).jobs())
    for free, enough in ((whole * 2 // 5, False), (whole * 3 // 5, True)):  # a half is done: the rest is needed
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if enough:
            build.build(small_set.card(), small_source, out)
        else:
            size = r"[\d.]+ kB"
            told = f"the missing part of the set needs about {size}, {size} are free there. Free some disk space, or"
            with pytest.raises(SetupError, match=told) as refused:
                build.build(small_set.card(), small_source, out)
            assert refused.value.exit_code == 5
            assert small_set.hashes(out) == before


@pytest.mark.slow
@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("moment", [1, 4, 16, 18])  # a tar, some rows, an index, the manifest
def test_a_disk_that_fills_up_leaves_what_can_be_gone_on_with(
    fault: int, workers: int, moment: int, small_source: Path, small_shards: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, flushed = tmp_path / "small", tmp_path / "flushed"
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
            SetupError, match=r"small: .* are free\). The shards that are done stay.*same command again"
        ):
            build.build(small_set.card(), small_source, out, workers)
    assert not manifests.path_of(out).exists()
    assert not list(out.glob(".*"))
    build.build(small_set.card(), small_source, out, workers)
    assert small_set.hashes(out) == small_set.hashes(small_shards)


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


@pytest.mark.slow
def test_a_real_disk_that_is_full(
    small_source: Path, small_shards: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, ballast = small_disk / "small", small_disk / "ballast"
    ballast.write_bytes(bytes(700 * 1024))
    with pytest.raises(SetupError, match="needs about"):
        build.build(small_set.card(), small_source, out, workers=2)
    with monkeypatch.context() as patch:  # the others' files came after we had looked
        patch.setattr(build, "require_room", lambda *_: None)
        with pytest.raises(SetupError, match="No space left on device"):
            build.build(small_set.card(), small_source, out, workers=2)
    ballast.unlink()
    build.build(small_set.card(), small_source, out, workers=2)
    assert small_set.hashes(out) == small_set.hashes(small_shards)
