"""The table reader: columns, splits, boxes, and a table of other names that a card alone reads."""

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

HEADER = "path,x1,y1,x2,y2,labels,split"


def card(policies: dict[str, str] | None = None, task: str = "multi_label", vad: bool = False, **options: Any) -> Card:
    found = cards.load("table", policies=policies)
    return found.model_copy(update={"reader_options": options, "task": task, "vad": vad})


def read(root: Path, *rows: str, header: str = HEADER, split: str = "train", **stated: Any) -> Reading:
    (root / "people.csv").write_text("\n".join((header, *rows)) + "\n")
    return TableReader(root, card(**stated)).read(split)


def test_rows_become_people(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        "a.jpg,1,2,30.5,40,calm;tense,train",
        "sub\\b.jpg,,,,,Calm|calm,train",
        "a.jpg,5,6,7,8,,train",
        "c.jpg,1,2,3,4,tense,val",
    )
    assert [(p.id, p.box, p.labels) for p in reading.people] == [
        ("a.jpg#0", (1, 2, 30.5, 40), ("calm", "tense")), ("sub/b.jpg#0", None, ("calm",)),
        ("a.jpg#1", (5, 6, 7, 8), ()),
    ]  # fmt: skip
    assert [p.image for p in reading.people] == [tmp_path / name for name in ("a.jpg", "sub/b.jpg", "a.jpg")]
    assert all(p.face is None and p.vad is None for p in reading.people)
    assert reading.notes == {"label_alias": 1, "label_missing": 1}
    assert reading.people[2].flags == ("label_missing",)


def test_faces_vad_and_ids(tmp_path: Path) -> None:
    header = f"{HEADER},face_x1,face_y1,face_x2,face_y2,v,a,d,id"
    rows = ["a.jpg,1,2,3,4,calm,train,1,1,2,2,1,5.5,10,anna", "a.jpg,1,2,3,4,calm,train,,,,,,3,11,"]
    anna, other = read(tmp_path, *rows, header=header, vad=True, box_origin=1).people
    assert (anna.id, anna.box, anna.face, anna.vad) == ("anna", (0, 1, 3, 4), (0, 0, 2, 2), (1, 5.5, 10))
    assert (other.id, other.face, other.flags) == ("a.jpg#1", None, ("vad_unknown", "vad_outside"))
    assert other.vad is not None
    assert math.isnan(other.vad[0])
    with pytest.raises(DataError, match=r"people\.csv:3: the id 'anna' is in an earlier row, too"):
        read(tmp_path, *[row.rpartition(",")[0] + ",anna" for row in rows], header=header)


def test_a_table_without_boxes_is_of_whole_frames(tmp_path: Path) -> None:
    assert read(tmp_path, "a.jpg,calm,train", header="path,labels,split").people[0].box is None


def test_a_single_label_is_one(tmp_path: Path) -> None:
    single = {"task": "single_label"}
    assert read(tmp_path, "a.jpg,,,,,calm,train", **single).people[0].labels == ("calm",)
    with pytest.raises(DataError, match=r"people\.csv:2: a\.jpg#0: one label is expected.*not calm, tense"):
        read(tmp_path, "a.jpg,,,,,calm;tense,train", **single)
    with pytest.raises(DataError, match=r"no label; a single-label set can't keep.*--policy label_missing=skip"):
        read(tmp_path, "a.jpg,,,,,,train", **single)
    kept = read(tmp_path, "a.jpg,,,,,,train", policies={"label_missing": "skip"}, **single)
    assert (kept.people, kept.left_out) == ([], {"label_missing": 1})


def test_images_lie_below_the_source_or_beside_the_table(tmp_path: Path) -> None:
    for name in ("source/images/a.jpg", "source/tables/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    text = f"{HEADER}\n" + "".join(f"{name}.jpg,,,,,calm,train\n" for name in "abc")
    (tmp_path / "source/tables/people.csv").write_text(text)
    people = TableReader(tmp_path / "source", card(file="tables/people.csv", images="images")).read("train").people
    places = [p.image.relative_to(tmp_path / "source").as_posix() for p in people]
    assert places == ["images/a.jpg", "tables/b.jpg", "images/c.jpg"]


def test_splits_have_the_tables_names(tmp_path: Path) -> None:
    rows = ["a.jpg,,,,,calm,1", "b.jpg,,,,,calm,2", "c.jpg,,,,,calm,3", "b.jpg,,,,,tense,1"]
    (tmp_path / "people.csv").write_text("\n".join((HEADER, *rows)))
    named = {name: SplitSource(split=str(number)) for number, name in enumerate(("train", "val", "test"), 1)}
    ours = card().model_copy(update={"splits": named})
    found = splits.read(ours, tmp_path)
    assert [len(reading.people) for reading in found.values()] == [2, 0, 1]
    assert found["val"].left_out == {"image_shared": 1}
    two = ours.model_copy(update={"splits": {name: named[name] for name in ("train", "test")}})
    with pytest.raises(DataError, match=r"people\.csv:3: split '2': unknown.*valid: 1, 3 .*ignore_splits names it"):
        splits.read(two, tmp_path)
    two = two.model_copy(update={"reader_options": {"ignore_splits": ["2"]}})
    assert sum(reading.listed for reading in splits.read(two, tmp_path).values()) == 3


def test_a_table_for_each_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"path,labels\n{split}.jpg,calm\n")
    reader = TableReader(tmp_path, card(file="{split}.csv"))
    assert [reader.read(split).people[0].id for split in ("train", "test")] == ["train.jpg#0", "test.jpg#0"]
    with pytest.raises(DataError, match=r"val\.csv: A table of people not found[\s\S]*<source>/people\.csv"):
        reader.read("val")


def test_parts_cut_by_image_and_stay(tmp_path: Path) -> None:
    parts = {"train": 0.7, "val": 0.1, "test": 0.2}
    rows = [f"./{i // 2}.jpg,calm" if i % 2 else f"{i // 2}.jpg,calm" for i in range(2000)]
    found = {s: read(tmp_path, *rows, header="path,labels", split=s, parts=parts).people for s in parts}
    images = {split: {p.image for p in people} for split, people in found.items()}
    assert sum(map(len, images.values())) == len(set().union(*images.values())) == 1000
    assert {split: round(len(people) / 2000, 1) for split, people in found.items()} == parts
    fewer = read(tmp_path, *rows[:200], header="path,labels", split="val", parts=parts).people
    assert [p.id for p in fewer] == [p.id for p in found["val"] if int(p.image.stem) < 100]


def test_other_names_of_columns(tmp_path: Path) -> None:
    header = "Image,xmin,ymin,xmax,ymax,Category,Label_SA,Label_CA,Valence,Arousal,Dominance"
    columns = {"path": "Image", "x1": "xmin", "y1": "ymin", "x2": "xmax", "y2": "ymax", "labels": "Category"}
    columns |= {"v": "Valence", "a": "Arousal", "d": "Dominance"}
    options = {"columns": columns, "ignore_columns": ["Label_SA", "Label_CA"], "parts": {"train": 0.99, "test": 0.01}}
    people = read(tmp_path, "1.jpg,1,2,3,4,Calm,3,2,5,6,7,", header=header, vad=True, **options).people
    assert [(p.box, p.labels, p.vad) for p in people] == [((1, 2, 3, 4), ("calm",), (5, 6, 7))]
    with pytest.raises(DataError, match=r"column 'Label_CA': unknown.*or reader_options\.ignore_columns names it"):
        read(tmp_path, header=header, **options | {"ignore_columns": ["Label_SA"]})


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("path,lables,split", {}, r"people\.csv: column 'lables': unknown \(did you mean labels\?\); valid: .*path"),
        ("path,split", {}, r"people\.csv: no column labels; there are: path, split"),
        ("path,labels", {}, r"no column split"),
        ("path,labels,split,x1,y1,x2", {}, r"no column y2"),
        ("path,labels,split,v,a,d,face_x1", {}, r"no column face_y1, face_x2, face_y2"),
        ("path,labels,split", {"vad": True}, r"no column v, a, d"),
        ("path,labels,split,path", {}, r"two columns are called 'path'"),
        ("", {}, r"no column path, labels, split; there are: nothing"),
        ("path;labels;split", {}, r"';' seems to separate the columns.*delimiter: \";\""),
        (HEADER, {"parts": {"train": 0.5, "val": 0.5}}, "states the splits, and so does reader_options.parts"),
    ],
)
def test_a_header_that_does_not_do(header: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, header=header, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"label": "x"}}, r"columns: label: unknown \(did you mean labels\?\)"),
        ({"parts": {"train": 0.5, "valid": 0.5}}, r"parts: valid: unknown \(did you mean val\?\)"),
        ({"parts": {"train": 0.5, "val": 0.4}}, "parts: for one table, and shares that add up to 1 are expected"),
        ({"parts": {"train": 0.5, "val": 0.5}, "file": "{split}.csv"}, "parts: for one table"),
        ({"box_origin": 2}, "box_origin: input should be 0 or 1"),
        ({"files": "x"}, r"files: unknown \(did you mean file\?\)"),
    ],
)
def test_options_that_do_not_do(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"card table: reader_options:\s+{message}"):
        TableReader(tmp_path, card(**options))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,1,2,3,,calm,train", r"people\.csv:3: four numbers x1,y1,x2,y2 are expected, not '1,2,3,'"),
        ("a.jpg,1,2,3,inf,calm,train", r"people\.csv:3: four numbers"),
        ("a.jpg,1,2,3,4,joy,train", r"people\.csv:3: a\.jpg#1: unknown category 'joy'; known: calm, tense"),
        (",1,2,3,4,calm,train", r"people\.csv:3: the path of a file is expected, not ''"),
        ("a.jpg,1,2,3,4,calm", r"people\.csv:3: 7 fields are expected"),
        ("a.jpg,1,2,3,4,calm,train,x", r"people\.csv:3: 7 fields are expected"),
        ("a.jpg,1,2,3,4,calm,trian", r"people\.csv:3: split 'trian': unknown \(did you mean train\?\)"),
    ],
)
def test_a_row_that_does_not_do_names_its_line(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, "a.jpg,1,2,3,4,calm,train", row)


def test_a_number_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"people\.csv:2: a: a number is expected, not 'high'"):
        read(tmp_path, "a.jpg,calm,train,1,high,3", header="path,labels,split,v,a,d", vad=True)
