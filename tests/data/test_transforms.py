"""What a network gets: masked pixels exactly black, draws that depend on nothing but seed, epoch and index."""

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
from clef.data import decode, transforms
from clef.data.batch_memory import BufferPool
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader, to_device
from clef.data.shards import SplitShards
from clef.data.transforms import AugmentationDraws, apply_jitter, zero_regions
from clef.errors import SetupError, ShardError

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


def image(
    box: tuple[int, int, int, int], mask: bool, config: InputConfig, draws: AugmentationDraws | None
) -> torch.Tensor:
    """The picture as a network sees it before normalising, 3,H,W, its jitter included."""
    squashed, out = np.empty((*config.size, 3), np.uint8), np.empty((*config.shape, 3), np.uint8)
    decode.decode_image(noise(box), squashed)
    black = transforms.mask_region(box, (72, 96), config, draws) if mask else None
    transforms.augment_image(squashed, black, config, draws, out)
    result = torch.from_numpy(out).permute(2, 0, 1)[None].float()
    if draws and config.jitter:
        apply_jitter(result, torch.tensor([transforms.jitter_factors(config, draws)]))
        zero_regions(result, torch.tensor([black or (0, 0, 0, 0)]))
    return result[0]


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
    for index in range(8):
        draws = transforms.draw_augmentation(7, 1, index)["context"]
        result = image(box, True, config, draws)
        if draws.mirrored and config.flip:
            result = result.flip(-1)
        cuts = [mask[y : y + height, x : x + width] for y, x in itertools.product(*spare)]
        assert result.shape == (3, height, width)
        assert any(result[:, cut].eq(0).all() for cut in cuts)


def test_without_the_last_masking_the_edge_would_be_grey() -> None:
    # The control of the test above: JPEG and resizing do leave something in the box.
    box, config = BOXES[1], CONFIGS[0]
    assert image(box, False, config, None)[:, touched(box, config)].any()


def test_mirrored_samples_have_their_black_box_mirrored() -> None:
    box, config = (0, 0, 40, 72), InputConfig(size=(36, 48), flip=True)
    sides = set()
    for index in range(12):
        draws = transforms.draw_augmentation(0, 0, index)["context"]
        result = image(box, True, config, draws)
        black_left, black_right = (bool(result[:, :, part].eq(0).all()) for part in (slice(0, 20), slice(-20, None)))
        assert (black_left, black_right) == ((False, True) if draws.mirrored else (True, False))
        sides.add(draws.mirrored)
    assert sides == {True, False}


def test_evaluation_draws_nothing_and_cuts_the_centre() -> None:
    config = InputConfig(size=(72, 96), crop=(40, 50), flip=True, jitter=0.5)
    whole = image(BOXES[0], False, InputConfig(size=(72, 96)), None)
    assert torch.equal(image(BOXES[0], False, config, None), whole[:, 16:56, 23:73])


@pytest.fixture
def inputs() -> dict:
    frame = InputConfig(size=(28, 36), crop=(24, 24), flip=True, jitter=0.3)
    return dict.fromkeys(("context", "scene", "scene_without_face", "body", "face"), frame)


def test_a_sample_is_a_function_of_seed_epoch_and_place(shards: Path, inputs: dict) -> None:
    def sample(seed: int, epoch: int, index: int) -> torch.Tensor:
        split = SplitShards(shards / "caer_s_demo", "train")
        pixels: torch.Tensor = CellDataset(split, inputs, seed, augment=True)[epoch, index]["scene"]
        return pixels

    assert torch.equal(sample(1, 2, 3), sample(1, 2, 3))
    assert not torch.equal(sample(1, 2, 3), sample(1, 3, 3))
    assert not torch.equal(sample(1, 2, 3), sample(2, 2, 3))


@pytest.mark.slow
def test_workers_do_not_change_a_batch(shards: Path, inputs: dict) -> None:
    dataset = CellDataset(SplitShards(shards / "emotic_demo", "train"), inputs, seed=3, augment=True)
    batches = [[(0, 5), (0, 9)], [(0, 2), (1, 2)], [(1, 0), (1, 7)], [(2, 3)]]
    alone, helped = (list(BatchLoader(dataset, batches, workers)) for workers in (0, 2))
    for one, two in zip(alone, helped, strict=True):
        assert one["index"].tolist() == two["index"].tolist()
        assert all(torch.equal(one[name], two[name]) for name in inputs)
        assert all(
            torch.equal(one[key][name], two[key][name])
            for key in ("valid", "jitter", "masked_region")
            for name in inputs
        )
        assert torch.equal(one["target"], two["target"])


@pytest.mark.slow
def test_a_batch_that_is_kept_is_not_written_over(shards: Path, inputs: dict) -> None:
    # Blocks of memory go round: one must not, as long as somebody holds its pictures.
    dataset = CellDataset(SplitShards(shards / "emotic_demo", "train"), {"body": inputs["body"]}, 0, augment=False)
    batches = [[(0, index), (0, index + 1)] for index in range(60)]
    kept = [(batch["index"], batch["body"]) for batch in BatchLoader(dataset, batches, 1)]
    for index, pictures in kept:
        assert torch.equal(pictures, torch.stack([dataset[0, i]["body"] for i in index.tolist()]))


@pytest.mark.slow
def test_blocks_go_round(shards: Path, inputs: dict) -> None:
    dataset = CellDataset(SplitShards(shards / "emotic_demo", "train"), {"body": inputs["body"]}, 0, augment=False)
    batches = [[(0, index), (0, index + 1)] for index in range(60)]
    where = [batch["body"].data_ptr() for batch in BatchLoader(dataset, batches, 1)]
    assert len(set(where)) <= 6 < len(where)


def test_too_little_shared_memory_is_an_error_that_says_so() -> None:
    with pytest.raises(SetupError, match=r"no 1125899907 MB of shared memory for the loader .*/dev/shm"):
        BufferPool(1 << 50, 1)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_keeps_its_own_words(shards: Path, inputs: dict, workers: int) -> None:
    split = SplitShards(shards / "emotic_demo", "train")
    split.read = lambda index, kind: b"{}"  # type: ignore[method-assign]
    with pytest.raises(ShardError, match=r"^emotic_demo/train sample \d{8}: meta.json lacks"):
        list(BatchLoader(CellDataset(split, {}, 0, augment=False), [[(0, 0)]], workers))


def test_adding_an_input_does_not_move_the_draws_of_another(shards: Path, inputs: dict) -> None:
    split = SplitShards(shards / "caer_s_demo", "train")
    alone = CellDataset(split, {"body": inputs["body"]}, seed=0, augment=True)
    every = CellDataset(split, inputs, seed=0, augment=True)
    assert all(torch.equal(alone[4, index]["body"], every[4, index]["body"]) for index in range(6))


def test_only_declared_inputs_are_read(shards: Path, inputs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = SplitShards.read

    def counted(self: SplitShards, index: int, kind: str) -> bytes | None:
        read.append(kind)
        return original(self, index, kind)

    monkeypatch.setattr(SplitShards, "read", counted)
    dataset = CellDataset(SplitShards(shards / "caer_s_demo", "train"), {"body": inputs["body"]}, 0, augment=True)
    assert "face" not in dataset[0, 0]
    assert sorted(read) == ["body.jpg", "meta.json"]


def test_a_missing_face_is_all_zeros_with_a_flag(shards: Path, inputs: dict) -> None:
    split = SplitShards(shards / "emotic_demo", "train")
    without = next(i for i in range(len(split)) if split.read(i, "face.jpg") is None)
    with_face = next(i for i in range(len(split)) if split.read(i, "face.jpg") is not None)
    dataset = CellDataset(split, {"face": inputs["face"]}, 0, augment=False)
    batch = next(iter(BatchLoader(dataset, [[(0, without), (0, with_face)]], 0)))
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
    samples = [dataset[0, index] for index in range(len(split))]
    values = torch.stack([sample["vad"] for sample in samples])
    assert values.isnan().any()
    assert values[~values.isnan()].min() >= 1
    assert values[~values.isnan()].max() <= 10
    counts = torch.stack([sample["target"] for sample in samples]).sum(0).int().tolist()
    assert dict(zip(split.manifest.classes, counts, strict=True)) == split.split.classes
    assert all(math.isclose(sample["target"].sum() % 1, 0) for sample in samples)


FACTORS = [(0.6, 1.0, 1.0), (1.4, 1.0, 1.0), (1.0, 0.5, 1.0), (1.0, 1.0, 1.7), (1.3, 0.7, 0.4)]


def test_jitter_is_torchvisions() -> None:
    pixels = torch.randint(0, 256, (len(FACTORS), 3, 20, 30), generator=torch.Generator().manual_seed(0)).float()
    expected = pixels.clone() / 255  # on floats, where theirs doesn't round after each step
    adjusts = v2.adjust_brightness, v2.adjust_contrast, v2.adjust_saturation
    for sample, factors in zip(expected, FACTORS, strict=True):
        for adjust, factor in zip(adjusts, factors, strict=True):
            sample[:] = adjust(sample, factor)
    torch.testing.assert_close(apply_jitter(pixels, torch.tensor(FACTORS)), expected * 255, atol=1, rtol=0)


def test_a_sample_is_jittered_on_the_device_by_factors_of_its_own(shards: Path) -> None:
    config = InputConfig(size=(24, 30), flip=True, jitter=0.4, mean=(0, 0, 0), std=(1, 1, 1))
    split = SplitShards(shards / "caer_s_demo", "train")
    dataset = CellDataset(split, {"scene_without_face": config}, seed=5, augment=True)
    [batch] = BatchLoader(dataset, [[(1, index) for index in range(8)]], 0)
    seen = to_device(batch, dataset.inputs, torch.device("cpu"))["scene_without_face"]
    for index in range(8):
        draw = transforms.draw_augmentation(5, 1, index)["scene_without_face"]
        expected = batch["scene_without_face"][index].float() / 255
        for adjust, by in zip(
            (v2.adjust_brightness, v2.adjust_contrast, v2.adjust_saturation), draw.jitter, strict=True
        ):
            expected = adjust(expected, 1 + 0.4 * by)
        top, left, bottom, right = batch["masked_region"]["scene_without_face"][index].tolist()
        expected[:, top:bottom, left:right] = 0
        assert (bottom - top) * (right - left) > 0
        torch.testing.assert_close(seen[index], expected, atol=1 / 255, rtol=0)
        assert seen[index, :, top:bottom, left:right].eq(0).all()


def test_what_the_device_gets_lies_as_its_networks_want_it(shards: Path, inputs: dict) -> None:
    # Trap: on a CPU, torch 2.14 corrupts its heap in small networks that get channels_last images.
    dataset = CellDataset(SplitShards(shards / "caer_s_demo", "train"), {"body": inputs["body"]}, 0, augment=True)
    [batch] = BatchLoader(dataset, [[(0, 0), (0, 1)]], 0)
    before = batch["body"].clone()
    moved = to_device(batch, dataset.inputs, torch.device("cpu"))
    assert moved["body"].is_contiguous()
    assert moved.keys() == {"index", "target", "body", "valid"}
    assert torch.equal(batch["body"], before)
