"""Every sample exactly once an epoch, in one order, through the real loader: whatever ranks, workers, shards and stops.

CLEF_SOAK=1 tries twenty times as many cases.
"""

import json
import os
import tarfile
import tempfile
from collections import Counter
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clef.data import manifest as manifests
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader
from clef.data.manifest import INDEX_DTYPE, KINDS, Manifest
from clef.data.order import EvaluationBatches, Order, RankBatches
from clef.data.shards import SplitShards

SOAK = 20 if os.environ.get("CLEF_SOAK") == "1" else 1
Batch = list[int]


@pytest.fixture(scope="module")
def manifest(shards: Path) -> Manifest:
    """Of a real set: what isn't changed below stays as it is written."""
    return manifests.load(shards / "emotic_demo")


def written(root: Path, manifest: Manifest, samples: int, shards: int) -> SplitShards:
    """A split of so many samples, cut into so many tars. A sample's valence is its index."""
    rows, cuts = np.zeros(samples, INDEX_DTYPE), np.linspace(0, samples, shards + 1).astype(int)
    rows["key"], rows["size"] = np.arange(samples), -1
    column, made = KINDS.index("meta.json"), []
    for number, (first, last) in enumerate(pairwise(cuts)):
        path = root / f"train-{number:06d}.tar"
        with tarfile.open(path, "w") as tar:
            for index in range(first, last):
                facts = {"labels": manifest.classes[:1], "vad": [int(index), 2, 3], "size": [8, 8]}
                content = json.dumps(facts | dict.fromkeys(("box", "face_box", "person_box"))).encode()
                entry = tarfile.TarInfo(f"{index:08d}.meta.json")
                entry.size = len(content)
                tar.addfile(entry, BytesIO(content))
        with tarfile.open(path) as tar:
            for index, member in zip(range(first, last), tar, strict=True):
                rows["offset"][index, column], rows["size"][index, column] = member.offset_data, member.size
        rows["shard"][first:last] = number
        part = manifest.splits["train"].shards[0]
        made.append(part.model_copy(update={"name": path.name, "bytes": path.stat().st_size}))
    np.save(root / "train.index.npy", rows)
    split = manifest.splits["train"].model_copy(update={"samples": samples, "shards": made, "index": "train.index.npy"})
    return SplitShards(root, "train", manifest.model_copy(update={"splits": {"train": split}}))


def read(split: SplitShards, order: Order, ranks: int, workers: int, start: int, stop: int) -> list[Batch]:
    """The global batches that the loaders of all ranks give, by `index`; what was read must be what is stated."""
    parts = []
    for rank in range(ranks):
        dataset = CellDataset(split, {}, order.seed, augment=True)
        found = list(BatchLoader(dataset, RankBatches(order, rank, ranks, start, stop), workers))
        for batch in found:
            assert batch["vad"][:, 0].tolist() == batch["index"].tolist()
        parts.append([batch["index"].tolist() for batch in found])
    return [[index for part in step for index in part] for step in zip(*parts, strict=True)]


CASES = {
    "samples": st.integers(1, 40),
    "shards": st.integers(1, 5),
    "share": st.integers(1, 4),  # of one rank in a batch, before and after the stop
    "ranks": st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2), (4, 2), (3, 1), (2, 4), (6, 3)]),
    "stopped": st.floats(0, 1),
    "seed": st.integers(0, 3),
}


def check(
    manifest: Manifest, samples: int, shards: int, share: int, ranks: tuple[int, int], stopped: float, seed: int,
    workers: int,
) -> None:  # fmt: skip
    order = Order(samples, share * int(np.lcm(*ranks)), seed)
    steps = order.num_batches(2)
    stop = round(stopped * steps)
    with tempfile.TemporaryDirectory() as folder:
        split = written(Path(folder), manifest, samples, min(shards, samples))
        before = read(split, order, ranks[0], workers, 0, stop)
        after = read(split, order, ranks[1], workers, stop, steps)
    unbroken = [[index for _, index in order.batch(number)] for number in range(steps)]
    assert before + after == unbroken
    stream = [index for batch in before + after for index in batch]
    for epoch in range(2):
        assert Counter(stream[epoch * samples : (epoch + 1) * samples]) == Counter(range(samples))


@settings(max_examples=25 * SOAK, deadline=None)
@given(**CASES)
def test_stopped_and_gone_on_with_other_ranks_equals_unbroken(
    manifest: Manifest, samples: int, shards: int, share: int, ranks: tuple[int, int], stopped: float, seed: int
) -> None:
    check(manifest, samples, shards, share, ranks, stopped, seed, workers=0)


@pytest.mark.slow
@settings(max_examples=3 * SOAK, deadline=None)
@given(**CASES)
def test_likewise_with_workers(
    manifest: Manifest, samples: int, shards: int, share: int, ranks: tuple[int, int], stopped: float, seed: int
) -> None:
    check(manifest, samples, shards, share, ranks, stopped, seed, workers=2)


@settings(max_examples=10 * SOAK, deadline=None)
@given(samples=st.integers(1, 40), shards=st.integers(1, 5), batch=st.integers(1, 9), ranks=st.integers(1, 4))
def test_evaluation_reads_each_sample_once(
    manifest: Manifest, samples: int, shards: int, batch: int, ranks: int
) -> None:
    seen: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        dataset = CellDataset(written(Path(folder), manifest, samples, min(shards, samples)), {}, 0, augment=False)
        for rank in range(ranks):
            for found in BatchLoader(dataset, EvaluationBatches(samples, batch, rank, ranks), 0):
                assert found["vad"][:, 0].tolist() == found["index"].tolist()
                seen.update(found["index"].tolist())
    assert seen == Counter(range(samples))
