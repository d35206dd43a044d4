"""What a network gets: masked pixels exactly black, draws that depend on nothing but seed, epoch and place."""

import io
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as v2

from clef.config import InputConfig
from clef.data.dataset import CellDataset
from clef.data.loader import loader, to_device
from clef.data.shards import SplitShards
from clef.data.transforms import decoded, image, jittered
from clef.data.transforms import draws as draws_of

BOXES = [(0, 0, 10, 10), (17, 9, 43, 61), (50, 30, 96, 72), (3, 5, 4, 6), (0, 0, 96, 72)]
CONFIGS = [
    InputConfig(size=(48, 48)),
    InputConfig(size=(48, 48), flip=True, jitter=0.9),
    InputConfig(size=(64, 85), crop=(56, 56), flip=True, jitter=0.5),
    InputConfig(size=(200, 131), flip=True),
    InputConfig(size=(33, 60), crop=(27, 51), jitter=0.9),
]


def noise(box: tuple[int, int, int, int]) -> bytes:
    """A 96x72 JPEG of bright noise with the box black, as it is stored: black rings at its edge."""
    pixels = np.random.default_rng(0).integers(100, 256, (72, 96, 3), dtype=np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def seen(box: tuple[int, int, int, int]) -> torch.Tensor:
    return decoded(noise(box), "here")


def touched(box: tuple[int, int, int, int], config: InputConfig) -> torch.Tensor:
    """Every pixel of the squashed 96x72 image that touches the box, pixel by pixel."""
    height, width = config.size
    mask = torch.zeros(height, width, dtype=torch.bool)
    for y, x in itertools.product(range(height), range(width)):
        in_x = (x + 1) * 96 / width > box[0] and x * 96 / width < box[2]
        in_y = (y + 1) * 72 / height > box[1] and y * 72 / height < box[3]
        mask[y, x] = in_x and in_y
    return mask


@pytest.mark.parametrize(("box", "config"), list(itertools.product(BOXES, CONFIGS)))
def test_masked_pixels_are_exactly_black_after_every_augmentation(
    box: tuple[int, int, int, int], config: InputConfig
) -> None:
    mask, (height, width) = touched(box, config), config.shape
    spare = range(config.size[0] - height + 1), range(config.size[1] - width + 1)
    for place in range(8):
        draws = draws_of(7, 1, place, 1)[0]
        result = image(seen(box), list(box), config, draws)
        if draws.mirrored and config.flip:
            result = result.flip(-1)
        cuts = [mask[y : y + height, x : x + width] for y, x in itertools.product(*spare)]
        assert result.shape == (3, height, width)
        assert any(result[:, cut].eq(0).all() for cut in cuts)


def test_without_the_last_masking_the_edge_would_be_grey() -> None:
    # The control of the test above: JPEG and resizing do leave something in the box.
    box, config = BOXES[1], CONFIGS[0]
    assert image(seen(box), None, config, None)[:, touched(box, config)].any()


def test_mirrored_samples_have_their_black_box_mirrored() -> None:
    box, config = (0, 0, 40, 72), InputConfig(size=(36, 48), flip=True)
    sides = set()
    for place in range(12):
        draws = draws_of(0, 0, place, 1)[0]
        result = image(seen(box), list(box), config, draws)
        black_left, black_right = (bool(result[:, :, part].eq(0).all()) for part in (slice(0, 20), slice(-20, None)))
        assert (black_left, black_right) == ((False, True) if draws.mirrored else (True, False))
        sides.add(draws.mirrored)
    assert sides == {True, False}


def test_evaluation_draws_nothing_and_cuts_the_centre() -> None:
    config = InputConfig(size=(72, 96), crop=(40, 50), flip=True, jitter=0.5)
    whole = image(seen(BOXES[0]), None, InputConfig(size=(72, 96)), None)
    assert torch.equal(image(seen(BOXES[0]), None, config, None), whole[:, 16:56, 23:73])


@pytest.fixture
def inputs() -> dict:
    frame = InputConfig(size=(28, 36), crop=(24, 24), flip=True, jitter=0.3)
    return dict.fromkeys(("context", "scene", "scene_without_face", "body", "face"), frame)


def test_a_sample_is_a_function_of_seed_epoch_and_place(shards: Path, inputs: dict) -> None:
    def sample(seed: int, epoch: int, place: int) -> torch.Tensor:
        split = SplitShards(shards / "caer_s_demo", "train")
        pixels: torch.Tensor = CellDataset(split, inputs, seed, augment=True)[epoch, place]["scene"]
        return pixels

    assert torch.equal(sample(1, 2, 3), sample(1, 2, 3))
    assert not torch.equal(sample(1, 2, 3), sample(1, 3, 3))
    assert not torch.equal(sample(1, 2, 3), sample(2, 2, 3))


def test_workers_do_not_change_a_batch(shards: Path, inputs: dict) -> None:
    dataset = CellDataset(SplitShards(shards / "emotic_demo", "train"), inputs, seed=3, augment=True)
    batches = [[(0, 5), (0, 9)], [(0, 2), (1, 2)], [(1, 0), (1, 7)]]
    alone, helped = (list(loader(dataset, batches, workers)) for workers in (0, 2))
    for one, two in zip(alone, helped, strict=True):
        assert one["index"].tolist() == two["index"].tolist()
        assert all(torch.equal(one[name], two[name]) for name in inputs)
        assert torch.equal(one["target"], two["target"])


def test_adding_an_input_does_not_move_the_draws_of_another(shards: Path, inputs: dict) -> None:
    split = SplitShards(shards / "caer_s_demo", "train")
    alone = CellDataset(split, {"body": inputs["body"]}, seed=0, augment=True)
    every = CellDataset(split, inputs, seed=0, augment=True)
    assert all(torch.equal(alone[4, place]["body"], every[4, place]["body"]) for place in range(6))


def test_only_declared_inputs_are_read(shards: Path, inputs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = SplitShards.read

    def counted(self: SplitShards, place: int, kind: str) -> bytes | None:
        read.append(kind)
        return original(self, place, kind)

    monkeypatch.setattr(SplitShards, "read", counted)
    dataset = CellDataset(SplitShards(shards / "caer_s_demo", "train"), {"body": inputs["body"]}, 0, augment=True)
    assert "face" not in dataset[0, 0]
    assert sorted(read) == ["body.jpg", "meta.json"]


def test_a_missing_face_is_all_zeros_with_a_flag(shards: Path, inputs: dict) -> None:
    split = SplitShards(shards / "emotic_demo", "train")
    without = next(i for i in range(len(split)) if split.read(i, "face.jpg") is None)
    with_face = next(i for i in range(len(split)) if split.read(i, "face.jpg") is not None)
    dataset = CellDataset(split, {"face": inputs["face"]}, 0, augment=False)
    batch = next(iter(loader(dataset, [[(0, without), (0, with_face)]], 0)))
    assert batch["face"].dtype == torch.uint8
    assert batch["valid"]["face"].tolist() == [False, True]
    moved = to_device(batch, dataset.inputs, torch.device("cpu"))["face"]
    assert not moved[0].any()
    assert moved[1].any()


def test_normalising_is_what_the_numbers_say(shards: Path) -> None:
    config = InputConfig(size=(8, 8), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    batch = {"body": torch.full((1, 3, 8, 8), 51, dtype=torch.uint8), "valid": {"body": torch.tensor([True])}}
    result = to_device(batch, {"body": config}, torch.device("cpu"))["body"]
    assert result[0, :, 0, 0].tolist() == pytest.approx([0.2, 0.0, -0.1], abs=1e-6)


def test_unknown_vad_is_nan_and_labels_are_the_cards(shards: Path) -> None:
    split = SplitShards(shards / "emotic_demo", "train")
    dataset = CellDataset(split, {}, 0, augment=False)
    samples = [dataset[0, place] for place in range(len(split))]
    values = torch.stack([sample["vad"] for sample in samples])
    assert values.isnan().any()
    assert values[~values.isnan()].min() >= 1
    assert values[~values.isnan()].max() <= 10
    counts = torch.stack([sample["target"] for sample in samples]).sum(0).int().tolist()
    assert dict(zip(split.manifest.classes, counts, strict=True)) == split.split.classes
    assert all(math.isclose(sample["target"].sum() % 1, 0) for sample in samples)


FACTORS = [(0.6, 1.0, 1.0), (1.4, 1.0, 1.0), (1.0, 0.5, 1.0), (1.0, 1.0, 1.7), (1.3, 0.7, 0.4)]


@pytest.mark.parametrize("factors", FACTORS)
def test_jitter_is_torchvisions(factors: tuple[float, float, float]) -> None:
    pixels = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = pixels.float() / 255  # on floats, where theirs doesn't round after each step
    for adjust, factor in zip((v2.adjust_brightness, v2.adjust_contrast, v2.adjust_saturation), factors, strict=True):
        expected = adjust(expected, factor)
    torch.testing.assert_close(jittered(pixels, *factors).float(), (expected * 255).round(), atol=1, rtol=0)
