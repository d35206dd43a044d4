"""The lists of CAER-S in circulation: who is in which split, and who is in none. NCAER-S, which has no splits."""

from pathlib import Path

import pytest

from clef.datasets import cards, splits
from clef.datasets.cards import Card
from clef.datasets.person import Reading
from clef.errors import DataError
from tests.datasets import caer_s_factory

LISTS = cards.load("caer_s", "lists")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of each class three frames of train's four, and of test's three one in val and one in test."""
    boxes = caer_s_factory.lay_out(tmp_path)
    parts = {"train": ("train", "012"), "val": ("test", "2"), "test": ("test", "0")}
    for split, (folder, numbers) in parts.items():
        listed = {name: box for name, box in boxes[folder].items() if Path(name).stem[-1] in numbers}
        (tmp_path / f"{split}.txt").write_text(caer_s_factory.rows(listed))
    return tmp_path


def read(root: Path, card: Card = LISTS) -> dict[str, Reading]:
    return splits.read(card, root)


def names(reading: Reading) -> set[str]:
    return {f"{p.id.partition('/')[0]}/{p.image.stem}" for p in reading.people}


def test_membership_and_boxes_are_the_lists(root: Path) -> None:
    readings = read(root)
    assert names(readings["train"]) == {"train/0000", "train/0001", "train/0002"}
    assert names(readings["val"]) == {"test/0002"}
    assert names(readings["test"]) == {"test/0000"}
    assert [len(reading.people) for reading in readings.values()] == [20, 7, 7]  # train's Sad/0001 has no face
    assert readings["train"].left_out == {"in none of the lists": 7, "face_missing": 1}
    assert readings["test"].left_out == {"in none of the lists": 7}
    assert not readings["val"].left_out
    assert sum(reading.listed for reading in readings.values()) == 7 * (4 + 3)
    assert readings["val"].people[0].face == (0, 2, 22, 20)


def test_rows_of_lists_that_name_no_image_are_people_left_out(root: Path) -> None:
    (root / "test/Happy/0002.png").unlink()
    val = read(root)["val"]
    assert val.left_out == {"image_missing": 1}
    assert (len(val.people), val.listed) == (6, 7)


def test_an_image_in_two_lists_is_not_in_val(root: Path) -> None:
    with (root / "val.txt").open("a") as file:
        file.write("test/Fear/0000.png,2,2,2,20,20\n")
    val = read(root)["val"]
    assert val.left_out == {"image_shared": 1}
    assert val.listed == 8


def test_a_list_that_names_an_image_of_the_other_folder(root: Path) -> None:
    (root / "val.txt").write_text("train/Fear/0000.png,2,2,2,20,20\n")
    with pytest.raises(DataError, match=r"val\.txt:1: an image of train, but the images of val are in .*test"):
        read(root)
    (root / "val.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt: no such file"):
        read(root)


def test_boxes_may_lie_elsewhere_than_the_lists(root: Path) -> None:
    (root / "train.txt").write_text("Angry/0000.png\n\ntrain/Sad/0001.png,5\n")
    options = {"lists": "{split}.txt", "boxes": "{split}.json"}
    (root / "train.json").write_text('{"Angry/0000.png": [1, 2, 3, 4], "Sad/0000.png": [1, 2, 3, 4]}')
    (root / "test.json").write_text("{}")
    card = cards.load("caer_s", "lists", {"face_missing": "full"}).model_copy(update={"reader_options": options})
    train = read(root, card)["train"]
    assert [(p.id, p.face) for p in train.people] == [
        ("train/Angry/0000.png", (1, 2, 3, 4)), ("train/Sad/0001.png", None),
    ]  # fmt: skip


def test_ncaer_s_is_read_with_lists_of_ones_own(tmp_path: Path) -> None:
    boxes = caer_s_factory.lay_out(tmp_path)["test"]
    (tmp_path / "test").rename(tmp_path / "images")
    caer_s_factory.write_crops_of(tmp_path / "crop", boxes)
    for split, number in (("train", 0), ("val", 1), ("test", 2)):
        text = "".join(f"{name}/{number:04d}.png\n" for name in caer_s_factory.CLASSES if (name, number) != ("Fear", 1))
        (tmp_path / f"{split}.lst").write_text(text)
    options = {"images": "images", "lists": "{split}.lst", "boxes": "crop"}
    card = cards.load("caer_s", policies={"face_missing": "full"}).model_copy(update={"reader_options": options})
    readings = read(tmp_path, card)
    assert [len(reading.people) for reading in readings.values()] == [7, 6, 7]
    assert readings["train"].left_out == {"in none of the lists": 1}
    faces = {f"{p.image.parent.name}/{p.image.name}": p.face for r in readings.values() for p in r.people}
    assert faces == {name: box for name, box in boxes.items() if name != "Fear/0001.png"}


def test_a_split_of_the_card_that_the_layout_lacks(root: Path) -> None:
    strange = LISTS.model_copy(update={"splits": {"val": LISTS.splits["val"].model_copy(update={"split": "valid"})}})
    with pytest.raises(DataError, match=r"card caer_s: splits: split 'valid': unknown \(did you mean val\?\)"):
        read(root, strange)
