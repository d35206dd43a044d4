"""EMOTIC's annotations in the CSV form of common ports."""

import math
from pathlib import Path

import pytest

from clef.datasets.cards import Card
from clef.datasets.emotic import Emotic
from clef.errors import DataError
from tests.datasets.emotic_factory import BOX, ONE_TEST, ONE_VAL, image, train_person, write
from tests.datasets.test_emotic_layouts import card

HEADER = "Index,Folder,Filename,Image Size,BBox,Categorical_Labels,Continuous_Labels,Gender,Age"
ROW = '0,mscoco/images,a.jpg,"[60, 40]","{box}","{labels}","{vad}",Male,Adult'


def row(box: str = "[11, 6, 30, 40]", labels: str = "['Peace', 'Pain']", vad: str = "[5.0, 6.0, 7.0]") -> str:
    return ROW.format(box=box, labels=labels, vad=vad)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The images and a `.mat` file; the CSV files lie where the port writes them."""
    write(tmp_path, [image("a.jpg", train_person(BOX, "Peace"))], ONE_VAL, ONE_TEST)
    (tmp_path / "emotic_pre").mkdir()
    return tmp_path


def read(root: Path, *rows: str, header: str = HEADER, **options: object) -> Card:
    (root / "emotic_pre/train.csv").write_text("\n".join((header, *rows)) + "\n")
    return Emotic(root, card(form="csv", **options)).read("train")


def test_a_row_is_a_person(root: Path) -> None:
    reading = read(root, row(), row("(1, 1, 5, 5)", "[]", "[nan, 2, 3]"), "", row("[]", "['Doubt Confusion']", "[]"))
    assert [p.id for p in reading.people] == [f"mscoco/images/a.jpg#csv{i}" for i in range(3)]
    assert [p.box for p in reading.people[:2]] == [(10, 5, 30, 40), (0, 0, 5, 5)]
    assert [p.labels for p in reading.people] == [("Peace", "Pain"), (), ("Doubt/Confusion",)]
    assert reading.people[0].vad == (5, 6, 7)
    assert reading.people[0].image == root / "emotic/mscoco/images/a.jpg"
    assert reading.people[1].vad is not None
    assert math.isnan(reading.people[1].vad[0])
    note = "annotations from {train,val,test}.csv in emotic_pre"
    assert reading.notes == {note: 3, "label_alias": 1, "label_missing": 1, "vad_unknown": 2}


def test_sizes_are_width_and_height_and_may_be_absent(root: Path) -> None:
    assert read(root, row(), row().replace("[60, 40]", "")).people[0].image_size == (40, 60)
    assert read(root, row().replace("[60, 40]", "none")).people[0].image_size is None
    without = read(root, row().replace('"[60, 40]",', ""), header=HEADER.replace("Image Size,", ""))
    assert without.people[0].image_size is None


def test_boxes_that_count_from_zero_are_taken_as_they_are(root: Path) -> None:
    assert read(root, row(), box_origin=0).people[0].box == (11, 6, 30, 40)


@pytest.mark.parametrize(
    "header",
    [HEADER.lower(), HEADER.replace("_", " "), HEADER.replace(" ", "").upper(), "\ufeff" + HEADER.replace(",", " , ")],
)
def test_columns_in_other_spellings(root: Path, header: str) -> None:
    assert len(read(root, row(), header=header).people) == 1


def test_the_mat_file_goes_first_unless_the_form_is_stated(root: Path) -> None:
    read(root, row())
    note = "annotations from Annotations/Annotations.mat, not from {train,val,test}.csv in emotic_pre"
    assert Emotic(root, card()).read("train").notes == {note: 1}
    (root / "Annotations/Annotations.mat").unlink()
    assert len(Emotic(root, card()).read("train").people) == 1
    with pytest.raises(DataError, match=r"emotic_pre/test\.csv: no such file"):
        Emotic(root, card()).read("test")
    with pytest.raises(DataError, match=r"Annotations\.mat missing"):
        Emotic(root, card(form="mat"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (row(box="[1, 2, 3]"), r"train\.csv:3: bbox: 4 numbers are expected, not '\[1, 2, 3\]'"),
        (row(box="[1, 2, 3, True]"), "bbox: a list as Python prints it is expected"),
        (row(box="[1, 2, 3, 1e999]"), "four numbers x1,y1,x2,y2 are expected"),
        (row(box=f"[1, 2, 3, 1{'0' * 400}]"), "bbox: 4 numbers are expected"),
        (row(labels="__import__('os').getcwd()"), "categoricallabels: a list as Python prints it"),
        (row(labels="['Joy']"), r"train\.csv:3: person mscoco/images/a\.jpg#csv1: unknown category 'Joy'"),
        (row(labels="[" * 1500), "categoricallabels: a list as Python prints it"),
        (row(labels="-" * 1990 + "1"), "categoricallabels: a list as Python prints it"),
        (row(vad="['" + "x" * 100_000 + "']"), "continuouslabels: a list as Python prints it"),
        (row(labels="['" + "x" * 200_000 + "']"), r"train\.csv:3: a CSV is expected: field larger than field limit"),
        ("0,mscoco/images", r"train\.csv:3: 9 fields are expected"),
        (row().replace("a.jpg", ""), "the path of a file is expected"),
        (row().replace("a.jpg", "a\0.jpg"), "the path of a file is expected"),
        (row().replace("a.jpg", "a" * 300), "the path of a file is expected"),
        ('0,"mscoco/images', r"train\.csv:3: a CSV is expected: unexpected end of data"),
    ],
)
def test_a_row_that_is_none_names_its_line(root: Path, wrong: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(root, row(), wrong)


def test_a_file_of_something_else(root: Path) -> None:
    with pytest.raises(DataError, match=r"no column folder or filename or bbox.*are expected, not path, label"):
        read(root, header="path,label")
    (root / "emotic_pre/train.csv").write_bytes(b"path\xff")
    with pytest.raises(DataError, match="a CSV in UTF-8 is expected"):
        Emotic(root, card(form="csv")).read("train")
