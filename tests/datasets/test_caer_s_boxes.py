"""Every form in which boxes of CAER-S circulate gives the same people, and what doesn't fit has a rule."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from clef.datasets import cards
from clef.datasets.caer_s import CaerS
from clef.datasets.cards import Card
from clef.datasets.person import Reading
from clef.errors import DataError
from tests.datasets import caer_s_factory
from tests.datasets.caer_s_factory import Boxes


def read(root: Path, split: str = "test", policies: dict[str, str] | None = None, **options: object) -> Reading:
    return CaerS(root, card(policies, **options)).read(split)


def card(policies: dict[str, str] | None = None, **options: object) -> Card:
    found = cards.load("caer_s", policies={"face_missing": "full"} | (policies or {}))
    return found.model_copy(update={"reader_options": {"val_fraction": 0.25, "val_gap": 0, **options}})


@pytest.fixture
def boxes(tmp_path: Path) -> dict[str, Boxes]:
    return caer_s_factory.lay_out(tmp_path)


@pytest.mark.parametrize("kind", ["face", "person"])
@pytest.mark.parametrize("form", caer_s_factory.FORMS)
def test_every_form_gives_the_same_boxes(form: str, kind: str, tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    caer_s_factory.FORMS[form](tmp_path, boxes)
    name = form.partition(",")[0]
    if kind == "person":
        name = {"crop/{split}": "crop_person/{split}"}.get(name, name.replace("{split}", "{split}_person"))
        for split in boxes:
            target = tmp_path / name.replace("{split}", split)
            target.parent.mkdir(exist_ok=True)
            (tmp_path / form.partition(",")[0].replace("{split}", split)).rename(target)
            (tmp_path / f"{split}.txt").write_text("")
    for split, folder in (("train", "train"), ("val", "train"), ("test", "test")):
        reading = read(tmp_path, split)
        assert len(reading.people) == {"train": 21, "val": 7, "test": 21}[split]
        for person in reading.people:
            _, _, image = person.id.partition("/")
            assert (person.face if kind == "face" else person.box) == boxes[folder][image]
        note = f"{kind} boxes from {name.replace('{split}', folder)}"
        assert reading.notes[note] == {"train": 28, "test": 21}[folder]
        assert reading.box_kind == kind
        assert "box_unmatched" not in reading.notes


def test_of_two_forms_the_first_is_read_and_it_is_said(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    caer_s_factory.write_json(tmp_path, boxes)
    caer_s_factory.write_crops(tmp_path, boxes)
    assert read(tmp_path).notes["face boxes from test.json, not from crop/test"] == 21
    caer_s_factory.write_rows(tmp_path, boxes)
    assert read(tmp_path).notes["face boxes from test.txt, not from test.json, crop/test"] == 21
    assert read(tmp_path, boxes="{split}.json").notes["face boxes from test.json"] == 21
    assert read(tmp_path, boxes={"test": ["crop/test"], "train": "train.txt"}).notes["face boxes from crop/test"] == 21
    with pytest.raises(DataError, match=r"other\.txt: no such file"):
        read(tmp_path, boxes="other.txt")


def test_boxes_in_several_files_are_all_read(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    text = caer_s_factory.rows(boxes["test"]).splitlines(keepends=True)
    (tmp_path / "test.txt").write_text("".join(text[:15]))
    (tmp_path / "val.txt").write_text("".join(f"val/{row}" for row in text[15:]))
    reading = read(tmp_path, boxes={"test": ["test.txt", "val.txt"]})
    assert {p.id.partition("/")[2]: p.face for p in reading.people} == boxes["test"]


def test_one_file_for_both_splits_must_say_which_it_means(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    (tmp_path / "all.txt").write_text(
        "".join(caer_s_factory.rows(found, f"{split}/") for split, found in boxes.items())
    )
    for split, folder in (("train", "train"), ("test", "test")):
        for person in read(tmp_path, split, boxes="all.txt").people:
            assert person.face == boxes[folder][person.id.partition("/")[2]]
    caer_s_factory.write_crops_of(tmp_path / "crop", boxes["test"])
    with pytest.raises(DataError, match=r"crop/Anger/0000\.txt: train and test each have an image of that name"):
        read(tmp_path)
    shutil.rmtree(tmp_path / "crop")
    only_test = {"Happy/9999.png": (1, 2, 3, 4)}
    Image.new("RGB", caer_s_factory.SIZE).save(tmp_path / "test/Happy/9999.png")
    caer_s_factory.write_crops_of(tmp_path / "crop", only_test)
    assert [p.face for p in read(tmp_path).people if p.face] == [(1, 2, 3, 4)]


def test_images_and_rows_may_differ_in_case_and_extension(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    caer_s_factory.write_rows(tmp_path, boxes)
    (tmp_path / "test/Happy/0000.png").rename(tmp_path / "test/Happy/0000.JPEG")
    (tmp_path / "test/Fear").rename(tmp_path / "test/FEAR")
    faces = {p.id: p.face for p in read(tmp_path).people}
    assert faces["test/Happy/0000.JPEG"] == (3, 2, 20, 20)
    assert faces["test/FEAR/0002.png"] == (2, 2, 22, 20)
    shutil.copy(tmp_path / "test/Sad/0000.png", tmp_path / "test/Sad/0000.jpg")
    with pytest.raises(DataError, match=r"0000\.png: has the same name as .*0000\.jpg; boxes can't tell the two apart"):
        read(tmp_path)


def test_a_row_that_names_no_image_is_counted_once(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    boxes["train"] |= {"Happy/7777.png": (1, 2, 3, 4), "Joy/0000.png": (1, 2, 3, 4)}
    caer_s_factory.write_json(tmp_path, boxes)
    (tmp_path / "train/Thumbs.db").write_text("")
    train, val = read(tmp_path, "train"), read(tmp_path, "val")
    assert (train.notes["box_unmatched"], train.notes["file_stray"]) == (2, 1)
    assert not val.notes["box_unmatched"]
    assert not val.notes["file_stray"]
    with pytest.raises(DataError, match=r"train\.json: 'Happy/7777\.png': a row of a box file names an image or"):
        read(tmp_path, "train", {"box_unmatched": "raise"})


def test_rows_that_repeat_and_rows_that_contradict(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    text = caer_s_factory.rows(boxes["test"])
    (tmp_path / "test.txt").write_text(text + text.splitlines()[0] + "\n")
    reading = read(tmp_path)
    assert reading.notes["rows of a box file that repeat another"] == 1
    (tmp_path / "test.txt").write_text(text + "Anger/0000.png,0,9,9,19,19\n")
    with pytest.raises(DataError, match=r"test\.txt:22: \(9\.0.*in .*test\.txt:1: rows of a box file give one image"):
        read(tmp_path)
    reading = read(tmp_path, policies={"box_conflict": "keep"})
    assert reading.notes["box_conflict"] == 1
    assert reading.people[0].face == (0, 2, 20, 20)
    text = caer_s_factory.rows(boxes["train"]) + "Angry/0000.png,0,9,9,19,19\n"
    (tmp_path / "train.txt").write_text(text + text.splitlines()[0] + "\n")
    counts = [read(tmp_path, split, {"box_conflict": "keep"}).notes for split in ("train", "val")]
    assert [(c["box_conflict"], c["rows of a box file that repeat another"]) for c in counts] == [(1, 1), (0, 0)]
    (tmp_path / "test.json").write_text('{"Sad/0000.png": [1, 2, 3, 4], "Sad/0000.png": [1, 2, 3, 5]}')
    with pytest.raises(DataError, match="box_conflict: raise"):
        read(tmp_path, boxes="{split}.json")


@pytest.mark.parametrize("label", ["4", "7", "x", "00000000000000000000", "²"])
def test_a_label_that_is_not_the_folders(label: str, tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    rows = caer_s_factory.rows({"Happy/0000.png": (1, 2, 3, 4)}, label=label)
    (tmp_path / "test.txt").write_text(rows)
    with pytest.raises(DataError, match=rf"test\.txt:1: label '{label}', folder Happy: the label in a row"):
        read(tmp_path)
    reading = read(tmp_path, policies={"label_conflict": "keep"})
    assert reading.notes["label_conflict"] == 1
    assert [p.labels for p in reading.people if p.face] == [("Happy",)]


@pytest.mark.parametrize("label", ["3", "happy", ""])
def test_a_label_that_is_the_folders(label: str, tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    (tmp_path / "test.txt").write_text(caer_s_factory.rows({"Happy/0000.png": (1, 2, 3, 4)}, label=label))
    assert "label_conflict" not in read(tmp_path).notes


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("test.txt", "0000.png,3,1,2,3,4\n", r"test\.txt:1: Class/file\.png is expected"),
        ("test.txt", "Sad/,3,1,2,3,4\n", r"test\.txt:1: the path of a file is expected"),
        ("test.txt", "Sad/0.png,5,1,2,3,inf\n", r"test\.txt:1: four numbers"),
        ("test.json", "[]", r"test\.json: \{\"Class/file\.png\""),
        ("test.json", "{", r"test\.json: JSON is expected"),
        ("test.json", "[" * 100_000, r"test\.json: JSON is expected"),
        ("test.json", '{"Sad/0.png": [1, 2, 3]}', r"test\.json: 'Sad/0\.png': four numbers"),
        ("test.json", '{"Sad/0.png": "1,2,3,4"}', r"'Sad/0\.png': \[x1, y1, x2, y2\] or null is expected"),
        ("test.json", '{"Sad/0.png": [1, 2, 3, true]}', r"'Sad/0\.png': \[x1, y1, x2, y2\] or null is expected"),
        ("test.json", f'{{"Sad/0.png": [1, 2, 3, 1{"0" * 400}]}}', r"'Sad/0\.png': four numbers"),
        ("crop/test/Sad/0000.txt", "1,2,3", r"0000\.txt: four numbers"),
        ("crop/test/Sad/0000.txt", "", r"0000\.txt: four numbers"),
    ],
)
def test_a_file_that_is_none_is_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    caer_s_factory.lay_out(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_boxes_that_seem_to_be_shares_of_the_frame_are_refused(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    shares = {name: box and tuple(value / 64 for value in box) for name, box in boxes["test"].items()}
    (tmp_path / "test.json").write_text(json.dumps(shares))
    with pytest.raises(DataError, match=r"test\.json: 'Anger/0000\.png': all boxes lie between 0 and 1"):
        read(tmp_path)


def test_face_boxes_that_are_peoples(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    people = {name: (0, 0, 32, 34) if i % 3 else (0, 0, 8, 8) for i, name in enumerate(boxes["test"])}
    people["Happy/0002.png"] = (-64, -36, 0, 0)  # of no size within the frame
    (tmp_path / "test.json").write_text(json.dumps(people))
    reading = read(tmp_path)
    assert reading.notes["face_is_person"] == 21  # most boxes take 47 % of the frame
    with pytest.raises(DataError, match=r"the face boxes look like people's.*face_is_person"):
        read(tmp_path, policies={"face_is_person": "raise"})
    small = {name: box if i % 3 == 1 else (0, 0, 8, 8) for i, (name, box) in enumerate(people.items())}
    (tmp_path / "test.json").write_text(json.dumps(small))
    assert "face_is_person" not in read(tmp_path).notes


def test_images_that_are_none_are_left_to_the_decoder(tmp_path: Path, boxes: dict[str, Boxes]) -> None:
    caer_s_factory.write_rows(tmp_path, boxes)
    for path in (tmp_path / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    assert len(read(tmp_path, policies={"face_missing": "center"}).people) == 21
