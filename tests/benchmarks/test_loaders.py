"""All loaders deliver the same people in the same shapes; with our decoder, the same pixels."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import loading, peers, setting, stages
from benchmarks.peers import OURS, PEERS, SHIPPED
from benchmarks.setting import Setting
from clef.config import InputConfig, InputName
from clef.data.dataset import CellDataset
from clef.data.decoded_cache import NodeCache
from clef.data.shards import SplitShards
from clef.datasets import cards
from clef.errors import SetupError

INPUTS: dict[InputName, InputConfig] = {
    "context": InputConfig(size=(40, 40), flip=True),
    "scene": InputConfig(size=(40, 40), flip=True),
    "scene_without_face": InputConfig(size=(40, 48), crop=(32, 32), flip=True),
    "body": InputConfig(size=(32, 24), flip=True),
    "face": InputConfig(size=(24, 24)),
}


@pytest.fixture
def few(shards: Path) -> Setting:
    return Setting(SplitShards(shards / "emotic_demo", "train"), INPUTS, batch_size=8, workers=1, samples=16)


def stack(few: Setting, items: list[tuple[int, int]], augment: bool = True) -> dict[str, Tensor]:
    """The people of these epochs and indices, as the cell's own dataset gives them."""
    data = CellDataset(few.shards, few.inputs, few.seed, augment=augment)
    samples = [data[item] for item in items]
    return {name: torch.stack([sample[name] for sample in samples]) for name in few.inputs}


def in_order(few: Setting, people: int) -> dict[str, Tensor]:
    """The first people of the split in the first epoch."""
    return stack(few, [(0, index) for index in range(people)])


@pytest.fixture(params=list(PEERS))
def peer(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if peers.install_hint(name):
        pytest.skip(f"{name} is not installed")
    return name


def first(batches: Any, count: int) -> dict[str, Tensor]:
    """The first batches as one."""
    taken = list(islice(batches, count))
    return {name: torch.cat([batch[name] for batch in taken]) for name in INPUTS}


def assert_same(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name, images in expected.items():
        assert torch.equal(actual[name], images), name


@pytest.mark.slow
def test_a_peer_with_our_decoder_delivers_our_pixels(peer: str, few: Setting, tmp_path: Path) -> None:
    # One worker reads from the first person on: indices 0, 1, 2, ...
    assert_same(first(PEERS[peer](few, tmp_path / "copy", OURS), 2), in_order(few, 16))


def without_chance(few: Setting) -> Setting:
    inputs = {name: config.model_copy(update={"flip": False}) for name, config in INPUTS.items() if not config.crop}
    return replace(few, inputs=inputs)


def assert_similar(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], most: float) -> None:
    """Assert that pixels differ little, as they do by another resize, and much less than another person's do."""
    for name, images in expected.items():
        assert actual[name].shape == images.shape
        difference = mean_difference(actual[name], images)
        assert difference < most, name
        assert mean_difference(actual[name], images.flip(0)) > 2 * difference, name
        assert mean_difference(actual[name].flip(1), images) > difference, name  # blue is not red


def mean_difference(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().mean())


@pytest.mark.slow
def test_a_peer_as_shipped_delivers_the_same_pictures(peer: str, few: Setting, tmp_path: Path) -> None:
    still = without_chance(few)
    batch = next(iter(PEERS[peer](still, tmp_path / "copy", SHIPPED)))
    assert_similar(batch, in_order(still, 8), most=6)


@pytest.mark.slow
def test_a_peer_delivers_the_agreed_batches_for_as_long_as_is_measured(peer: str, few: Setting, tmp_path: Path) -> None:
    for way in (SHIPPED, OURS):
        assert setting.measure(PEERS[peer](few, tmp_path / "copy", way), few, f"{peer}, {way}") > 0


@pytest.mark.slow
def test_loose_files_are_the_same_people(few: Setting, sources: Path) -> None:
    still = without_chance(few)
    people = peers.list_people(still, cards.load("emotic_demo"), sources / "emotic_demo")
    assert len(people) == still.people
    expected = stack(still, still.order()[0], augment=False)
    # Stored images were made smaller once before.
    assert_similar(next(iter(peers.loose_loader(still, people))), expected, most=12)


@pytest.mark.slow
def test_a_filled_cache_delivers_what_decoding_does(few: Setting, tmp_path: Path) -> None:
    cache = NodeCache(str(tmp_path))
    stages.fill_cache(few, cache)
    flags = [np.fromfile(path, np.uint8) for path in cache.folder.glob("*/flags")]
    assert flags
    assert all(table[: few.people].sum() > 0 for table in flags)
    assert_same(first(stages.our_loader(few, cache), 2), first(stages.our_loader(few), 2))


def test_a_loader_that_delivers_something_else_is_refused(few: Setting) -> None:
    batch = {name: torch.zeros(8, 3, *config.shape, dtype=torch.uint8) for name, config in INPUTS.items()}
    assert setting.measure([batch] * few.all_batches(), few, "x") > 0
    batch["body"] = batch["body"].float()
    with pytest.raises(SetupError, match=r"x: delivers body as torch\.float32"):
        setting.measure([batch] * few.all_batches(), few, "x")


def test_the_people_read_are_whole_shards_one_for_each_worker_at_least(few: Setting) -> None:
    sizes = [shard.samples for shard in few.shards.split.shards]
    assert (few.tars, few.people) == (1, sizes[0])
    many = replace(few, workers=len(sizes) + 1, samples=10_000)
    assert (many.tars, many.people) == (len(sizes), len(few.shards))
    assert {index for batch in few.order() for _, index in batch} <= set(range(few.people))


def test_sizes_and_counts_are_those_of_the_members(few: Setting) -> None:
    scenes = [few.shards.read(index, "scene.jpg") or b"" for index in range(few.people)]
    assert few.member_bytes["scene.jpg"] == pytest.approx(np.mean([len(data) for data in scenes]))
    faces = sum(few.shards.read(index, "face.jpg") is not None for index in range(few.people))
    # Two inputs of the scene are one JPEG.
    assert few.jpegs_per_person == pytest.approx((3 * few.people + faces) / few.people)


def test_a_missing_peer_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, few: Setting, sources: Path
) -> None:
    monkeypatch.setitem(PEERS, "no_such_package", peers.webdataset_loader)
    calls, notes = loading.contenders(few, cards.load("emotic_demo"), sources / "emotic_demo", Path("scratch"), True)
    hint = "no_such_package is not installed, so not compared: python -m pip install no_such_package"
    assert hint in notes
    assert not any(name.startswith("no_such_package") for name in calls)
    assert "webdataset, as shipped" in calls


def test_loose_files_are_left_out_where_the_source_is_missing(few: Setting, tmp_path: Path) -> None:
    calls, notes = loading.contenders(few, cards.load("emotic_demo"), tmp_path, tmp_path / "scratch", True)
    assert loading.LOOSE not in calls
    assert [note for note in notes if note.startswith("loose files left out:")]
