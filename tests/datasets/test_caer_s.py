"""The CAER-S reader: class by name, val in contiguous blocks, boxes in the form in circulation."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clef.datasets import cards
from clef.datasets.caer_s import CaerS
from clef.datasets.cards import Card
from clef.errors import ConfigError, DataError

CLASSES = ["Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"]


def card(no_face: str = "skip", **options: Any) -> Card:
    base = cards.load("caer_s", policies={"face_missing": no_face})
    return base.model_copy(update={"reader_options": {**base.reader_options, **options}})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """20 train frames and 3 test frames a class; train's anger is `Angry`, test's `Anger`."""
    for split, count in (("train", 20), ("test", 3)):
        rows = []
        for label, name in enumerate(CLASSES):
            folder = "Angry" if (split, name) == ("train", "Anger") else name
            (tmp_path / split / folder).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (64, 36)).save(tmp_path / split / folder / f"{i:04d}.png")
                rows.append(f"{folder}/{i:04d}.png,{label},{i},2,30,20")
        (tmp_path / f"{split}.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_classes_go_by_name_not_by_directory_order(root: Path) -> None:
    reader = CaerS(root, card())
    for split in ("train", "test"):
        people = reader.read(split).people
        assert list(dict.fromkeys(p.labels[0] for p in people)) == CLASSES
        for person in people:
            assert person.image.parent.name.replace("Angry", "Anger") == person.labels[0]


def test_folders_in_another_case_and_stray_files(root: Path) -> None:
    (root / "test" / "Happy").rename(root / "test" / "HAPPY")
    edit(root / "test.txt", "Happy/", "HAPPY/")
    (root / "test" / ".DS_Store").write_text("x")
    (root / "test" / "Sad" / "Thumbs.db").write_text("x")
    (root / "test" / "Sad" / "._0000.png").write_text("x")
    reading = CaerS(root, card()).read("test")
    assert len(reading.people) == 21
    assert reading.notes["file_stray"] == 3


def test_val_is_the_end_of_each_class_with_a_gap(root: Path) -> None:
    reader = CaerS(root, card(val_fraction=0.2, val_gap=3))
    train, val = reader.read("train"), reader.read("val")
    for name in CLASSES:
        numbers = [[int(p.image.stem) for p in r.people if p.labels == (name,)] for r in (train, val)]
        assert numbers == [list(range(13)), [16, 17, 18, 19]]
    assert train.left_out == {"the gap between train and val": 21}
    assert train.listed + val.listed == 140


def test_rows_that_begin_with_the_split_and_boxes_beyond_the_frame(root: Path) -> None:
    edit(root / "test.txt", "Fear/0001.png,2,1,2,30,20", "test/Fear/0001.png,2,-4,2,99,20")
    people = CaerS(root, card()).read("test").people
    (person,) = [p for p in people if p.id == "test/Fear/0001.png"]
    assert person.box == person.face == (-4, 2, 99, 20)


@pytest.mark.parametrize("policy", ["skip", "full", "center"])
def test_a_frame_without_a_face_follows_the_policy(root: Path, policy: str) -> None:
    edit(root / "test.txt", "Fear/0001.png,2,1,2,30,20", "Fear/0001.png,2,0,0,0,0")
    edit(root / "test.txt", "Sad/0002.png,5,2,2,30,20\n", "")
    reading = CaerS(root, card(no_face=policy)).read("test")
    found = {p.id: p for p in reading.people if p.id in ("test/Fear/0001.png", "test/Sad/0002.png")}
    if policy == "skip":
        assert found == {}
        assert reading.left_out == {"face_missing": 2}
    else:
        assert reading.notes == {"face_missing": 2, "face boxes from test.txt": 20}
        assert {p.box for p in found.values()} == {None if policy == "full" else (16, 9, 48, 27)}
        assert {p.face for p in found.values()} == {None}
        assert all(p.flags == ("face_missing",) for p in found.values())


def test_person_boxes_are_the_subject_where_they_are_given(root: Path) -> None:
    assert CaerS(root, card()).read("test").box_kind == "face"
    (root / "test_person.txt").write_text("Fear/0001.png,2,0,0,40,36\n")
    reading = CaerS(root, card()).read("test")
    boxes = {p.id: (p.box, p.face) for p in reading.people}
    assert reading.box_kind == "person"
    assert boxes["test/Fear/0001.png"] == ((0, 0, 40, 36), (1, 2, 30, 20))
    assert boxes["test/Fear/0002.png"] == ((2, 2, 30, 20), (2, 2, 30, 20))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Fear/0001.png,2,1,2,30", r"test\.txt:8: Class/file\.png,label,x1,y1,x2,y2 is expected"),
        ("Fear/0001.png,2,1,2,x,4", r"test\.txt:8: four numbers"),
    ],
)
def test_a_row_that_is_no_box_names_its_line(root: Path, row: str, message: str) -> None:
    edit(root / "test.txt", "Fear/0001.png,2,1,2,30,20", row)
    with pytest.raises(DataError, match=message):
        CaerS(root, card()).read("test")


def test_what_is_missing_is_named(root: Path) -> None:
    (root / "test" / "Joy").mkdir()
    with pytest.raises(DataError, match="Joy: unknown class; known: Anger"):
        CaerS(root, card()).read("test")
    (root / "test" / "Joy").rmdir()
    (root / "test.txt").unlink()
    with pytest.raises(DataError, match="no face boxes"):
        CaerS(root, card()).read("test")
    for path in (root / "train" / "Sad").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="no images of class Sad"):
        CaerS(root, card()).read("train")
    with pytest.raises(
        ConfigError, match=r"policies\.face_missing: input should be 'skip', 'full', 'center' or 'raise'"
    ):
        card(no_face="guess")
    with pytest.raises(ConfigError, match=r"reader_options:\s+no_face: unknown; valid: .*val_fraction, val_gap"):
        CaerS(root, cards.load("caer_s").model_copy(update={"reader_options": {"no_face": "full"}}))


def test_a_folder_without_the_set_says_where_to_ask(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"CAER-S not found[\s\S]*Class>/NNNN\.png[\s\S]*Request the set at https"):
        CaerS(tmp_path, card())
