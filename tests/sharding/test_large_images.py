"""Images of any size: what is masked stays masked, crops lose nothing, and memory stays within bounds."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clef.datasets import Person
from clef.datasets.cards import Card
from clef.geometry import Box
from clef.sharding import frame
from clef.sharding.render import Sample, render
from tests.sharding import small_set

GREY, RED = (128, 128, 128), (255, 0, 0)
SIZE = (1501, 1003)
SUBJECT = (403.0, 211.0, 1129.0, 941.0)
"""On no border of a block."""


def card(**storage: int) -> Card:
    made = small_set.card()
    sizes = {"frame": 64, "body": 48, "face": 32, "quality": 95} | storage
    return made.model_copy(update={"storage": made.storage.model_copy(update=sizes)})


def rendered(path: Path, box: Box, face: Box | None = None, **storage: int) -> Sample:
    frame.read_frame.cache_clear()
    return render(Person("x", path, box, ("Happy",), face), card(**storage), "train")


def pixels(sample: Sample, kind: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(sample.members[kind]))).astype(int)


def redness(array: np.ndarray) -> np.ndarray:
    """By how much red goes before green: 0 in all that is grey or black."""
    return np.abs(array[..., 0] - array[..., 1])


@pytest.fixture
def reduced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Images of these tests' size count as large."""
    monkeypatch.setattr(frame, "REDUCED_ABOVE", 1_000_000)
    yield
    frame.read_frame.cache_clear()


def red_on_grey(path: Path, box: Box = SUBJECT, **saved: int) -> Path:
    image = Image.new("RGB", SIZE, GREY)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), RED)
    image.save(path, **saved)
    return path


ON_BLOCKS = (416.0, 224.0, 1120.0, 928.0)
"""On borders of blocks: the decoder interpolates colour across them."""


@pytest.mark.parametrize("box", [SUBJECT, ON_BLOCKS])
@pytest.mark.parametrize("frame_size", [60, 124, 250])  # an eighth, a quarter, a half
@pytest.mark.parametrize("subsampling", [0, 1, 2])  # 4:4:4, 4:2:2, 4:2:0
@pytest.mark.usefixtures("reduced")
def test_no_colour_of_the_subject_is_left_when_the_decoder_reduces(
    subsampling: int, frame_size: int, box: Box, tmp_path: Path
) -> None:
    path = red_on_grey(tmp_path / "x.jpg", box, quality=95, subsampling=subsampling)
    assert frame.read_frame(path, 10**9, 2 * frame_size).factor == {60: 8, 124: 4, 250: 2}[frame_size]
    sample = rendered(path, box, frame=frame_size)
    context = pixels(sample, "context.jpg")
    assert redness(context).max() <= 2  # what grey itself loses in a JPEG
    assert redness(pixels(sample, "scene.jpg")).max() > 200
    assert (context.max(axis=2) > 100).mean() > 0.5  # and not because all is black


def test_no_colour_of_the_subject_is_left_at_ordinary_sizes(tmp_path: Path) -> None:
    sample = rendered(red_on_grey(tmp_path / "x.png"), SUBJECT)
    assert redness(pixels(sample, "context.jpg")).max() <= 2
    aligned = (400.0, 208.0, 1120.0, 944.0)  # else the source's own blocks mix
    sample = rendered(red_on_grey(tmp_path / "x.jpg", aligned, quality=100), aligned)
    assert redness(pixels(sample, "context.jpg")).max() <= 2


@pytest.mark.usefixtures("reduced")
def test_the_frame_is_whole_again_for_the_next_person(tmp_path: Path) -> None:
    path = red_on_grey(tmp_path / "x.jpg", quality=95)
    first = rendered(path, SUBJECT)
    other = render(Person("y", path, (5, 5, 300, 200), ("Happy",)), card(), "train")  # the frame is not read again
    again = render(Person("x", path, SUBJECT, ("Happy",)), card(), "train")
    assert again.members == first.members
    assert other.members["scene.jpg"] == first.members["scene.jpg"]


@pytest.fixture(scope="module")
def textured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "x.jpg"
    coarse = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=95)
    return path


FACES = [(700.0, 300.0, 900.0, 590.0), (700.25, 300.5, 770.75, 365.5), (700.0, 300.0, 725.0, 320.0)]
"""For a face of 32 pixels: a quarter of the image will do, a half, and nothing but all of it."""


@pytest.mark.parametrize("face", FACES)
def test_crops_are_what_the_whole_image_gives(face: Box, textured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rendered(textured, SUBJECT, face)
    monkeypatch.setattr(frame, "REDUCED_ABOVE", 1_000_000)
    sample = rendered(textured, SUBJECT, face)
    frame.read_frame.cache_clear()
    for kind in ("body.jpg", "face.jpg", "scene.jpg"):
        one, other = pixels(sample, kind), pixels(whole, kind)
        assert one.shape == other.shape
        assert np.abs(one - other).mean() < 2.5, kind
    if face == FACES[2]:
        assert sample.members["face.jpg"] == whole.members["face.jpg"], "pixels that the source has were lost"
    assert sample.notes == whole.notes


@pytest.mark.usefixtures("reduced")
def test_a_large_image_that_is_cut_short_is_unreadable(tmp_path: Path, textured: Path) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(textured.read_bytes()[:-5000])
    with pytest.raises(frame.UnusableImage, match="image_unreadable"):
        frame.read_frame(path, 10**9, 64)


MEASURE = """
import json, re, sys
from pathlib import Path
from PIL import Image
from clef.datasets import cards
from clef.sharding.render import render
from clef.datasets import Person
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000
path, box, face = json.loads(sys.argv[1])
before = peak()
person = Person("x", Path(path), tuple(box), ("Happy",), face and tuple(face))
sample = render(person, cards.load("caer_s"), "train")
print(json.dumps([before, peak(), json.loads(sample.members["meta.json"])["size"]]))
"""
"""A process's peak in MB. `getrusage` would begin with what the parent had."""


@pytest.fixture(scope="module")
def largest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As large as EMOTIC's largest side: 372 MB when decoded whole."""
    path = tmp_path_factory.mktemp("largest") / "x.jpg"
    Image.new("RGB", (11_617, 8_000), GREY).save(path, quality=90)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("face", "bound"),
    [
        (None, 50),  # an eighth of the image is enough
        ((5000, 2000, 5600, 2700), 150),  # the face wants a quarter
        ((5000, 2000, 5100, 2100), 500),  # the face wants every pixel: 4 bytes each, once
    ],
)
def test_memory_is_bounded(face: tuple[int, ...] | None, bound: int, largest: Path) -> None:
    what = json.dumps([str(largest), [3000, 500, 9000, 7900], face])
    said = subprocess.run([sys.executable, "-c", MEASURE, what], capture_output=True, text=True, check=True).stdout
    before, peak, size = json.loads(said)
    assert size == [372, 256]
    assert peak - before < bound
