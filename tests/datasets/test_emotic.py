"""The EMOTIC reader on `.mat` files written by hand, with what is known to be dirty in the real one."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from clef.datasets import cards, splits
from clef.datasets.emotic import Emotic
from clef.errors import DataError
from tests.datasets.emotic_factory import BOX, FROM, ONE_TEST, ONE_VAL, held_person, image, train_person, vad, write

CARD = cards.load("emotic")


def test_one_person_and_one_label_arrive_as_scalars_and_are_read(tmp_path: Path) -> None:
    train = [
        image("one.jpg", train_person(BOX, "Happiness")),
        image("two.jpg", train_person(BOX, "Anger", "Fear"), train_person((1, 1, 5, 5), "Pain")),
    ]
    people = Emotic(write(tmp_path, train, ONE_VAL, ONE_TEST), CARD).read("train").people
    assert [p.id for p in people] == ["mscoco/images/one.jpg#0", "mscoco/images/two.jpg#0", "mscoco/images/two.jpg#1"]
    assert [p.labels for p in people] == [("Happiness",), ("Anger", "Fear"), ("Pain",)]
    assert people[0].vad == (5, 6, 7)
    assert people[0].image == tmp_path / "emotic/mscoco/images/one.jpg"
    assert people[0].face is None


def test_boxes_become_zero_based_and_half_open(tmp_path: Path) -> None:
    # The official loader takes columns max(1,x1)-1 up to x2: 1-based inclusive 11..30 are 20 columns from 10 on.
    person = Emotic(write(tmp_path, [image("a.jpg", train_person(BOX, "Peace"))], ONE_VAL, ONE_TEST), CARD)
    assert person.read("train").people[0].box == (10, 5, 30, 40)


def test_the_image_size_is_read_by_name_where_it_is_stated(tmp_path: Path) -> None:
    train = [image(name, train_person(BOX, "Peace")) for name in ("a.jpg", "b.jpg")]
    train[1]["image_size"] = {"n_col": np.zeros((0, 0)), "n_row": 40.0}
    people = Emotic(write(tmp_path, train, ONE_VAL, ONE_TEST), CARD).read("train").people
    assert [person.image_size for person in people] == [(40, 60), None]


def test_val_and_test_use_the_combined_annotations(tmp_path: Path) -> None:
    train = [image("a.jpg", train_person(BOX, "Peace"))]
    reader = Emotic(write(tmp_path, train, ONE_VAL, [image("t.jpg", held_person(BOX, "Peace", "Pain"))]), CARD)
    (person,) = reader.read("test").people
    assert (person.labels, person.vad) == (("Peace", "Pain"), (3, 4, 5))


def test_spellings_doubles_missing_labels_and_nan(tmp_path: Path) -> None:
    train = [
        image("a.jpg", train_person(BOX, "Disquitement", "Disquietment", "Doubt Confusion")),
        image("b.jpg", train_person(BOX, values=vad(math.nan, 2, 3))),
    ]
    reading = Emotic(write(tmp_path, train, ONE_VAL, ONE_TEST), CARD).read("train")
    assert reading.people[0].labels == ("Disquietment", "Doubt/Confusion")
    assert reading.people[1].labels == ()
    assert math.isnan(reading.people[1].vad[0])  # type: ignore[index]
    assert reading.notes == {"label_alias": 1, "label_missing": 1, "vad_unknown": 1, FROM: 2}
    assert [p.flags for p in reading.people] == [("label_alias",), ("label_missing", "vad_unknown")]


def test_val_shares_no_image_with_train_or_test(tmp_path: Path) -> None:
    # In the real set, 376 framesdb images of train are in val too.
    shared = image("s.jpg", train_person(BOX, "Peace"), folder="framesdb/images")
    leak = image("s.jpg", held_person(BOX, "Peace"), held_person((1, 1, 40, 40), "Pain"), folder="framesdb/images")
    same_name = image("s.jpg", held_person(BOX, "Fear"))  # another image: mscoco's s.jpg
    source = write(tmp_path, [shared], [leak, same_name], ONE_TEST)
    readings = splits.read(CARD, source)
    assert [p.id for p in readings["val"].people] == ["mscoco/images/s.jpg#0"]
    assert readings["val"].left_out == {"image_shared": 2}
    assert readings["val"].listed == 3
    assert len(readings["train"].people) == 1
    paper = splits.read(cards.load("emotic", "paper"), source)["val"]
    assert len(paper.people) == 3
    assert paper.notes == {"image_shared": 2, FROM: 3}
    with pytest.raises(DataError, match=r"s\.jpg#0: the image is in val.*policy image_shared: raise.*=keep or.*=skip"):
        splits.read(cards.load("emotic", policies={"image_shared": "raise"}), source)


def test_faces_come_from_the_file_beside(tmp_path: Path) -> None:
    train = [image("a.jpg", train_person(BOX, "Peace"), train_person(BOX, "Pain"))]
    write(tmp_path, train, ONE_VAL, ONE_TEST)
    (tmp_path / "faces.csv").write_text("id,x1,y1,x2,y2\nmscoco/images/a.jpg#1,1,2,3.5,4\n")
    people = Emotic(tmp_path, CARD).read("train").people
    assert [p.face for p in people] == [None, (1, 2, 3.5, 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "header id,x1,y1,x2,y2 is expected"),
        ("id,x1,y1,x2,y2\nz,1,2,3,four\n", r"faces\.csv:2: four numbers"),
    ],
)
def test_a_face_file_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, [image("a.jpg", train_person(BOX, "Peace"))], ONE_VAL, ONE_TEST)
    (tmp_path / "faces.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        Emotic(tmp_path, CARD)


def test_an_unknown_category_names_the_person_and_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path, [image("a.jpg", train_person(BOX, "Joy"))], ONE_VAL, ONE_TEST)
    with pytest.raises(
        DataError, match=r"train: person mscoco/images/a\.jpg#0: unknown category 'Joy'; known: Affection.*=skip"
    ):
        Emotic(tmp_path, CARD).read("train")


def test_a_folder_without_the_set_says_what_tree_was_expected_and_where_to_ask(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"EMOTIC not found.*Annotations\.mat missing") as error:
        Emotic(tmp_path, CARD)
    assert "emotic/{mscoco,framesdb,emodb_small,ade20k}/images" in str(error.value)
    assert "Request the set at https://" in str(error.value)


def test_a_mat_file_of_something_else(tmp_path: Path) -> None:
    write(tmp_path, [image("a.jpg", train_person(BOX, "Peace"))], ONE_VAL, ONE_TEST)
    path = tmp_path / "Annotations" / "Annotations.mat"
    path.write_bytes(b"no matlab here" * 20)
    with pytest.raises(DataError, match="can't be read as a MATLAB v5 file"):
        Emotic(tmp_path, CARD)
    savemat(path, {"other": 1})
    with pytest.raises(DataError, match="no struct array 'train'"):
        Emotic(tmp_path, CARD).read("train")
    savemat(path, {"train": np.arange(3)})
    with pytest.raises(DataError, match="without `folder` or `filename`"):
        Emotic(tmp_path, CARD).read("train")


def test_rows_of_the_face_file_that_match_nobody_are_counted_once(tmp_path: Path) -> None:
    train = [image("a.jpg", train_person(BOX, "Peace")), image("b.jpg", train_person(BOX, "Joy"))]
    write(tmp_path, train, ONE_VAL, ONE_TEST)
    ids = [
        " mscoco\\images\\a.jpg#0 ",
        "mscoco/images/b.jpg#0",
        "mscoco/images/v.jpg#0",
        "a.jpg#0",
        "mscoco/images/t.jpg#1",
    ]
    (tmp_path / "faces.csv").write_text("id,x1,y1,x2,y2\n" + "".join(f"{name},1,2,3,4\n" for name in ids))
    readings = splits.read(cards.load("emotic", policies={"label_unknown": "skip"}), tmp_path)
    assert readings["train"].people[0].face == (1, 2, 3, 4)
    assert {split: reading.notes["box_unmatched"] for split, reading in readings.items()} == {
        "train": 2,
        "val": 0,
        "test": 0,
    }
    assert readings["train"].examples["box_unmatched"] == [f"{tmp_path}/faces.csv:5", f"{tmp_path}/faces.csv:6"]
    with pytest.raises(DataError, match=r"faces\.csv:5: .*names an image or a person that is not there"):
        splits.read(cards.load("emotic", policies={"label_unknown": "skip", "box_unmatched": "raise"}), tmp_path)


def test_vad_that_seems_to_be_on_another_scale_is_refused(tmp_path: Path) -> None:
    train = [
        image(f"{i}.jpg", train_person(BOX, "Peace", values=vad(*values)))
        for i, values in enumerate([(0.5, 0.6, 1), (math.nan, 0.1, 0.2)])
    ]
    write(tmp_path, train, ONE_VAL, ONE_TEST)
    with pytest.raises(
        DataError, match=r"Annotations\.mat: train: valence, arousal and dominance lie between -1 and 1"
    ):
        Emotic(tmp_path, CARD).read("train")


def test_boxes_that_seem_to_be_shares_of_the_frame_are_refused(tmp_path: Path) -> None:
    train = [image("a.jpg", train_person((0.1, 0.2, 0.9, 1.02), "Peace"), train_person((0, 0, 0, 0), "Pain"))]
    write(tmp_path, train, ONE_VAL, ONE_TEST)
    with pytest.raises(DataError, match=r"Annotations\.mat: train: all boxes lie between 0 and 1.*pixels are expected"):
        Emotic(tmp_path, CARD).read("train")
    (tmp_path / "faces.csv").write_text("id,x1,y1,x2,y2\nz,0.1,0.1,0.5,0.5\n")
    with pytest.raises(DataError, match=r"faces\.csv: all boxes lie between 0 and 1"):
        Emotic(tmp_path, CARD)
