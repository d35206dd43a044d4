"""Every layout in which EMOTIC circulates gives the same people, and what is read where two lie is stated."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from clef.datasets import cards
from clef.datasets.cards import Card
from clef.datasets.emotic import Emotic
from clef.errors import ConfigError, DataError
from tests.datasets.emotic_factory import (
    BOX,
    FROM,
    ONE_TEST,
    ONE_VAL,
    held_person,
    image,
    structs,
    train_person,
    write,
)

LAYOUTS = {  # where the databases lie, and the annotations
    "as given": ("emotic", "Annotations/Annotations.mat"),
    "databases at the top": (".", "Annotations/Annotations.mat"),
    "the zip nests itself": ("emotic/emotic", "Annotations/Annotations.mat"),
    "nested, annotations in it": ("emotic/emotic", "emotic/Annotations/Annotations.mat"),
    "PAMI": ("PAMI/emotic", "PAMI/Annotations/Annotations.mat"),
    "PAMI, nested": ("PAMI/emotic/emotic", "PAMI/Annotations/Annotations.mat"),
    "annotations beside the databases": ("emotic", "emotic/Annotations.mat"),
    "all at the top": (".", "Annotations.mat"),
    "the release of 2017": ("cvpr_emotic", "CVPR17_Annotations.mat"),
    "the release of 2017 in Annotations": ("emotic", "Annotations/CVPR17_Annotations.mat"),
}
TRAIN = [
    image("one.jpg", train_person(BOX, "Happiness")),
    image("two.jpg", train_person(BOX, "Anger", "Fear"), train_person((1, 1, 5, 5), "Pain"), folder="framesdb/images"),
]


def card(**options: object) -> Card:
    return cards.load("emotic").model_copy(update={"reader_options": options})


@pytest.fixture
def usual(tmp_path: Path) -> Path:
    return write(tmp_path / "usual", TRAIN, ONE_VAL, ONE_TEST)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_people(layout: str, usual: Path, tmp_path: Path) -> None:
    databases, annotations = LAYOUTS[layout]
    root = tmp_path / "root"
    shutil.copytree(usual / "emotic", root / databases)
    (root / annotations).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(usual / FROM.removeprefix("annotations from "), root / annotations)
    for split, size in (("train", 3), ("val", 1), ("test", 1)):
        reading, expected = Emotic(root, card()).read(split), Emotic(usual, card()).read(split)
        assert [(p.id, p.box, p.labels, p.vad) for p in reading.people] == [
            (p.id, p.box, p.labels, p.vad) for p in expected.people
        ]
        assert len(reading.people) == size
        assert all(p.image.is_file() for p in reading.people)
        assert reading.notes == {f"annotations from {annotations}": size}


def test_of_two_annotation_files_the_newer_is_read_and_it_is_said(usual: Path) -> None:
    savemat(usual / "CVPR17_Annotations.mat", {"train": structs(*TRAIN[:1])})
    reading = Emotic(usual, card()).read("train")
    assert reading.notes == {"annotations from Annotations/Annotations.mat, not from CVPR17_Annotations.mat": 3}
    older = Emotic(usual, card(annotations="CVPR17_Annotations.mat")).read("train")
    assert older.notes == {"annotations from CVPR17_Annotations.mat": 1}
    with pytest.raises(DataError, match=r"Other\.mat: no such file or folder; reader_options\.annotations names it"):
        Emotic(usual, card(annotations="Other.mat"))


def test_images_are_taken_from_the_folder_that_has_them(usual: Path) -> None:
    moved = usual / "cvpr_emotic/mscoco/images"
    moved.mkdir(parents=True)
    (usual / "emotic/mscoco/images/one.jpg").rename(moved / "one.jpg")
    assert [p.image.is_file() for p in Emotic(usual, card()).read("train").people] == [True] * 3


def test_an_option_that_is_none(usual: Path) -> None:
    with pytest.raises(ConfigError, match=r"card emotic: reader_options:\s+forms: unknown \(did you mean form\?\)"):
        Emotic(usual, card(forms="csv"))


def test_a_file_of_matlab_7_3_says_how_to_save_it(usual: Path) -> None:
    path = usual / "Annotations/Annotations.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(512))
    with pytest.raises(DataError, match=r"v7\.3 \(HDF5\); load it there and save it again with -v7"):
        Emotic(usual, card())


def test_what_is_odd_but_plausible_in_a_mat_file(tmp_path: Path) -> None:
    nobody = image("nobody.jpg", train_person(BOX, "Peace")) | {"person": np.zeros((0, 0))}
    blanks = image(" a b.jpg ", train_person(BOX), folder="mscoco\\images/")
    bare = train_person(BOX) | {"annotations_categories": {"categories": "Yearning"}, "body_bbox": np.zeros((0, 0))}
    root = write(tmp_path, [TRAIN[0]], ONE_VAL, ONE_TEST)
    Image.new("RGB", (60, 40)).save(root / "emotic/mscoco/images/a b.jpg")
    content = {"train": structs(nobody, blanks, image("one.jpg", bare))}
    savemat(root / "Annotations/Annotations.mat", content)
    reading = Emotic(root, card()).read("train")
    assert [(p.id, p.labels) for p in reading.people] == [
        ("mscoco/images/a b.jpg#0", ()), ("mscoco/images/one.jpg#0", ("Yearning",)),
    ]  # fmt: skip
    assert reading.people[0].image.is_file()
    assert all(map(math.isnan, reading.people[1].box or ()))  # found to be empty when the image is decoded
    assert reading.notes == {"images that list nobody": 1, "label_missing": 1, FROM: 2}


def test_a_person_of_test_without_annotators(tmp_path: Path) -> None:
    none = np.zeros((0, 0))
    bare = held_person(BOX) | {
        "annotations_categories": none, "annotations_continuous": none, "combined_continuous": none,
    }  # fmt: skip
    root = write(tmp_path, TRAIN, ONE_VAL, [image("t.jpg", held_person(BOX, "Pain"), bare)])
    reading = Emotic(root, card()).read("test")
    assert reading.people[1].flags == ("annotators_missing", "label_missing", "vad_unknown")
    assert reading.notes["annotators_missing"] == 1
    strict = cards.load("emotic", policies={"annotators_missing": "skip"})
    assert Emotic(root, strict).read("test").left_out == {"annotators_missing": 1}


def test_two_entries_of_one_image_keep_ids_apart(tmp_path: Path) -> None:
    root = write(tmp_path, [TRAIN[0], TRAIN[0]], ONE_VAL, ONE_TEST)
    people = Emotic(root, card()).read("train").people
    assert [p.id for p in people] == ["mscoco/images/one.jpg#0", "mscoco/images/one.jpg#1"]
