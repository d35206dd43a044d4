"""The demo sets: official layouts, promised faults, the promised bias, and the same bytes every time."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from clef.demo import DemoError, generate
from clef.demo.scenes import SCENES
from clef.demo.world import (
    CATEGORIES,
    EMOTION_SCENES,
    EMOTIONS,
    MOOD_CATEGORIES,
    MOOD_SCENES,
    MOODS,
    sample_pictures,
    sample_shots,
)

ALIASES = {"Disquitement", "Disconnect", "Doubt Confusion"}


@pytest.fixture(scope="module")
def caer_s(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets") / "caer_s_demo"
    generate("caer_s_demo", root, people=60, workers=1)
    return root


@pytest.fixture(scope="module")
def emotic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets") / "emotic_demo"
    generate("emotic_demo", root, people=150, workers=1)
    return root


def read_mat(root: Path) -> dict[str, Any]:
    return loadmat(root / "Annotations/Annotations.mat", squeeze_me=True, struct_as_record=False)


def people_of(images: Any) -> list[tuple[str, Any]]:
    return [
        (f"{image.folder}/{image.filename}#{i}", person)
        for image in np.atleast_1d(images)
        for i, person in enumerate(np.atleast_1d(image.person))
    ]


def opens(path: Path) -> bool:
    try:
        Image.open(path).load()
    except OSError:
        return False
    return True


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["caer_s_demo", "emotic_demo"])
def test_any_number_of_workers_writes_the_same_bytes(name: Any, tmp_path: Path) -> None:
    generate(name, tmp_path / "one", people=60, workers=1)
    generate(name, tmp_path / "two", people=60, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_another_seed_is_another_set(caer_s: Path, tmp_path: Path) -> None:
    generate("caer_s_demo", tmp_path / "set", people=60, seed=1, workers=1)
    ours, theirs = digests(caer_s), digests(tmp_path / "set")
    images = [name for name in ours if name.endswith(".png") and "cues" not in name]
    assert all(ours[name] != theirs[name] for name in images if name in theirs)


def test_a_complete_set_is_left_alone_and_another_is_refused(caer_s: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in caer_s.rglob("*")}
    generate("caer_s_demo", caer_s, people=60)
    assert {path: path.stat().st_mtime_ns for path in caer_s.rglob("*")} == before
    for other in ({"seed": 1}, {"strength": 0.1}, {"people": 61}):
        with pytest.raises(DemoError, match="name another folder"):
            generate("caer_s_demo", caer_s, **{"people": 60, **other})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name another folder"):
        generate("emotic_demo", caer_s, people=60)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: object) -> int:
        raise OSError("disk full")

    monkeypatch.setattr("clef.demo.caer_s.draw", fail)
    with pytest.raises(OSError, match="disk full"):
        generate("caer_s_demo", tmp_path / "set", people=60, workers=1)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DemoError, match=r"no readable demo\.json"):
        generate("caer_s_demo", tmp_path, people=60)


@pytest.mark.parametrize("wrong", [{"people": 3}, {"strength": 1.5}, {"workers": 0}, {"seed": -1}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="people must be at least"):
        generate("emotic_demo", tmp_path / "set", **wrong)


def test_the_facts_stand_in_the_set(emotic: Path) -> None:
    facts = json.loads((emotic / "demo.json").read_text())
    assert facts["generator"] == "emotic_demo"
    assert facts["people"] == 150
    assert (facts["seed"], facts["version"]) == (0, 2)


def test_caer_s_lies_as_the_real_set(caer_s: Path) -> None:
    for root in (caer_s / "main", caer_s / "shift"):
        assert {p.name for p in (root / "train").iterdir() if p.is_dir()} == {*EMOTIONS, "Angry"} - {"Anger"}
        assert {p.name for p in (root / "test").iterdir() if p.is_dir()} == set(EMOTIONS)
    frames = sorted((caer_s / "main/train/Angry").iterdir())
    assert [frame.name for frame in frames] == [f"{i:04d}.png" for i in range(1, 10)]
    assert len(list((caer_s / "main").rglob(".DS_Store"))) + len(list((caer_s / "main").rglob("Thumbs.db"))) == 3


def test_caer_s_box_lists(caer_s: Path) -> None:
    rows = [line.split(",") for line in (caer_s / "main/train.txt").read_text().splitlines()]
    folders = ["Angry", *list(EMOTIONS)[1:]]
    assert all(folders[int(label)] in path.split("/") for path, label, *_ in rows)
    assert sum(path.startswith("train/") for path, *_ in rows) == 2
    assert sum(box == ["0"] * 4 for _, _, *box in rows) == 2
    images = list((caer_s / "main/train").rglob("*.png"))
    assert len(rows) == len(images) - 1  # one image has no row
    persons = (caer_s / "main/train_person.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in persons] == [path for path, *_ in rows]


def test_caer_s_faults_are_in_train_alone(caer_s: Path) -> None:
    def damaged_and_doubled(folder: Path) -> tuple[int, int]:
        images = sorted(folder.rglob("*.png"))
        contents = Counter(path.read_bytes() for path in images)
        return sum(not opens(path) for path in images), len(images) - len(contents)

    assert damaged_and_doubled(caer_s / "main/train") == (1, 2)
    assert damaged_and_doubled(caer_s / "main/test") == (0, 0)
    assert damaged_and_doubled(caer_s / "shift/test") == (0, 0)


def test_some_subjects_are_cut_by_the_frame() -> None:
    from clef.demo import caer_s as caer_s_layout

    jobs = [
        caer_s_layout._plan_shot(Path(), group, ["x"] * len(group.actors))
        for group in sample_shots(0, "train", 200, 0.5)
    ]
    boxes = [caer_s_layout.face_box(f.card, f.subject.expression) for job in jobs for f in job.frames]
    assert 0 < sum(box[0] < 0 for box in boxes) < 0.1 * len(boxes)


def test_emotic_reads_back_with_the_documented_fields(emotic: Path) -> None:
    mat = read_mat(emotic / "main")
    image = mat["train"][0]
    assert image._fieldnames == ["filename", "folder", "image_size", "original_database", "person"]
    assert image.folder.endswith("/images")
    with Image.open(emotic / "main/emotic" / image.folder / image.filename) as opened:
        assert opened.size == (image.image_size.n_col, image.image_size.n_row)
    shared = ["body_bbox", "annotations_categories", "annotations_continuous", "gender", "age"]
    combined = ["combined_categories", "combined_continuous"]
    assert people_of(mat["train"])[0][1]._fieldnames == shared
    judged = people_of(mat["test"])[0][1]
    assert judged._fieldnames == shared + combined
    union = {c for judge in judged.annotations_categories for c in np.atleast_1d(judge.categories)}
    assert union == set(np.atleast_1d(judged.combined_categories))
    assert len(judged.annotations_continuous) == len(judged.annotations_categories) >= 3


def test_squeezing_shows_the_documented_quirks(emotic: Path) -> None:
    mat = read_mat(emotic / "main")
    kinds = {type(image.person).__name__ for image in mat["train"]}
    assert kinds == {"mat_struct", "ndarray"}  # one person: a scalar struct
    cells = {type(p.annotations_categories.categories) for _, p in people_of(mat["train"])}
    assert cells == {str, np.ndarray}  # one category: a bare string
    assert str in {type(p.combined_categories) for _, p in people_of(mat["val"])}


def test_emotic_has_its_faults_in_train(emotic: Path) -> None:
    root, mat = emotic / "main", read_mat(emotic / "main")
    files = [root / "emotic" / image.folder / image.filename for image in mat["train"]]
    assert sum(not path.exists() for path in files) == 1
    there = [path for path in files if path.exists()]
    assert sum(not opens(path) for path in there) == 1
    assert Counter(Image.open(path).format for path in there)["PNG"] == 2
    modes = Counter(Image.open(path).mode for path in there)
    assert (modes["L"], modes["CMYK"]) == (2, 2)
    people = people_of(mat["train"])
    boxes = np.array([person.body_bbox for _, person in people])
    widths = {f"{i.folder}/{i.filename}": i.image_size.n_col for i in mat["train"]}
    assert sum(box[0] > widths[name.split("#")[0]] for (name, _), box in zip(people, boxes, strict=True)) == 1
    assert (boxes < 1).any()
    assert (boxes % 1 != 0).any()
    assert sum(np.isnan(person.annotations_continuous.valence) for _, person in people) == 3
    twice = Counter((name.split("#")[0], tuple(person.body_bbox)) for name, person in people)
    assert sum(count == 2 for count in twice.values()) == 2


def test_val_holds_framesdb_images_of_train(emotic: Path) -> None:
    mat = read_mat(emotic / "main")
    train, val = ({n: tuple(p.body_bbox) for n, p in people_of(mat[split])} for split in ("train", "val"))
    leaked = train.keys() & val.keys()
    assert 0.05 < len(leaked) / len(val) < 0.25
    assert all(name.startswith("framesdb/") and train[name] == val[name] for name in leaked)
    assert not {n for n, _ in people_of(mat["test"])} & (train.keys() | val.keys())


def test_categories_are_canonical_or_known_aliases(emotic: Path) -> None:
    mat = read_mat(emotic / "main")
    train = {c for _, p in people_of(mat["train"]) for c in np.atleast_1d(p.annotations_categories.categories)}
    assert train <= set(CATEGORIES) | ALIASES
    assert train & ALIASES
    test = Counter(c for _, p in people_of(mat["test"]) for c in np.atleast_1d(p.combined_categories))
    assert set(test) <= set(CATEGORIES)
    assert set().union(*MOOD_CATEGORIES.values()) == set(CATEGORIES)


def test_shift_has_a_clean_test_and_a_token_train(emotic: Path) -> None:
    mat = read_mat(emotic / "shift")
    assert len(np.atleast_1d(mat["train"])) == len(np.atleast_1d(mat["val"])) == 1
    paths = [emotic / "shift/emotic" / image.folder / image.filename for image in mat["test"]]
    assert all(opens(path) and Image.open(path).mode == "RGB" for path in paths)


def test_face_boxes_lie_within_the_people(emotic: Path) -> None:
    root = emotic / "main"
    people = {name: p.body_bbox for split in ("train", "val", "test") for name, p in people_of(read_mat(root)[split])}
    with (root / "faces.csv").open() as file:
        faces = {row["id"]: [int(row[k]) for k in ("x1", "y1", "x2", "y2")] for row in csv.DictReader(file)}
    assert faces.keys() < people.keys()
    assert len(faces) > 0.9 * len(people)
    inside = [faces[n][0] >= people[n][0] - 2 and faces[n][3] <= people[n][3] for n in faces]
    assert np.mean(inside) > 0.95  # but for the boxes that are wrong on purpose


@pytest.mark.parametrize("strength", [0.0, 0.4, 0.9])
def test_scenes_follow_labels_with_the_given_strength(strength: float) -> None:
    one_by_one = [(g.scene, g.actors[0].label) for g in sample_shots(0, "test", 600, strength)]
    in_groups = [(g.scene, a.label) for g in sample_pictures(0, "test", 4000, strength) for a in g.actors]
    for pairs, kinds in ((one_by_one, len(EMOTIONS)), (in_groups, len(MOODS))):
        agree = np.mean([scene == label for scene, label in pairs])
        assert agree == pytest.approx(strength + (1 - strength) / kinds, abs=0.02)
        away = Counter(scene - label for scene, label in pairs if scene != label)
        assert len(away) == 2 * (kinds - 1)  # every other kind occurs


def test_what_a_person_shows_does_not_depend_on_the_scene() -> None:
    groups = sample_pictures(0, "test", 4000, 0.9)
    shown = {own: [a.expression for g in groups for a in g.actors if a.label == 0 and (g.scene == 0) == own]
             for own in (True, False)}  # fmt: skip
    assert np.abs(np.mean(shown[True], 0) - np.mean(shown[False], 0)).max() < 0.3


def test_every_category_can_be_measured_at_full_size() -> None:
    from clef.demo.emotic import compose_picture

    for split, strength in (("test", 0.65), ("shift/test", 0.0)):
        composed = [compose_picture(Path(), group, 1) for group in sample_pictures(0, split, 900, strength)]
        counts = Counter(c for picture in composed for p in picture.entry.people for c in p.categories)
        assert all(counts[category] >= 15 for category in CATEGORIES)


def test_every_label_has_a_scene_of_its_own() -> None:
    for table in (EMOTION_SCENES, MOOD_SCENES):
        assert len(set(table.values())) == len(table)
        assert set(table.values()) <= set(SCENES)


def test_nothing_of_the_place_shows_within_a_card() -> None:
    from clef.demo.figure import draw_person
    from clef.demo.pen import Pen

    crops = []
    for paint in ((255, 0, 0), (0, 0, 255)):
        frame = Pen(100, 100, paint)
        draw_person(frame, (20, 10, 66, 81), tuple([0.5] * 10), 3)
        crops.append(np.asarray(frame.finish())[10:81, 20:66])
    assert np.array_equal(*crops)
