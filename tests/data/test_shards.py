"""Reading shards: the files that are open at a time."""

import errno
import os
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clef.config import InputConfig
from clef.data import manifest as manifests
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader
from clef.data.order import EvaluationBatches
from clef.data.shards import SplitShards
from clef.errors import SetupError
from clef.sharding.reshard import reshard


@contextmanager
def files_left(count: int) -> Iterator[None]:
    """Let this process open `count` files more than it has open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_files()) + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files() -> set[int]:
    return set(map(int, os.listdir("/proc/self/fd")))


def contents(split: SplitShards, order: list[int]) -> dict[str, bytes | None]:
    return {split.key(index): split.read(index, "meta.json") for index in order}


def test_a_set_of_more_tars_than_may_be_open_is_read(shards: Path, tmp_path: Path) -> None:
    reshard(shards / "caer_s_demo", 1, tmp_path / "copy")
    whole, single = SplitShards(shards / "caer_s_demo", "train"), SplitShards(tmp_path / "copy", "train")
    assert len(list((tmp_path / "copy").glob("train-*.tar"))) > 40
    order = random.Random(0).sample(range(len(single)), len(single))
    expected = contents(whole, order)
    with files_left(30):
        assert contents(single, order) == expected
        assert contents(single, order[::-1]) == expected


def test_reading_a_split_again_and_again_leaves_no_file_open(shards: Path) -> None:
    root = shards / "emotic_demo"
    manifest, before = manifests.load(root), open_files()
    for _ in range(9):
        split = SplitShards(root, "val", manifest)
        dataset = CellDataset(split, {"body": InputConfig(size=(20, 24))}, seed=0, augment=False)
        list(BatchLoader(dataset, EvaluationBatches(len(split), 8, 0, 1), workers=0))
    del split, dataset
    assert open_files() == before


def test_a_disk_that_fails_while_a_batch_is_read_is_named(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: CellDataset, *_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/scratch/pixels")

    monkeypatch.setattr(CellDataset, "fill", fail)
    dataset = CellDataset(SplitShards(shards / "emotic_demo", "val"), {}, seed=0, augment=False)
    with pytest.raises(SetupError, match="/scratch/pixels: Input/output error; "):
        list(BatchLoader(dataset, [[(0, 0)]], workers=0))
