"""Whatever stands in a box file, a list or an annotation file: it is read and counted, or refused in one sentence."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from clef.datasets import cards, open_reader
from clef.datasets.cards import Card
from clef.datasets.person import Reading
from clef.errors import ClefError
from tests.datasets import caer_s_factory
from tests.datasets.emotic_factory import ONE_TEST, ONE_VAL, image, structs, train_person, write
from tests.datasets.test_emotic_csv import HEADER, row

KEEP = {"box_conflict": "keep", "label_conflict": "keep", "label_unknown": "skip"}
SCRAPS = [
    "", ",", ",,,,", "\n", "\r", '"', "'", "[", "]", "{}", "[]", "null", "nan", "inf", "-1e400", "0,0,0,0", "1" * 5000,
    "/", "..", "../" * 20, "\\", "\0", "\ufeff", "é", "٣", "Happy/0001.png", "test/", "train/", "val/", "Angry", "joy",
    "calm", ";|;", "-" * 3000, "(" * 300, "True", "None", "x" * 300, "\x85", "\u2028",
]  # fmt: skip
SOME = settings(max_examples=60, deadline=None)


def mutated(text: str) -> st.SearchStrategy[bytes]:
    """The text with scraps put over parts of it, and perhaps a byte that is no UTF-8."""
    scrap = st.sampled_from(SCRAPS) | st.text(max_size=8)
    edits = st.lists(st.tuples(st.integers(0, len(text)), st.integers(0, 12), scrap), max_size=4)

    def apply(found: list[tuple[int, int, str]], odd: bytes) -> bytes:
        result = text
        for start, length, scrap in found:
            result = result[:start] + scrap + result[start + length :]
        return result.encode(errors="surrogatepass") + odd

    return st.builds(apply, edits, st.sampled_from([b"", b"", b"", b"\xff"]))


def outcome(card: Card, root: Path, split: str) -> Reading | None:
    """What is read, or None when it is refused. Anything but a ClefError is a fault of ours."""
    try:
        reading = open_reader(card, root).read(split)
    except ClefError:
        return None
    for person in reading.people:
        person.image.exists()  # a path that the system can be asked for
        repr(person).encode()
    return reading


@pytest.fixture(scope="module")
def caer_s(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("caer_s")
    caer_s_factory.write_rows(root, caer_s_factory.lay_out(root))
    return root


ROWS = caer_s_factory.rows({f"{name}/0000.png": (1, 2, 30, 20) for name in caer_s_factory.CLASSES}, "test/")
JSON = '{"Happy/0000.png": [1, 2, 30, 20], "test/Sad/0001.png": null, "Fear/0002.png": [1.5, -2, 3e1, 20]}'


@SOME
@given(mutated(ROWS).map(lambda text: ("txt", text)) | mutated(JSON).map(lambda text: ("json", text)))
def test_any_box_file(caer_s: Path, form: tuple[str, bytes]) -> None:
    name = f"boxes.{form[0]}"
    (caer_s / name).write_bytes(form[1])
    card = cards.load("caer_s", policies=KEEP).model_copy(update={"reader_options": {"boxes": name}})
    reading = outcome(card, caer_s, "test")
    assert reading is None or reading.listed == 21


@SOME
@given(mutated("1,2,30,20"))
def test_any_crop_file(caer_s: Path, content: bytes) -> None:
    (caer_s / "crop/test/Happy").mkdir(parents=True, exist_ok=True)
    (caer_s / "crop/test/Happy/0000.txt").write_bytes(content)
    card = cards.load("caer_s").model_copy(update={"reader_options": {"boxes": "crop/{split}"}})
    reading = outcome(card, caer_s, "test")
    assert reading is None or reading.listed == 21


@SOME
@given(mutated(ROWS))
def test_any_list(caer_s: Path, content: bytes) -> None:
    (caer_s / "test.list").write_bytes(content)
    card = cards.load("caer_s", policies=KEEP).model_copy(update={"reader_options": {"lists": "{split}.list"}})
    reading = outcome(card, caer_s, "test")
    assert reading is None or reading.listed == 21 + reading.left_out["image_missing"]


def rows_of(content: bytes) -> int:
    """How many rows a CSV has below its header, as Python's csv sees it."""
    lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    return sum(map(bool, lines)) - 1


TABLE = "path,x1,y1,x2,y2,labels,split,v,a,d\na.jpg,1,2,3,4,calm,train,1,2,3\nb.jpg,,,,,calm;tense,val,,,\n"


@SOME
@given(mutated(TABLE), st.sampled_from(["multi_label", "single_label"]), st.booleans())
def test_any_table(tmp_path_factory: pytest.TempPathFactory, content: bytes, task: str, vad: bool) -> None:
    root = tmp_path_factory.getbasetemp() / "table"
    root.mkdir(exist_ok=True)
    (root / "people.csv").write_bytes(content)
    card = cards.load("table", policies=KEEP).model_copy(update={"task": task, "vad": vad})
    readings = [outcome(card, root, part.split) for part in card.splits.values()]
    if None not in readings:
        assert sum(reading.listed for reading in readings if reading) == rows_of(content)


@pytest.fixture(scope="module")
def emotic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("emotic")
    return write(root, [image("a.jpg", train_person((1, 1, 9, 9), "Peace"))], ONE_VAL, ONE_TEST)


@SOME
@given(mutated("\n".join([HEADER, row(), row("[1, 1, 5, 5]", "[]", "[nan, 2, 3]")]) + "\n"))
def test_any_csv_of_emotic(emotic: Path, content: bytes) -> None:
    (emotic / "train.csv").write_bytes(content)
    card = cards.load("emotic", policies=KEEP).model_copy(update={"reader_options": {"form": "csv"}})
    reading = outcome(card, emotic, "train")
    assert reading is None or reading.listed == rows_of(content)


@SOME
@given(mutated("id,x1,y1,x2,y2\nmscoco/images/a.jpg#0,1,2,3.5,4\n"))
def test_any_face_file(emotic: Path, content: bytes) -> None:
    (emotic / "faces.csv").write_bytes(content)
    reading = outcome(cards.load("emotic"), emotic, "train")
    (emotic / "faces.csv").unlink()
    assert reading is None or len(reading.people) == 1


ODD: list[Any] = [
    np.zeros((0, 0)), np.array([1.0, 2, 3, 4]), np.array([np.nan, np.inf, 3, 4]), 5.0, "", "Peace", "a/b.jpg",
    " ..\\c ", 1j,
    {"categories": "Pain", "valence": 5.0, "arousal": 20.0, "dominance": np.nan}, np.array(["Peace", 3.0], object),
    structs({"categories": "Pain"}, {"categories": np.zeros((0, 0))}), np.array([[True]]), "x" * 300, "\0",
]  # fmt: skip
FIELDS = ("body_bbox", "annotations_categories", "annotations_continuous", "combined_categories", "combined_continuous")


@SOME
@given(
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(ODD), max_size=3),
    st.dictionaries(st.sampled_from(["filename", "folder", "person"]), st.sampled_from(ODD), max_size=2),
    st.sampled_from(["train", "val"]),
)
def test_any_fields_in_a_mat_file(emotic: Path, person: dict[str, Any], odd: dict[str, Any], split: str) -> None:
    found = image("a.jpg", train_person((1, 1, 9, 9), "Peace"), train_person((1, 1, 9, 9), "Pain") | person)
    savemat(emotic / "odd.mat", {split: structs(found | odd)})
    card = cards.load("emotic", policies=KEEP).model_copy(update={"reader_options": {"annotations": "odd.mat"}})
    reading = outcome(card, emotic, split)
    assert reading is None or "person" in odd or reading.listed == 2
