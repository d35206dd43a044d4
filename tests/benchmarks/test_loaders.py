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

from benchmarks import common, peers, stages
from benchmarks.common import Setting
from benchmarks.peers import OURS, PEERS, SHIPPED, Peer
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
    return Setting(SplitShards(shards / "emotic_demo", "train"), INPUTS, batch=8, workers=1, samples=16)


def expected(few: Setting, places: range) -> dict[str, Tensor]:
    """The people at these places as the cell's own dataset gives them in the first epoch."""
    data = CellDataset(few.shards, few.inputs, few.seed, augment=True)
    samples = [data[0, place] for place in places]
    return {name: torch.stack([sample[name] for sample in samples]) for name in few.inputs}


@pytest.fixture(params=list(PEERS))
def peer(request: pytest.FixtureRequest, few: Setting, tmp_path: Path) -> str:
    name: str = request.param
    if PEERS[name].missing:
        pytest.skip(f"{name} is not installed")
    peers.prepare(name, few, tmp_path / "copy")
    return name


def first(batches: Any, count: int) -> dict[str, Tensor]:
    """The first batches as one."""
    found = list(islice(batches, count))
    return {name: torch.cat([batch[name] for batch in found]) for name in INPUTS}


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    for name, images in wanted.items():
        assert torch.equal(found[name], images), name


def test_a_peer_with_our_decoder_delivers_our_pixels(peer: str, few: Setting, tmp_path: Path) -> None:
    # One worker reads from the first person on: places 0, 1, 2, ...
    same(first(peers.stream(peer, OURS, few, tmp_path / "copy"), 2), expected(few, range(16)))


def plain(few: Setting) -> Setting:
    """The same without what chance decides."""
    inputs = {name: config.model_copy(update={"flip": False}) for name, config in INPUTS.items() if not config.crop}
    return replace(few, inputs=inputs)


def alike(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], most: float) -> None:
    """Whether pixels differ little, as they do by another resize, and much less than another person's do."""
    for name, images in wanted.items():
        assert found[name].shape == images.shape
        difference = mean_difference(found[name], images)
        assert difference < most, name
        assert mean_difference(found[name], images.flip(0)) > 2 * difference, name
        assert mean_difference(found[name].flip(1), images) > difference, name  # blue is not red


def mean_difference(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().mean())


def test_a_peer_as_shipped_delivers_the_same_pictures(peer: str, few: Setting, tmp_path: Path) -> None:
    still = plain(few)
    alike(next(iter(peers.stream(peer, SHIPPED, still, tmp_path / "copy"))), expected(still, range(8)), most=6)


def test_a_peer_delivers_the_agreed_batches_for_as_long_as_is_measured(peer: str, few: Setting, tmp_path: Path) -> None:
    for way in (SHIPPED, OURS):
        assert common.timed(peers.stream(peer, way, few, tmp_path / "copy"), few, f"{peer}, {way}") > 0


def test_loose_files_are_the_same_people(few: Setting, sources: Path) -> None:
    still = plain(few)
    people = peers.people(still, cards.load("emotic_demo"), sources / "emotic_demo")
    assert len(people) == still.places
    data = CellDataset(still.shards, still.inputs, 0, augment=False)
    samples = [data[0, place] for _, place in still.order()[0]]
    wanted = {name: torch.stack([sample[name] for sample in samples]) for name in still.inputs}
    alike(next(iter(peers.loose_stream(still, people))), wanted, most=12)  # stored images were made smaller once before


def test_a_filled_cache_delivers_what_decoding_does(few: Setting, tmp_path: Path) -> None:
    cache = NodeCache(str(tmp_path))
    stages.fill(few, cache)
    flags = [np.fromfile(path, np.uint8) for path in cache.folder.glob("*/flags")]
    assert all(table[: few.places].sum() > 0 for table in flags)
    same(first(stages.ours(few, cache), 2), first(stages.ours(few), 2))


def test_a_contender_that_delivers_something_else_is_refused(few: Setting) -> None:
    batch = {name: torch.zeros(8, 3, *config.shape, dtype=torch.uint8) for name, config in INPUTS.items()}
    assert common.timed([batch] * few.stream(), few, "x") > 0
    batch["body"] = batch["body"].float()
    with pytest.raises(SetupError, match=r"x: delivers body as torch\.float32"):
        common.timed([batch] * few.stream(), few, "x")


def test_the_people_read_are_whole_shards_one_for_each_worker_at_least(few: Setting) -> None:
    sizes = [shard.samples for shard in few.shards.split.shards]
    assert (few.tars, few.places) == (1, sizes[0])
    many = replace(few, workers=len(sizes) + 1, samples=10_000)
    assert (many.tars, many.places) == (len(sizes), len(few.shards))
    assert {place for batch in few.order() for _, place in batch} <= set(range(few.places))


def test_sizes_and_counts_are_those_of_the_members(few: Setting) -> None:
    scenes = [few.shards.read(place, "scene.jpg") or b"" for place in range(few.places)]
    assert few.member_bytes["scene.jpg"] == pytest.approx(np.mean([len(data) for data in scenes]))
    faces = sum(few.shards.read(place, "face.jpg") is not None for place in range(few.places))
    # Two inputs of the scene are one JPEG.
    assert few.images_per_person == pytest.approx((3 * few.places + faces) / few.places)


def test_a_missing_peer_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, few: Setting) -> None:
    monkeypatch.setitem(PEERS, "litdata", Peer("no_such_package", "benchmarks.peer_litdata"))
    assert peers.missing() == ["litdata is not installed, so not compared: python -m pip install no_such_package"]
    assert not any(name.startswith("litdata") for name in peers.others(few, Path("copies")))


def test_loose_files_are_left_out_where_the_source_is_not_there(few: Setting, tmp_path: Path) -> None:
    calls, notes = peers.loose_files(few, cards.load("emotic_demo"), tmp_path)
    assert not calls
    assert notes[0].startswith("loose files left out:")
