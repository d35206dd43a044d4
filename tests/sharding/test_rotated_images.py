"""Images that EXIF turns: seen as Pillow's `exif_transpose` shows them, and their boxes and cues with them."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from clef.cues.view import read_image
from clef.data.shards import SplitShards
from clef.datasets import Person, cards
from clef.datasets.orientation import turn_value
from clef.errors import DataError
from clef.geometry import Size, turn_back, turn_box, turn_point, turned_size
from clef.sharding import build, frame
from clef.sharding.check import check_source
from clef.sharding.check.scan import scan_image
from clef.sharding.render import Sample, render
from clef.sharding.stats import page
from tests.sharding import factories
from tests.sharding.check.factories import picture
from tests.sharding.test_large_images import pixels, redness

ORIENTATIONS = range(1, 9)
SIDEWAYS = range(5, 9)
STORED: Size = (40, 60)
FORMATS = {"jpg": {"quality": 95}, "png": {}, "webp": {"lossless": True}, "tif": {}}


def exif(orientation: int) -> bytes:
    """EXIF data that state an orientation."""
    stated = Image.Exif()
    stated[0x0112] = orientation
    return stated.tobytes()


def noise(size: Size = STORED) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(100, 256, (*size, 3), np.uint8))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("orientation", [*ORIENTATIONS, 0, 9])
def test_an_image_is_seen_as_pillow_turns_it(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    noise().save(path, exif=exif(orientation), **FORMATS[suffix])
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    decoded = frame.decode_frame(path, 10**6, None)
    np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(np.asarray(decoded.pixels), expected)
    assert decoded.size == expected.shape[:2]
    assert decoded.faults == (("image_rotated",) if orientation in range(2, 9) else ())


@pytest.mark.parametrize(
    "damage", [b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_broken_exif_data_turns_nothing(damage: bytes, tmp_path: Path) -> None:
    noise().save(tmp_path / "x.jpg", exif=damage)
    decoded = frame.decode_frame(tmp_path / "x.jpg", 10**6, None)
    assert (decoded.size, decoded.orientation, decoded.faults) == (STORED, 1, ())


def test_a_jpeg_with_a_preview_in_it_is_a_jpeg(tmp_path: Path) -> None:
    noise().save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[noise((4, 6))], exif=exif(6))
    with Image.open(tmp_path / "x.jpg") as image:
        assert image.format == "MPO"
    assert frame.decode_frame(tmp_path / "x.jpg", 10**6, None).faults == ("image_rotated",)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_boxes_and_points_turn_with_the_pixels(orientation: int, tmp_path: Path) -> None:
    box, point = (8, 5, 30, 12), (50, 31)
    drawn = np.zeros((*STORED, 3), np.uint8)
    drawn[box[1] : box[3], box[0] : box[2], 0] = 255
    drawn[point[1], point[0], 1] = 255
    Image.fromarray(drawn).save(tmp_path / "x.png", exif=exif(orientation))
    red, green, _ = np.moveaxis(read_image(tmp_path / "x.png"), 2, 0)
    turned = turn_box(box, orientation, STORED)
    size = turned_size(STORED, orientation)
    ys, xs = np.nonzero(red)
    assert turned == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    ((y,), (x,)) = np.nonzero(green)
    assert turn_point([v + 0.5 for v in point], orientation, STORED) == (x + 0.5, y + 0.5)
    assert size == red.shape
    assert turn_box(turned, turn_back(orientation), size) == box
    upside_down = turn_box((30, 12, 8, 5), orientation, STORED)
    assert upside_down[0] > upside_down[2]
    assert upside_down[1] > upside_down[3]


def stored_person(folder: Path, orientation: int) -> Person:
    """A person with all cues, in an image with that orientation; boxes and cues are in the pixels that are stored."""
    folder.mkdir(exist_ok=True)
    person = factories.person(folder)
    with Image.open(person.image) as image:
        image.save(person.image, exif=exif(orientation))
    return person


def upright_person(folder: Path, orientation: int) -> Person:
    """The same person in an image that is stored upright, without EXIF data."""
    person = stored_person(folder, orientation)
    Image.fromarray(read_image(person.image)).save(person.image)
    assert person.cues.depth is not None
    exif_of_depth = io.BytesIO()
    with Image.open(person.cues.depth) as depth:
        depth.save(exif_of_depth, "PNG", exif=exif(orientation))
    ImageOps.exif_transpose(Image.open(exif_of_depth)).save(person.cues.depth)

    def turn(value: Any) -> Any:
        return turn_value(value, orientation, STORED)

    names = ("person", "landmarks", "pose", "regions", "others")
    cues = replace(person.cues, **{name: turn(getattr(person.cues, name)) for name in names})
    return replace(person, box=turn(person.box), face=turn(person.face), cues=cues)


def assert_same(sample: Sample, expected: Sample) -> None:
    """Assert that two samples differ in nothing but the file's hash and the flag `image_rotated`."""
    assert sample.members.keys() == expected.members.keys()
    for kind in expected.members.keys() - {"meta.json"}:
        assert sample.members[kind] == expected.members[kind], kind
    one, other = (json.loads(made.members["meta.json"]) for made in (sample, expected))
    assert one["flags"][0] == "image_rotated"
    one["flags"].remove("image_rotated")
    assert {**one, "image_sha256": ""} == {**other, "image_sha256": ""}


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_sample_is_that_of_the_image_stored_upright(orientation: int, tmp_path: Path) -> None:
    card = factories.card()
    expected = render(upright_person(tmp_path / "upright", orientation), card, "train")
    assert_same(render(stored_person(tmp_path / "stored", orientation), card, "train"), expected)


def boxes_of(person: Person, policy: str) -> list[int]:
    """Return the source's box in meta.json."""
    frame.read_frame.cache_clear()
    card = factories.card()
    card = card.model_copy(update={"policies": card.policies.model_copy(update={"image_rotated": policy})})
    box: list[int] = json.loads(render(person, card, "train").members["meta.json"])["source_box"]
    return box


def test_a_stated_size_tells_what_boxes_refer_to_and_otherwise_the_policy(tmp_path: Path) -> None:
    lying, mirrored = stored_person(tmp_path / "6", 6), stored_person(tmp_path / "2", 2)
    as_stored, as_turned = list(turn_box(factories.BOX, 6, STORED)), list(factories.BOX)
    assert boxes_of(lying, "stored") == as_stored
    assert boxes_of(lying, "turned") == as_turned
    assert boxes_of(replace(lying, image_size=(60, 40)), "stored") == as_turned
    assert boxes_of(replace(lying, image_size=(40, 60)), "turned") == as_stored
    assert boxes_of(replace(lying, image_size=(41, 60)), "turned") == as_turned
    assert boxes_of(replace(mirrored, image_size=(40, 60)), "turned") == list(factories.BOX)
    with pytest.raises(DataError, match=r"somebody.*EXIF turns the image.*--policy image_rotated=stored or --policy"):
        boxes_of(lying, "raise")


def test_a_face_that_a_cue_states_is_in_stored_pixels_under_any_policy(tmp_path: Path) -> None:
    person = stored_person(tmp_path, 6)
    person = replace(person, box=(0, 0, 40, 60), cues=replace(person.cues, face=person.face))
    card = factories.card()
    card = card.model_copy(update={"policies": card.policies.model_copy(update={"image_rotated": "turned"})})
    meta = json.loads(render(person, card, "train").members["meta.json"])
    assert meta["face_box"] == list(turn_box(factories.FACE, 6, STORED))


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize(("size", "factor"), [((1504, 1000), 8), ((1501, 1003), 1)])
def test_a_large_image_is_turned_and_masked_when_the_decoder_reduces(
    size: tuple[int, int], factor: int, orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "REDUCED_ABOVE", 1_000_000)
    frame.read_frame.cache_clear()
    box = (403, 211, 1129, 941)
    image = Image.new("RGB", size, (128, 128, 128))
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), (255, 0, 0))
    image.save(tmp_path / "x.jpg", quality=95, exif=exif(orientation))
    card = factories.card(frame=60, body=48, face=32)
    assert frame.read_frame(tmp_path / "x.jpg", 10**9, 120).factor == factor
    sample = render(Person("x", tmp_path / "x.jpg", box, ("Peace",)), card, "train")
    context = pixels(sample, "context.jpg")
    assert context.shape[:2] == ((90, 60) if orientation in SIDEWAYS else (60, 90))
    assert redness(context).max() <= 2 + 10 * (factor == 1)  # the source's own blocks mix at the edge
    assert (context.max(axis=2) > 100).mean() > 0.5
    assert redness(pixels(sample, "body.jpg")).min() > 100
    frame.read_frame.cache_clear()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of three splits, a person each; EXIF turns the image of train."""
    rows = ["path,x1,y1,x2,y2,labels,split"]
    for number, split in enumerate(("train", "val", "test")):
        noise((50 + number, 60)).save(tmp_path / f"{split}.jpg", exif=exif(6 if split == "train" else 1))
        rows.append(f"{split}.jpg,5,5,45,55,calm,{split}")
    (tmp_path / "people.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_a_table_says_what_boxes_refer_to_before_it_is_sharded(table: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jpg#0.*to continue: --policy image_rotated=stored or"):
        build.build(cards.load("table"), table, table / "shards")
    report = check_source({"leak_free": cards.load("table")}, "leak_free", table, table)
    assert report.stops == ["image_rotated"]
    assert report.rules["image_rotated"].splits["train"].found == {"box beyond the image as stored": 1}
    card = cards.load("table", policies={"image_rotated": "turned"})
    report = check_source({"leak_free": card}, "leak_free", table, table)
    met = report.rules["image_rotated"].splits
    assert {name: (one.count, one.images, one.examples) for name, one in met.items()} == {
        "train": (1, 1, ["train.jpg#0"])
    }
    manifest = build.build(card, table, table / "turned")
    assert manifest.splits["train"].notes == {"image_rotated": 1}
    shown = page.show_person(SplitShards(table / "turned", "train", manifest), 0, with_frame=True)
    assert "EXIF turns the image" in shown.flags


def test_a_copy_that_is_stored_upright_looks_the_same_to_the_check(tmp_path: Path) -> None:
    photo = picture(3)
    photo.save(tmp_path / "lying.jpg", quality=92, exif=exif(8))
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "upright.jpg", quality=80)
    one, other = (scan_image(tmp_path / f"{name}.jpg", 10**6) for name in ("lying", "upright"))
    assert one.hash is not None
    assert other.hash is not None
    assert sum((a ^ b).bit_count() for a, b in zip(one.hash, other.hash, strict=True)) <= 8
    assert (one.size, one.orientation, other.orientation) == (other.size, 8, 1)
