"""Trees as systems and tools leave them: the same people are read, and what is no part of the dataset is counted."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from clef.datasets import cards, folders, splits
from clef.datasets.person import Reading
from clef.errors import DataError
from tests.datasets import caer_s_factory
from tests.datasets.caer_s_factory import Boxes
from tests.datasets.emotic_factory import ONE_TEST, ONE_VAL, write
from tests.datasets.test_emotic_layouts import TRAIN

CARD = cards.load("caer_s", "paper", {"face_missing": "full"})


def read(root: Path) -> dict[str, Reading]:
    return splits.read(CARD, root)


def people(readings: dict[str, Reading]) -> list[tuple[object, ...]]:
    return [(p.id, p.box, p.labels) for reading in readings.values() for p in reading.people]


@pytest.fixture
def boxes(tmp_path: Path) -> dict[str, Boxes]:
    boxes = caer_s_factory.lay_out(tmp_path)
    caer_s_factory.write_crops(tmp_path, boxes)
    return boxes


def dirty(folder: Path) -> None:
    """What macOS, Windows, Synology and Jupyter leave in a folder: ten files and folders."""
    for name in ("__MACOSX", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN"):
        (folder / name).mkdir()
        Image.new("RGB", (8, 8)).save(folder / name / "0000.png")
    for name in (".DS_Store", "._0000.png", "Thumbs.db", "desktop.ini", "._Sad", "._0000.txt"):
        (folder / name).write_bytes(b"\0\5\x16\7\xff")


def test_what_systems_leave_is_counted_and_not_read(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    clean = people(read(tmp_path))
    for folder in (".", "train", "train/Sad", "test", "test/Happy", "crop", "crop/train", "crop/train/Sad"):
        dirty(tmp_path / folder)
    readings = read(tmp_path)
    assert people(readings) == clean
    assert {split: reading.notes["file_stray"] for split, reading in readings.items()} == {"train": 20, "test": 20}
    assert set(readings["test"].examples["file_stray"]) < {str(path) for path in (tmp_path / "test").rglob("*")}


def test_folders_in_another_case(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    clean = people(read(tmp_path))
    for old, new in (("train", "Train"), ("test", "TEST"), ("crop/train", "crop/Train"), ("crop", "Crop")):
        (tmp_path / old).rename(tmp_path / new)
    assert people(read(tmp_path)) == clean


def test_a_test_folder_of_another_name(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    clean = people(read(tmp_path))
    (tmp_path / "test").rename(tmp_path / "valid")
    with pytest.raises(DataError, match=r"If a folder has another name: reader_options\.images, such as {test: valid}"):
        read(tmp_path)
    card = CARD.model_copy(update={"reader_options": CARD.reader_options | {"images": {"test": "valid"}}})
    assert people(splits.read(card, tmp_path)) == clean


@pytest.mark.parametrize("moved", [("train", "test"), ("train", "test", "crop")])
def test_a_zip_file_nested_in_itself(moved: tuple[str, ...], tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    clean = people(read(tmp_path))
    for name in moved:
        target = tmp_path / "CAER-S/CAER-S" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).rename(target)
    shutil.copytree(tmp_path / "CAER-S", tmp_path / "__MACOSX/CAER-S")
    for folder in (tmp_path / "CAER-S/CAER-S/train", next(tmp_path.rglob("crop")) / "train"):
        dirty(folder)
    readings = read(tmp_path)
    assert people(readings) == clean
    assert readings["test"].notes["the dataset is in CAER-S/CAER-S"] == 21
    shutil.copytree(tmp_path / "CAER-S/CAER-S", tmp_path / "CAER-S/again")
    with pytest.raises(DataError, match=r"the dataset is in .*CAER-S/CAER-S and in .*CAER-S/again; name one of them"):
        read(tmp_path)


def test_boxes_with_blanks_between(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    clean = people(read(tmp_path))
    for number, path in enumerate((tmp_path / "crop").rglob("*.txt")):
        path.write_text(path.read_text().replace(",", (" ", "\t", "\n", " , ")[number % 4]) + " \n")
    assert people(read(tmp_path)) == clean
    shutil.rmtree(tmp_path / "crop")
    for split, of_split in boxes.items():
        (tmp_path / f"{split}.txt").write_text(caer_s_factory.rows(of_split).replace(",", "  "))
    assert people(read(tmp_path)) == clean


def test_lists_with_blanks_between(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    (tmp_path / "test/Sad/0000.png").rename(tmp_path / "test/Sad/my file.png")
    for split, text in (
        ("train", "Angry/0000.png 0\nSad/0002.png\t5\n"),
        ("val", "test/Sad/my file.png\n"),
        ("test", "test/Happy/0001.png 3 1 2 30 20\n"),
    ):
        (tmp_path / f"{split}.lst").write_text(text)
    options = {"lists": "{split}.lst", "boxes": "crop/{split}"}
    card = cards.load("caer_s", policies={"face_missing": "full"}).model_copy(update={"reader_options": options})
    assert [p.id for reading in splits.read(card, tmp_path).values() for p in reading.people] == [
        "train/Angry/0000.png", "train/Sad/0002.png", "test/Sad/my file.png", "test/Happy/0001.png",
    ]  # fmt: skip


def test_what_systems_leave_in_emotic(tmp_path: Path) -> None:
    root = write(tmp_path, TRAIN, ONE_VAL, ONE_TEST)
    clean = people(splits.read(cards.load("emotic"), root))
    for folder in (".", "Annotations", "emotic", "emotic/mscoco", "emotic/mscoco/images"):
        dirty(root / folder)
    (root / "Annotations/._Annotations.mat").write_bytes(b"\0")
    assert people(splits.read(cards.load("emotic"), root)) == clean


def test_a_name_in_another_case_is_found_if_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "A/b").mkdir(parents=True)
    assert folders.find(tmp_path, "a/B") == tmp_path / "A/b"
    assert folders.find(tmp_path, "a/c") == tmp_path / "A/c"
    (tmp_path / "a").mkdir()
    assert folders.find(tmp_path, "a") == tmp_path / "a"
