"""Cues as inputs of a network: mirrored with the images, absent as zeros with a flag, and read only when declared."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clef.config import BoxesConfig, DepthConfig, InputConfig, PointsConfig
from clef.config.inputs import INPUTS
from clef.data import decode, transforms
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader, to_device
from clef.data.manifest import MEMBER_OF_INPUT
from clef.datasets import Person
from clef.datasets.person import Cues
from clef.errors import ShardError
from clef.geometry import extended_face
from tests.sharding import factories
from tests.sharding.factories import BOX, DETECTED, FACE, HEIGHT, WIDTH, InMemory

CUES: dict[Any, Any] = {
    "depth": DepthConfig(size=(20, 30), flip=True),
    "landmarks": PointsConfig(flip=True),
    "pose": PointsConfig(flip=True),
    "regions": BoxesConfig(flip=True, count=4),
    "agents": BoxesConfig(flip=True, count=2),
}
FRAMES = ("context", "scene", "scene_without_face", "scene_without_extended_face", "scene_without_person")


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return factories.person(tmp_path)


def sample(person: Person, inputs: dict[Any, Any], epoch: int = 0, augment: bool = False) -> dict[str, Any]:
    return CellDataset(InMemory(person), inputs, seed=0, augment=augment)[epoch, 0]


def epoch_of(mirrored: bool) -> int:
    """An epoch in which the sample at index 0 is mirrored, or is not."""
    return next(
        epoch for epoch in range(99) if transforms.draw_augmentation(0, epoch, 0)["context"].mirrored == mirrored
    )


def test_values_as_stored_padded_and_cut_to_so_many(person: Person) -> None:
    found = sample(person, CUES)
    assert {name: tuple(found[name].shape) for name in CUES} == {
        "depth": (1, 20, 30),
        "landmarks": (68, 2),
        "pose": (17, 3),
        "regions": (4, 4),
        "agents": (2, 4),
    }
    assert found["regions"].tolist() == [[0, 0, 0.5, 0.5], [0.5, 0.25, 1, 0.75], [0.25, 0.5, 0.75, 1], [0, 0, 0, 0]]
    torch.testing.assert_close(found["agents"], torch.tensor([[1 / 6, 0.125, 5 / 6, 1], [0, 0.25, 0.1, 0.75]]))
    torch.testing.assert_close(found["pose"][0], torch.tensor([1 / 3, 0.2, 0]))
    assert found["depth"].dtype == torch.uint8
    assert (found["depth"][0, 6:9, 5:7] == 255).all()  # rows 12-18, columns 10-14 of the map
    assert found["valid"] == dict.fromkeys(CUES, True)


def test_a_flipped_sample_is_the_sample_of_the_mirror_image(person: Person, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    reflection = factories.mirrored(person, tmp_path / "mirror")
    flipped, seen = sample(person, CUES, epoch_of(True), augment=True), sample(reflection, CUES)
    for name in CUES:
        torch.testing.assert_close(flipped[name].float(), seen[name].float(), atol=1e-5, rtol=0, msg=name)
    plain = sample(person, CUES)
    assert all((flipped[name] - plain[name].to(flipped[name])).abs().max() > 0.05 for name in CUES)


def test_only_what_flips_is_mirrored_and_only_by_the_coin(person: Person) -> None:
    still = {name: config.model_copy(update={"flip": False}) for name, config in CUES.items()}
    plain = sample(person, CUES)
    for inputs, mirrored in ((still, True), (still, False), (CUES, False)):
        found = sample(person, inputs, epoch_of(mirrored), augment=True)
        assert all(torch.equal(found[name], plain[name]) for name in CUES)


def test_images_and_cues_share_the_coin(person: Person) -> None:
    frame = InputConfig(size=(HEIGHT, WIDTH), flip=True)
    plain = sample(person, {"scene": frame} | CUES)
    sides = set()
    for epoch in range(10):
        found = sample(person, {"scene": frame} | CUES, epoch, augment=True)
        turned = {name: not torch.equal(found[name], plain[name]) for name in ("scene", *CUES)}
        assert len(set(turned.values())) == 1
        sides |= set(turned.values())
    assert sides == {True, False}


def test_the_extended_face_is_three_faces_wide_and_five_tall() -> None:
    assert extended_face((10, 20, 20, 40)) == (0, 10, 30, 110)
    assert extended_face(FACE) == (12, 4, 48, 44)


def touched(box: tuple[float, ...], size: tuple[int, int]) -> Tensor:
    """Every pixel of the squashed picture that touches the box, pixel by pixel."""
    mask = torch.zeros(size, dtype=torch.bool)
    for y in range(size[0]):
        for x in range(size[1]):
            across = (x + 1) * WIDTH / size[1] > box[0] and x * WIDTH / size[1] < box[2]
            down = (y + 1) * HEIGHT / size[0] > box[1] and y * HEIGHT / size[0] < box[3]
            mask[y, x] = across and down
    return mask


WHOLE: dict[Any, Any] = dict(zip(FRAMES, (BOX, None, FACE, (12, 4, 48, 44), DETECTED), strict=True))
FACELESS: dict[Any, Any] = dict(zip(FRAMES, (BOX, None, None, BOX, BOX), strict=True))


@pytest.mark.parametrize("size", [(40, 60), (33, 47), (64, 50)])
@pytest.mark.parametrize("expected", [WHOLE, FACELESS], ids=["whole", "no face, no detected person"])
def test_what_is_masked_is_black_to_the_pixel_and_nothing_else(
    person: Person, expected: dict[Any, Any], size: tuple[int, int]
) -> None:
    if expected is FACELESS:
        person = replace(person, face=None, cues=Cues())
    black = {"mean": (0, 0, 0), "std": (1, 1, 1)}
    inputs = dict.fromkeys(FRAMES, InputConfig(size=size, flip=True, jitter=0.1, **black))
    dataset = CellDataset(InMemory(person), inputs, seed=0, augment=True)
    for epoch in (epoch_of(True), epoch_of(False)):
        [batch] = BatchLoader(dataset, [[(epoch, 0)]], 0)
        found = to_device(batch, inputs, torch.device("cpu"))
        for name, box in expected.items():
            mask = touched(box, size) if box else torch.zeros(size, dtype=torch.bool)
            mask = mask.flip(-1) if epoch == epoch_of(True) else mask
            assert found[name][0, :, mask].eq(0).all(), name
            if name != "context":  # whose box is black in the shards already, and leaves dark rings
                assert found[name][0, :, ~mask].ne(0).any(0).all(), name


def test_what_a_sample_lacks_is_zeros_with_a_flag(person: Person) -> None:
    bare = replace(person, face=None, cues=Cues())
    inputs = {"face": InputConfig(size=(8, 8))} | CUES
    dataset = CellDataset(InMemory(bare, person), inputs, seed=0, augment=True)
    batch = next(iter(BatchLoader(dataset, [[(epoch_of(True), 0), (epoch_of(True), 1)]], 0)))
    assert {n: v.tolist() for n, v in batch["valid"].items()} == {n: [n == "agents", True] for n in inputs}
    moved = to_device(batch, inputs, torch.device("cpu"))
    for name in inputs:
        assert moved[name].dtype == torch.float32
        assert moved[name][1].any()
        assert moved[name][0].any() == (name == "agents")


def test_depth_goes_from_minus_one_to_one_and_places_stay(person: Person) -> None:
    maps = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3).expand(2, 1, 1, 3)
    points = torch.tensor([[[0.25, 2.0]]])
    batch = {
        "depth": maps,
        "pose": points,
        "valid": {"depth": torch.tensor([True, False]), "pose": torch.tensor([True])},
    }
    moved = to_device(batch, {"depth": DepthConfig(), "pose": PointsConfig()}, torch.device("cpu"))
    assert moved["depth"][:, 0, 0].tolist() == [pytest.approx([-1, -0.6, 1]), [0, 0, 0]]
    assert torch.equal(moved["pose"], points)


@pytest.mark.parametrize("name", list(CUES))
def test_only_the_declared_cue_is_read(person: Person, name: Any) -> None:
    split = InMemory(person)
    found = CellDataset(split, {name: CUES[name]}, seed=0, augment=True)[0, 0]
    assert Counter(split.reads) == {"meta.json": 1, MEMBER_OF_INPUT[name]: 1}
    assert set(found) & set(INPUTS) == set(found["valid"]) == {name}


def test_frames_of_the_scene_share_one_decoding(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    original, count = decode.decode_image, Counter[bytes]()

    def counted(data: bytes, *out: Any) -> None:
        count[data] += 1
        original(data, *out)

    monkeypatch.setattr(decode, "decode_image", counted)
    frame = InputConfig(size=(20, 30))
    together = sample(person, dict.fromkeys(FRAMES, frame))
    assert sorted(count.values()) == [1, 1]
    assert all(torch.equal(together[name], sample(person, {name: frame})[name]) for name in FRAMES)


def test_the_draws_of_the_first_inputs_stay_what_they_were() -> None:
    # MEMBER_OF_INPUT may only grow at its end: an input's draws are the row of one table that its position there names.
    assert tuple(MEMBER_OF_INPUT)[:5] == ("context", "scene", "scene_without_face", "body", "face")
    for seed, epoch, index in ((0, 0, 0), (7, 3, 11)):
        before = np.random.default_rng([seed, epoch, index]).random((6, 5))
        draws = list(transforms.draw_augmentation(seed, epoch, index).values())
        assert [draw.mirrored for draw in draws] == [before[0, 0] < 0.5] * len(MEMBER_OF_INPUT)
        for row, draw in zip(before[1:], draws[:5], strict=True):
            assert (*draw.corner, *draw.jitter) == pytest.approx((*row[:2], *(2 * row[2:] - 1)), abs=0)
    assert transforms.draw_augmentation(0, 0, 0)["context"].corner == PINNED  # NumPy's PCG64, in any version


PINNED = (0.9127555772777217, 0.6066357757671799)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("depth.png", b"\x89PNG\r\n\x1a\nno picture"),
        ("depth.png", b"nothing"),
        ("pose.npy", b"nothing"),
        ("pose.npy", b""),
        ("landmarks.npy", "another"),
        ("regions.npy", "another"),
    ],
)
def test_a_damaged_member_is_named(person: Person, kind: str, content: Any) -> None:
    split = InMemory(person)
    members = split.samples[0].members
    members[kind] = members["pose.npy"] if content == "another" else content
    with pytest.raises(ShardError, match=f"sample 00000000 {kind}: .*--verify"):
        CellDataset(split, CUES, seed=0, augment=False)[0, 0]
