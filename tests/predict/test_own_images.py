"""Images of one's own: several boxes, cue files and other extractors, folders with a table in and records out."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import clef.cues.__main__ as cues_command
import clef.predict.__main__ as command
from clef.cues import files
from clef.cues.own_images import person_id
from clef.datasets import Person, cards
from clef.predict import images
from clef.sharding import shard_plan
from tests.conftest import Cells, Run
from tests.cues import photo_dataset
from tests.predict.test_predict import comma, people

pytestmark = pytest.mark.xdist_group("audited")


@pytest.fixture
def run(run_of: Callable[..., Run]) -> Run:
    return run_of(command.main)


@pytest.fixture
def scene(sources: Path) -> list[Person]:
    """Two people of one image."""
    listed = people(sources, "caer_s_demo")
    image = listed[0].image
    return [replace(listed[0], id="a"), replace(listed[0], id="b", image=image, box=(3.0, 4.0, 40.0, 50.0))]


def test_every_box_is_a_person(run: Run, cells: Cells, scene: list[Person]) -> None:
    folder, image = cells("caer_s_demo", "emot_net", "vanilla"), scene[0].image
    boxes = [comma(person.box) for person in scene]
    code, said, _ = run(image, "--cell", folder, "--box", boxes[0], "--box", boxes[1], "--out", "both.json")
    assert code == 0
    assert "person 1, box" in said
    assert "person 2, box 3, 4, 40, 50" in said
    for number, box in enumerate(boxes):
        run(image, "--cell", folder, "--box", box, "--out", f"{number}.json")
    both, first, second = (json.loads(Path(f"{name}.json").read_text()) for name in ("both", 0, 1))
    for together, apart in zip(both, first + second, strict=True):
        assert together["score"] == pytest.approx(apart["score"], abs=1e-4)
    assert both[0]["score"] != both[1]["score"]
    code, _, said = run(image, "--cell", folder, "--box", boxes[0], "--box", boxes[1], "--face", "1,2,3,4")
    assert (code, "--face: one for each --box, in the same order, is expected: 2, not 1" in said) == (2, True)


@pytest.mark.parametrize("option", [["--box", "-5,0,40,60"], ["--box=-5,0,40,60"], ["--box", "-.5,0,40,60"]])
def test_a_box_may_begin_left_of_the_frame(run: Run, cells: Cells, scene: list[Person], option: list[str]) -> None:
    code, said, _ = run(scene[0].image, "--cell", cells("caer_s_demo", "emot_net", "vanilla"), *option)
    assert code == 0
    assert "person 1, box -" in said


def write_cues(folder: Path, key: str, image_key: str, person: Person) -> None:
    """Cue files of one person, as any tool may write them."""
    depth = person.cues.depth
    assert depth is not None
    values: dict[files.CueName, Any] = {"landmarks": person.cues.landmarks, "pose": person.cues.pose, "depth": "d.png"}
    for cue, value in values.items():
        path = files.cue_path(folder, cue)
        path.parent.mkdir(parents=True, exist_ok=True)
        line = files.finding_line(image_key if cue in files.IMAGE_CUES else key, value)
        path.write_text(files.header_line(cue, "by hand", "1") + line)
    (folder / "cues/d.png").write_bytes(depth.read_bytes())


@pytest.fixture
def with_cues(sources: Path, tmp_path: Path) -> tuple[int, Person]:
    """A person of emotic_demo's test split who has every cue, and their index there."""
    planned = shard_plan.make_plan(cards.load("emotic_demo"), sources / "emotic_demo", tmp_path / "none", None)
    planned.jobs()
    listed = planned.readings["test"].people
    return next((i, p) for i, p in enumerate(listed) if p.face and p.cues.landmarks and p.cues.pose)


def test_cues_come_from_files(run: Run, cells: Cells, with_cues: tuple[int, Person], tmp_path: Path) -> None:
    folder, (index, person) = cells("emotic_demo", "emoticon", "vanilla"), with_cues
    assert person.box
    write_cues(tmp_path / "cues_of_it", person_id(person.image.name, person.box), person.image.name, person)
    options = ("--cell", folder, "--box", comma(person.box), "--face", comma(person.face))
    code, said, shown = run(person.image, *options, "--cues", tmp_path / "cues_of_it", "--out", "x.json")
    assert code == 0, shown
    assert "without" not in said
    (record,) = json.loads(Path("x.json").read_text())
    recorded = np.load(folder / "predictions-test.npz")["scores"][index]
    np.testing.assert_allclose(list(record["score"].values()), recorded, atol=1e-4)
    assert list(record["score"]) == list(cards.load("emotic_demo").classes)
    code, _, said = run(person.image, "--cell", folder, "--box", "1,2,30,40", "--cues", tmp_path / "cues_of_it")
    assert code == 3
    assert f"has no line of '{person.image.name}#1,2,30,40'; one that it has is '{person.image.name}#" in said
    code, _, said = run(person.image, "--cell", folder, "--cues", tmp_path / "cues_of_it")
    assert (code, "--cues: say with --box (or --boxes) to whom they belong" in said) == (2, True)
    code, _, said = run(person.image, *options, "--cues", tmp_path / "nothing")
    assert (code, "nothing/cues: no cue files" in said) == (3, True)


def test_what_an_extractor_lacks_is_said_with_every_way_round_it(run: Run, cells: Cells, scene: list[Person]) -> None:
    options = (scene[0].image, "--cell", cells("emotic_demo", "emoticon", "vanilla"), "--box", "1,2,30,40")
    code, _, said = run(*options)
    assert code == 5
    assert "landmarks by mediapipe" in said
    assert "or choose another with --extractor landmarks=dlib, or give it in a cue file with --cues" in said
    assert "pose by mediapipe" in said
    code, _, said = run(*options, "--extractor", "landmarks=dlib", "--weights", "landmarks=here.dat")
    assert code == 5
    assert "landmarks by dlib" in said
    code, _, said = run(*options, "--extractor", "landmarks=dlib", "--extractor", "landmarks=mediapipe")
    assert (code, "--extractor landmarks=mediapipe contradicts landmarks=dlib: state one of them" in said) == (2, True)
    for wrong, message in (("lips=x", "--extractor lips=x: 'lips'"), ("dlib", "--extractor dlib: CUE=... is expected")):
        code, _, said = run(*options, "--extractor", wrong)
        assert (code, message in said) == (2, True)


@pytest.mark.slow
def test_landmarks_come_from_another_extractor(
    run: Run, cells: Cells, with_cues: tuple[int, Person], tmp_path: Path
) -> None:
    person = with_cues[1]
    assert person.box
    write_cues(tmp_path / "found", person_id(person.image.name, person.box), person.image.name, person)
    files.cue_path(tmp_path / "found", "landmarks").unlink()
    photo_dataset.train_dlib(tmp_path / "mine.dat")
    options = ("--cell", cells("emotic_demo", "emoticon", "vanilla"), "--box", comma(person.box))
    more = ("--face", comma(person.face), "--cues", tmp_path / "found", "--extractor", "landmarks=dlib")
    code, said, shown = run(person.image, *options, *more, "--weights", f"landmarks={tmp_path / 'mine.dat'}")
    assert code == 0, shown
    assert "without" not in said


@pytest.fixture
def photos(sources: Path, tmp_path: Path) -> Path:
    """A folder of three images and a table of them: two people, one, one in a file that is no image."""
    some = dict.fromkeys(person.image for person in people(sources, "caer_s_demo"))
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for name, image in zip(("a.png", "b/b.png"), some, strict=False):
        (folder / name).write_bytes(image.read_bytes())
    (folder / "c.png").write_text("no image")
    rows = [
        "path,x1,y1,x2,y2,id,note",
        "a.png,5,5,60,70,,x",
        "c.png,1,2,30,40,,",
        "a.png,-3,0,50,60,,",
        "b/b.png,9,8,50,60,me,",
    ]
    (tmp_path / "people.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_folder_and_a_table_become_records(run: Run, cells: Cells, photos: Path) -> None:
    options = (photos, "--cell", cells("caer_s_demo", "emot_net", "clef"), "--boxes", "people.csv")
    code, said, shown = run(*options, "--out", "out.json")
    assert code == 3
    assert "written: out.json: 3 of 3 images" in said
    assert "1 of 3 images could not be predicted; out.json has the reasons, and the others:" in shown
    assert "c.png: image truncated" in shown
    records = json.loads(Path("out.json").read_text())
    assert [(one["image"], one["id"], one["box"]) for one in records] == [
        ("a.png", "a.png#5,5,60,70", [5, 5, 60, 70]), ("a.png", "a.png#-3,0,50,60", [-3, 0, 50, 60]),
        ("c.png", "c.png#1,2,30,40", [1, 2, 30, 40]), ("b/b.png", "me", [9, 8, 50, 60]),
    ]  # fmt: skip
    assert [("error" in one, "score" in one) for one in records] == [(False, True)] * 2 + [(True, False), (False, True)]
    assert {*records[0]} == {"image", "id", "box", "without", "score", "TE", "NDE", "factual", "counterfactual"}
    assert sum(records[0]["factual"].values()) == pytest.approx(1, abs=1e-4)
    assert run(*options, "--out", "out.csv")[0] == 3
    with Path("out.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [one["id"] for one in records]
    assert [float(row["score Happy"]) for row in rows if row["score Happy"]] == [
        one["score"]["Happy"] for one in records if "score" in one
    ]
    assert [bool(row["error"]) for row in rows] == [False, False, True, False]


def test_an_interrupted_folder_leaves_what_is_done(
    run: Run, cells: Cells, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, whole = cells("caer_s_demo", "emot_net", "clef"), images.predict_image

    def predict_image(image: Path, *arguments: Any) -> Any:
        if image.name == "b.png":
            raise KeyboardInterrupt
        return whole(image, *arguments)

    monkeypatch.setattr(images, "predict_image", predict_image)
    code, said, _ = run(photos, "--cell", cell, "--boxes", "people.csv", "--out", "out.json")
    assert (code, "written: out.json: 2 of 3 images" in said) == (130, True)
    assert [one["image"] for one in json.loads(Path("out.json").read_text())] == ["a.png", "a.png", "c.png"]


def test_one_image_of_a_folder_scores_as_it_does_alone(run: Run, cells: Cells, photos: Path) -> None:
    cell = cells("caer_s_demo", "emot_net", "clef")
    run(photos, "--cell", cell, "--boxes", "people.csv", "--out", "all.json")
    run(photos / "b/b.png", "--cell", cell, "--box", "9,8,50,60", "--out", "one.json")
    (one,), together = (json.loads(Path(name).read_text()) for name in ("one.json", "all.json"))
    assert one["score"] == together[-1]["score"]


def test_what_does_not_fit_a_folder_is_refused(run: Run, cells: Cells, photos: Path) -> None:
    cell = cells("caer_s_demo", "emot_net", "clef")
    tables = {
        "short.csv": "path,x1\na.png,1\n", "none.csv": "path,x1,y1,x2,y2\n",
        "empty.csv": "path,x1,y1,x2,y2\na.png,9,8,2,9\n",
        "shares.csv": "path,x1,y1,x2,y2\na.png,0.1,0.2,0.5,0.6\n",
        "twice.csv": "path,x1,y1,x2,y2,id\na.png,1,2,3,4,i\na.png,1,2,3,5,i\n",
        "two.csv": "path,x1,y1,x2,y2,id\na.png,1,2,3,4,i\nb/b.png,1,2,3,4,i\n",
    }  # fmt: skip
    for name, text in tables.items():
        Path(name).write_text(text)
    (photos / "empty").mkdir()
    refusals = [
        ((photos,), 2, "a folder of images needs --out predictions.csv"),
        ((photos, "--out", "x.txt"), 2, "--out x.txt: end the name in .csv or .json"),
        ((photos, "--out", "x.csv", "--panel", "x.png"), 2, "--panel: is for one image"),
        ((photos, "--out", "x.csv", "--box", "1,2,3,4"), 2, "--box: is for one image"),
        ((photos / "a.png", "--boxes", "short.csv"), 2, "--boxes short.csv: is for a folder of images"),
        ((photos / "empty", "--out", "x.csv"), 3, "empty: no images in it"),
        ((photos, "--out", "x.csv", "--boxes", "short.csv"), 3, "short.csv: no column y1, x2, y2; there are: path, x1"),
        ((photos, "--out", "x.csv", "--boxes", "none.csv"), 3, "none.csv: no rows"),
        ((photos, "--out", "x.csv", "--boxes", "empty.csv"), 3, "empty.csv:2: left, top, right, bottom are expected"),
        ((photos, "--out", "x.csv", "--boxes", "shares.csv"), 3, "shares of the frame"),
        ((photos, "--out", "x.csv", "--boxes", "twice.csv"), 3, "twice.csv:3: the id 'i' is in an earlier row, too"),
        ((photos, "--out", "x.csv", "--boxes", "two.csv"), 3, "two.csv:3: the id 'i' is in an earlier row, too"),
    ]
    for arguments, code, message in refusals:
        found, _, said = run(*arguments, "--cell", cell)
        assert message in said
        assert found == code
    assert not Path("x.csv").exists()


@pytest.mark.parametrize(("orientation", "stored"), [(1, [3, 4, 9, 12]), (6, [4, 41, 12, 47])])
def test_cues_of_an_image_of_ones_own(
    run_of: Callable[..., Run], tmp_path: Path, orientation: int, stored: list[int]
) -> None:
    # Upright, the image is 50 wide; the box 0,0,12,16 has its middle half at 3,4,9,12.
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (50, 50), "white").save(tmp_path / "photo.jpg", exif=exif)
    extract = run_of(cues_command.main)
    options = ("--cue", "face", "--extractor", "tests.cues.fakes:Middle", "--out", tmp_path / "found")
    code, _, said = extract("--images", tmp_path / "photo.jpg", "--box", "0,0,12,16", *options)
    assert code == 0, said
    assert photo_dataset.values(tmp_path / "found", "face") == {"photo.jpg#0,0,12,16": stored}
    for arguments, message in (
        (("--images", tmp_path / "photo.jpg"), "say who is in it with --box x1,y1,x2,y2"),
        ((), "--cue and either --dataset or --images are needed"),
        (("--dataset", "emotic", "--box", "1,2,3,4"), "--box, --face and --boxes: are options of --images"),
    ):
        code, _, said = extract(*arguments, *options)
        assert (code, message in said) == (2, True)
