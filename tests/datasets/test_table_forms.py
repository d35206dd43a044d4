"""Tables as people have them: other separators, encodings and units, a column for each class, no val."""

import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clef.datasets import cards, splits
from clef.datasets.cards import Card, SplitSource
from clef.datasets.person import Reading
from clef.datasets.table import TableReader
from clef.errors import ConfigError, DataError
from tests.datasets.test_table import HEADER, card, read


def write(root: Path, text: str, encoding: str = "utf-8") -> None:
    (root / "people.csv").write_bytes(text.encode(encoding))


# A column for each class


def test_a_column_for_each_class_states_the_labels(tmp_path: Path) -> None:
    rows = ["a.jpg,1,0,train", "b.jpg, 1.0 ,TRUE,train", "c.jpg,0,false,train"]
    reading = read(tmp_path, *rows, header="path,Calm,tense,split")
    assert [p.labels for p in reading.people] == [("calm",), ("calm", "tense"), ()]
    assert reading.notes == {"label_alias": 2, "label_missing": 1}
    with pytest.raises(DataError, match=r"a\.jpg#0: one label is expected.*not calm, tense"):
        read(tmp_path, "a.jpg,1,1,train", header="path,calm,tense,split", task="single_label")


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("path,calm,split", "a.jpg,1,train", "no column of class tense, where other classes have one"),
        ("path,calm,tense,CALM,split", "a.jpg,1,0,0,train", "columns 'calm', 'CALM' are all of the class 'calm'"),
        ("path,calm,tense,labels,split", "a.jpg,1,0,calm,train", "column 'calm': unknown"),
        ("path,calm,tense,sad,split", "a.jpg,1,0,0,train", "column 'sad': unknown"),
        ("path,calm,tense,split", "a.jpg,1,,train", r"people\.csv:2: tense: 0 or 1 is expected, not ''"),
        ("path,calm,tense,split", "a.jpg,0.7,0,train", r"people\.csv:2: calm: 0 or 1 is expected, not '0\.7'"),
        ("path,calm,tense,split", "a.jpg,-1,0,train", r"people\.csv:2: calm: 0 or 1 is expected, not '-1'"),
    ],
)
def test_columns_of_classes_that_do_not_do(header: str, row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, row, header=header)


# Separators and encodings

GERMAN = "path;x1;y1;x2;y2;labels;split;v;a;d\nMüller.jpg;1,5;2;30,25;40;calm|tense;train;5,5;1;10\n"


@pytest.mark.parametrize(
    ("text", "encoding", "options"),
    [
        (GERMAN, "cp1252", {"delimiter": ";", "encoding": "cp1252"}),
        (GERMAN, "utf-8-sig", {"delimiter": ";"}),
        (GERMAN, "utf-8-sig", {"delimiter": ";", "encoding": "UTF-8"}),
        ("sep=;\r\n" + GERMAN.replace("\n", "\r\n"), "utf-8-sig", {"delimiter": ";"}),
        (GERMAN.replace(";", "\t"), "utf-16", {"delimiter": "tab"}),  # what Excel saves as Unicode text
        (GERMAN.replace(";", "\t"), "utf-16-le", {"delimiter": "\t", "encoding": "utf-16-le"}),
    ],
)
def test_a_table_from_a_german_excel(text: str, encoding: str, options: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path, text, encoding)
    (person,) = TableReader(tmp_path, card(vad=True, decimal=",", **options)).read("train").people
    assert (person.id, person.box, person.vad) == ("Müller.jpg#0", (1.5, 2, 30.25, 40), (5.5, 1, 10))
    assert person.labels == ("calm", "tense")


@pytest.mark.parametrize(
    ("text", "encoding", "options", "message"),
    [
        (GERMAN, "utf-8", {}, r"';' seems to separate the columns, not ','.*reader_options\.delimiter: \";\""),
        (GERMAN.replace(";", "\t"), "utf-8", {}, r"'\\t' seems to separate .*delimiter: \"\\t\""),
        (GERMAN, "cp1252", {"delimiter": ";"}, r"a CSV in UTF-8 is expected.*reader_options\.encoding: latin-1"),
        (
            GERMAN,
            "utf-8",
            {"delimiter": ";"},
            r":2: x1: a number is expected, not '1,5'; reader_options\.decimal: \",\"",
        ),
        (GERMAN.replace("30,25", "1.030,25"), "utf-8", {"delimiter": ";", "decimal": ","}, r":2: four numbers"),
        (GERMAN, "utf-8", {"delimiter": ";", "encoding": "utf-16"}, "a CSV in UTF-16 is expected"),
    ],
)
def test_a_form_that_is_not_stated_is_asked_for(
    text: str, encoding: str, options: dict[str, str], message: str, tmp_path: Path
) -> None:
    write(tmp_path, text, encoding)
    with pytest.raises(DataError, match=message):
        TableReader(tmp_path, card(**{"ignore_columns": ["v", "a", "d"]} | options)).read("train")


# Units


def test_boxes_in_shares_of_the_frame(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    header = f"{HEADER},face_x1,face_y1,face_x2,face_y2"
    rows = [
        "a.png,0.1,0.2,0.5,1,calm,train,0.2,0.25,0.3,0.5",
        "a.png,,,,,calm,train,,,,",
        "gone.png,0,0,1,1,calm,train,,,,",
    ]
    with pytest.raises(DataError, match=r"people\.csv: all boxes lie between 0 and 1.*boxes: relative, or pixels"):
        read(tmp_path, *rows, header=header)
    first, whole, gone = read(tmp_path, *rows, header=header, boxes="relative").people
    assert first.box == pytest.approx((20, 20, 100, 100))
    assert first.face == pytest.approx((40, 25, 60, 50))
    assert whole.box is None
    assert all(map(math.isnan, gone.box or ()))
    assert read(tmp_path, *rows, header=header, boxes="pixels").people[0].box == (0.1, 0.2, 0.5, 1)
    with pytest.raises(DataError, match=r"people\.csv:2: a box between 0 and 1 is expected"):
        read(tmp_path, "a.png,10,20,50,100,calm,train", boxes="relative")


def test_boxes_of_width_and_height(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    rows = ["a.png,100,50,40,30,calm,train", "a.png,1,2,30,20,calm,train"]
    with pytest.raises(DataError, match=r"many boxes end before they begin, so x2, y2 seem .*box_form: size, or cor"):
        read(tmp_path, *rows)
    assert [p.box for p in read(tmp_path, *rows, box_form="size").people] == [(100, 50, 140, 80), (1, 2, 31, 22)]
    assert read(tmp_path, *rows, box_form="size", box_origin=1).people[1].box == (0, 1, 30, 21)
    assert read(tmp_path, *rows, box_form="corners").people[0].box == (100, 50, 40, 30)
    shares = read(tmp_path, "a.png,0.5,0.5,0.25,0.2,calm,train", box_form="size", boxes="relative")
    assert shares.people[0].box == pytest.approx((100, 50, 150, 70))
    few = [f"a.png,{i},0,99,99,calm,train" for i in range(100)]
    assert read(tmp_path, "a.png,9,9,1,1,calm,train", *few).listed == 101, "a slip is a fault of one person"


def test_rows_of_a_spreadsheet_that_were_emptied(tmp_path: Path) -> None:
    assert read(tmp_path, "a.jpg,1,2,3,4,calm,train", ",,,,,,", " , ,,,,,", "b.jpg,1,2,3,4,calm,train").listed == 2


def test_shares_of_a_frame_that_exif_turns_follow_the_policy(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg", exif=exif)
    row = "a.jpg,0,0,1,0.5,calm,train"
    boxes = {
        policy: read(tmp_path, row, boxes="relative", policies={"image_rotated": policy}).people[0].box
        for policy in ("stored", "turned")
    }
    assert boxes == {"stored": (0, 0, 200, 50), "turned": (0, 0, 100, 100)}


@pytest.mark.parametrize(
    ("scale", "stated", "expected"),
    [([-1, 1], (-1, 0, 1), (1, 5.5, 10)), ([0, 1], (0, 0.5, 1), (1, 5.5, 10)), ([1, 10], (0.5, 1, 1), (0.5, 1, 1))],
)
def test_vad_on_another_scale(
    scale: list[float], stated: tuple[float, ...], expected: tuple[float, ...], tmp_path: Path
) -> None:
    header = "path,labels,split,v,a,d"
    rows = [f"a.jpg,calm,train,{','.join(map(str, stated))}", "b.jpg,calm,val,,,"]
    with pytest.raises(DataError, match=r"people\.csv: v, a, d lie between -1 and 1.*vad_range: \[-1, 1\]"):
        read(tmp_path, *rows, header=header, vad=True)
    reading = read(tmp_path, *rows, header=header, vad=True, vad_range=scale)
    assert reading.people[0].vad == expected
    assert reading.notes["vad_outside"] == (scale == [1, 10])


# No val


def no_val(split: str = "val", **options: Any) -> Card:
    options = {"val_fraction": 0.25} | options
    named = {"train": SplitSource(split="train"), "val": SplitSource(split=split), "test": SplitSource(split="test")}
    return cards.load("table").model_copy(update={"reader_options": options, "splits": named})


def images(readings: dict[str, Reading]) -> dict[str, list[str]]:
    return {split: sorted({p.image.name for p in reading.people}) for split, reading in readings.items()}


def test_val_is_cut_from_train_by_image(tmp_path: Path) -> None:
    rows = [f"{i % 20}.jpg,calm,train" for i in range(40)] + ["t.jpg,calm,test"]
    write(tmp_path, "\n".join(["path,labels,split", *rows]))
    readings = splits.read(no_val(), tmp_path)
    found = images(readings)
    assert [len(found[split]) for split in ("train", "val", "test")] == [15, 5, 1]
    assert not set(found["train"]) & set(found["val"])
    assert readings["val"].notes["cut from train by image: a share of 0.25, seed 0"] == 10
    assert readings["train"].notes == {"box_repeated": 15}
    assert images(splits.read(no_val(), tmp_path)) == found
    assert images(splits.read(no_val(seed=1), tmp_path))["val"] != found["val"]


def test_val_is_cut_from_train_by_subject(tmp_path: Path) -> None:
    rows = [f"{i}.jpg,calm,train,anna-{i % 5}" for i in range(20)] + ["t.jpg,calm,test,anna-0"]
    write(tmp_path, "\n".join(["path,labels,split,subject", *rows]))
    readings = splits.read(no_val(val_fraction=0.01), tmp_path)  # one subject at least
    val = {int(name.partition(".")[0]) % 5 for name in images(readings)["val"]}
    assert len(val) == 1
    assert [len(reading.people) for reading in readings.values()] == [16, 4, 1]
    assert readings["val"].notes == {"cut from train by subject: a share of 0.01, seed 0": 4}


def test_parts_are_cut_by_subject(tmp_path: Path) -> None:
    write(tmp_path, "\n".join(["path,labels,subject", *(f"{i}.jpg,calm,{i % 40}" for i in range(400))]))
    parts = {"train": 0.6, "val": 0.2, "test": 0.2}
    base = cards.load("table")
    readings = splits.read(base.model_copy(update={"reader_options": {"parts": parts, "seed": 3}}), tmp_path)
    subjects = [{int(name.partition(".")[0]) % 40 for name in names} for names in images(readings).values()]
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == 40
    assert all(reading.notes == {"cut by subject, seed 3": len(reading.people)} for reading in readings.values())


def test_val_is_cut_from_the_table_of_train(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("path,labels\n" + "".join(f"{split}/{i}.jpg,calm\n" for i in range(8)))
    readings = splits.read(no_val(file="{split}.csv"), tmp_path)
    assert [len(reading.people) for reading in readings.values()] == [6, 2, 8]


def test_the_tables_val_may_be_the_test(tmp_path: Path) -> None:
    write(tmp_path, "path,labels,split\n" + "".join(f"{i}.jpg,calm,{'val' if i > 7 else 'train'}\n" for i in range(10)))
    ours = no_val("cut").model_copy()
    ours = ours.model_copy(update={"splits": {**ours.splits, "test": SplitSource(split="val")}})
    assert [len(reading.people) for reading in splits.read(ours, tmp_path).values()] == [6, 2, 2]


def test_a_table_without_val_says_how_to_cut_one(tmp_path: Path) -> None:
    rows = ["a.jpg,calm,train", "b.jpg,calm,test"]
    with pytest.raises(DataError, match=r"no row is of split 'val'; there are: train, test; .*val_fraction cuts one"):
        read(tmp_path, *rows, header="path,labels,split", split="val")
    with pytest.raises(DataError, match=r"val\.csv: .* not found[\s\S]*val_fraction cuts a val from train"):
        read(tmp_path, file="{split}.csv", split="val")
    write(tmp_path, "path,labels,split\na.jpg,calm,val\n")
    with pytest.raises(
        DataError, match=r"people\.csv:2: a row of 'val', which reader_options\.val_fraction says is cut"
    ):
        splits.read(no_val(), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.1, "parts": {"train": 0.5, "val": 0.5}}, "val_fraction: for a card with train and val"),
        ({"val_fraction": 1}, "val_fraction: input should be less than 1"),
        ({"seed": 1}, "seed: has an effect with parts or val_fraction only"),
        ({"boxes": "relative", "box_origin": 1}, "box_origin: 0 is expected for relative boxes"),
        ({"vad_range": [-1, 1]}, "vad_range: has an effect with vad: true in the card only"),
        ({"vad_range": [1, -1], "vad": True}, "vad_range: the lower end before the higher is expected"),
        ({"encoding": "utf-9"}, "encoding: an encoding of text is expected, such as utf-8"),
        ({"encoding": "base64"}, "encoding: an encoding of text is expected"),
        ({"delimiter": "  "}, "delimiter: input should be"),
    ],
)
def test_options_that_contradict(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"card table: reader_options:\s+{message}"):
        TableReader(tmp_path, card(**options))


# Trees


def test_a_table_nested_by_its_zip_file_and_names_in_another_form(tmp_path: Path) -> None:
    folder = tmp_path / "Set/set"
    (folder / "Images").mkdir(parents=True)
    (tmp_path / "__MACOSX/Set").mkdir(parents=True)
    (tmp_path / "__MACOSX/Set/people.csv").write_bytes(b"\0")
    Image.new("RGB", (9, 9)).save(folder / "Images/Mu\u0308ller.jpg")  # decomposed, as a Mac stores it
    (folder / "People.csv").write_text("path,labels,split\nM\u00fcller.jpg,calm,train\n", encoding="utf-8")
    reading = TableReader(tmp_path, card(images="images")).read("train")
    assert reading.people[0].image.is_file()
    assert reading.notes == {"the dataset is in Set/set": 1}


def test_whole_frames_that_are_listed_twice_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "path,labels,split\na.jpg,calm,train\nb.jpg,calm,val\nc.jpg,calm,test\na.jpg,tense,train\n")
    kept = splits.read(card(), tmp_path)["train"]
    assert (len(kept.people), kept.notes) == (2, {"box_repeated": 1})
    assert kept.people[1].flags == ("box_repeated",)
    skipped = splits.read(card(policies={"box_repeated": "skip"}), tmp_path)["train"]
    assert ([p.labels for p in skipped.people], skipped.left_out) == ([("calm",)], {"box_repeated": 1})
