"""The demo sets' cues say what the pictures show, go by the names readers give, and lack as often in both roots."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clef.cues.files import CueFile, find_cue_files, with_cues
from clef.datasets.caer_s import CaerS
from clef.datasets.cards import load
from clef.datasets.emotic import Emotic
from clef.datasets.person import Person
from clef.demo import caer_s, generate
from clef.demo.cues import ONE_MISSED_OF, REGION_COUNT, figure_joints, figure_landmarks, propose_regions
from clef.demo.world import sample_shots
from clef.geometry import JOINTS, MIRRORED_JOINTS, MIRRORED_LANDMARKS, Box

Points = NDArray[np.float64]
READERS = {"emotic_demo": Emotic, "caer_s_demo": CaerS}
NOSE, CUES = 30, {"person", "landmarks", "pose", "regions", "depth"}


@pytest.fixture(scope="module", params=list(READERS))
def people(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Person]]:
    """Everyone in each root as the reader lists them, with their cues; under "files" the cue files of both."""
    name = request.param
    base = tmp_path_factory.mktemp("cues") / name
    generate(name, base, people=150, workers=1)
    everyone = {}
    for root, splits in {"main": ("train", "test"), "shift": ("test",)}.items():
        reader = READERS[name](base / root, load(name))
        listed = [person for split in splits for person in reader.read(split).people]
        everyone[root] = with_cues(listed, base / root, find_cue_files(base / root))
    return everyone


def cue_files(people: list[Person]) -> dict[str, CueFile]:
    folder = next(parent for parent in people[0].image.parents if (parent / "cues").is_dir())
    return {file.cue: file for file in find_cue_files(folder)}


@cache
def pixels(path: Path) -> NDArray[np.int64]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(np.int64)


def colours(person: Person, points: Points) -> NDArray[np.int64]:
    """The colour at each point that is within the frame."""
    image, at = pixels(person.image), np.floor(points).astype(int)
    inside = (at >= 0).all(1) & (at < image.shape[1::-1]).all(1)
    return image[at[inside, 1], at[inside, 0]]


def inked(person: Person, points: Points) -> float:
    """How many of the points are on ink, or between ink and something else."""
    return float((colours(person, points).sum(1) < 280).mean())


def with_cue(people: list[Person], cue: str) -> Iterator[tuple[Person, Points]]:
    for person in people:
        if (value := getattr(person.cues, cue)) is not None:
            yield person, np.array(value)


def test_all_whom_the_readers_list_are_in_the_files(people: dict[str, list[Person]]) -> None:
    for listed in people.values():
        files = cue_files(listed)
        assert files.keys() == CUES
        assert {file.made_by for file in files.values()} == {"demo 2"}
        assert {person.id for person in listed} <= files["landmarks"].values.keys() == files["pose"].values.keys()
        assert files["regions"].values.keys() == files["depth"].values.keys()
        opened = [p for p in listed if p.image.is_file()]
        assert all(p.cues.regions and p.cues.depth for p in people["shift"])
        assert len({p.image for p in opened if p.cues.depth is None}) <= 1  # the truncated one


def test_a_detectors_box_is_the_annotated_one_as_far_as_the_frame_shows_it(people: dict[str, list[Person]]) -> None:
    off = []
    for person, box in with_cue(people["main"], "person"):
        height, width = pixels(person.image).shape[:2]
        assert person.box is not None
        stated = np.clip(person.box, 0, [width, height, width, height])
        off.append(np.abs(box - stated).max())  # EMOTIC states fractions of pixels
    assert sum(o > 1 for o in off) <= 2, "but for the boxes that are planted faults"


def test_some_lack_landmarks_and_some_a_pose_in_both_roots(people: dict[str, list[Person]]) -> None:
    for listed in people.values():
        files = cue_files(listed)
        unread = sum(value is None for value in files["depth"].values.values())
        count = len(files["pose"].values)
        missed = sum(value is None for value in files["pose"].values.values())
        assert (
            count // ONE_MISSED_OF <= missed <= count / ONE_MISSED_OF + 1 + 3 * unread
        )  # up to three people in an image
        faced = [p for p in listed if p.face is not None]
        assert all(p.cues.landmarks is None for p in listed if p.face is None)
        assert 0 < sum(p.cues.landmarks is None for p in faced) <= count / ONE_MISSED_OF + 1 + 3 * unread


def test_every_stretch_of_a_split_lacks_as_many(people: dict[str, list[Person]]) -> None:
    for listed in people.values():
        missed = np.array([value is None for value in cue_files(listed)["pose"].values.values()])
        rows = missed[: len(missed) // ONE_MISSED_OF * ONE_MISSED_OF].reshape(-1, ONE_MISSED_OF).sum(1)
        unread = sum(value is None for value in cue_files(listed)["depth"].values.values())
        assert rows.min() >= 1
        assert rows.sum() <= len(rows) + 3 * unread


def test_brows_and_mouths_are_on_ink(people: dict[str, list[Person]]) -> None:
    def mean(shift: float) -> tuple[float, float]:
        seen = list(with_cue(people["shift"], "landmarks"))
        return tuple(np.mean([inked(p, marks[part] + (0, shift)) for p, marks in seen]) for part in (brows, lips))

    brows, lips = slice(17, 27), [48, 50, 51, 52, 54, 56, 57, 58]
    assert min(mean(0)) > 0.9  # but for hands at the face
    assert mean(-4)[1] < 0.3  # above the mouth there is skin; above a brow there may be dark hair
    red = [colours(p, marks[[51, 57]].mean(0)[None]) for p, marks in with_cue(people["shift"], "landmarks")
           if marks[57, 1] - marks[51, 1] > 4]  # fmt: skip
    assert np.mean([rgb[0, 0] > 2 * rgb[0, 1] for rgb in red if len(rgb)]) > 0.9  # open: red within


def test_eyes_are_white_around_ink(people: dict[str, list[Person]]) -> None:
    pupils, whites = [], []
    for person, marks in with_cue(people["shift"], "landmarks"):
        for eye in (marks[36:42], marks[42:48]):
            wide = eye[:, 1].max() - eye[:, 1].min() > 6
            pupils.append(inked(person, eye.mean(0)[None]))
            # Between pupil and corner there is white, where the eye is open.
            white = colours(person, eye.mean(0) + 0.7 * (eye[[0, 3]] - eye.mean(0)))
            whites += list(np.ptp(white, axis=1) < 60) if wide else []
    assert np.mean(pupils) > 0.9
    assert np.mean(whites) > 0.9


def test_wrists_have_the_colour_of_the_face(people: dict[str, list[Person]]) -> None:
    near = []
    for person, body in with_cue(people["shift"], "pose"):
        if person.cues.landmarks is None or not body[9:11, 2].all():
            continue
        skin = colours(person, np.array(person.cues.landmarks)[[NOSE]])
        near += [np.abs(hand - skin).max() < 40 for hand in colours(person, body[9:11, :2])]
    assert len(near) > 50
    assert np.mean(near) > 0.95  # the rest is where card or sleeve begins


def test_faces_lie_in_their_boxes_and_bodies_below(people: dict[str, list[Person]]) -> None:
    for person, marks in with_cue(people["shift"], "landmarks"):
        assert person.face is not None
        low, high = marks.min(0), marks.max(0)
        # The jaw runs from one side of the box to the other, and down to its end; the box has a margin of 6 %.
        assert np.abs(np.array([low[0], high[0], high[1]]) - np.array(person.face)[[0, 2, 3]]).max() < 3
        assert low[1] > person.face[1]
        assert marks[0, 0] < marks[16, 0]
        assert marks[36, 0] < marks[45, 0]
    order = [JOINTS.index(name) for name in ("nose", "left_shoulder", "left_hip", "left_knee", "left_ankle")]
    for person, body in with_cue(people["shift"], "pose"):
        assert (np.diff(body[order, 1]) > 0).all()
        assert body[5, 0] > body[6, 0]  # the person's left is at the image's right
        assert person.box is not None
        on_card = (body[:, :2] >= np.floor(person.box[:2])).all(1) & (body[:, :2] <= np.ceil(person.box[2:])).all(1)
        height, width = pixels(person.image).shape[:2]
        in_frame = (body[:, :2] >= 0).all(1) & (body[:, :2] <= (width, height)).all(1)
        assert (on_card & in_frame)[body[:, 2] == 1].all()
        assert not (on_card & in_frame & (body[:, 2] == 0))[:5].any()  # heads are well within a card


def test_an_even_figure_is_its_own_mirror_image() -> None:
    even = (0.4, 0.3, 0.2, 0.5, 0.1, 0.6, 0.7, 0.7, 0.3, 0.0)
    card, middle = (10, 20, 60, 98), 35.0
    marks, body = np.array(figure_landmarks(card, even)), np.array(figure_joints(card, even, (192, 108)))
    for points, mirrored in ((marks, MIRRORED_LANDMARKS), (body[:, :2], MIRRORED_JOINTS)):
        there = points[list(mirrored)]
        assert np.allclose(np.stack([2 * middle - there[:, 0], there[:, 1]], 1), points)
    assert (body[:, 2] == 1).all()


def test_joints_off_the_card_or_the_frame_are_not_trusted() -> None:
    spread = (0.0,) * 8 + (0.0, 0.0)
    confidences = [np.array(figure_joints((left, 5, left + 50, 83), spread, (192, 108)))[:, 2] for left in (60, -40)]
    lost = {JOINTS[i] for i in np.flatnonzero(confidences[0] == 0)}
    assert lost == {"left_wrist", "right_wrist"}  # arms straight out: 0.52 of a card's width from its middle
    kept = {JOINTS[i] for i in np.flatnonzero(confidences[1])}  # the right ten pixels: 0.3 of the width and more
    assert kept == {"left_elbow"}


def test_a_person_is_nearer_than_what_is_beside_them(people: dict[str, list[Person]]) -> None:
    listed = people["shift"]
    for person in listed:
        assert person.cues.depth is not None
        with Image.open(person.cues.depth) as image:
            assert image.mode == "L"
            depth = np.asarray(image).astype(int)
        height, width = pixels(person.image).shape[:2]
        scale = np.array([depth.shape[1] / width, depth.shape[0] / height])
        assert scale.max() < 0.3
        boxes = [p.box for p in listed if p.image == person.image and p.box]
        edges = np.array(boxes).reshape(-1, 2, 2) * scale
        middle = int(np.clip(edges[0, :, 1].mean(), 0, depth.shape[0] - 1))
        row, x = depth[middle], np.arange(depth.shape[1]) + 0.5
        within = [(x > left + 1) & (x < right - 1) for left, right in edges[:, :, 0]]
        around = [(x > left - 1) & (x < right + 1) for left, right in edges[:, :, 0]]
        beside = row[~np.logical_or.reduce(around)]
        assert row[within[0]].min() > max(beside, default=0)
        ground = depth[:, ~np.logical_or.reduce(around)]
        assert not ground.size or (ground[-1] > ground[0]).mean() > 0.5  # nearer below, but for bystanders


def test_regions_have_the_people_first_and_are_full(people: dict[str, list[Person]]) -> None:
    for person in people["main"] + people["shift"]:
        if person.cues.regions is None:
            continue
        height, width = pixels(person.image).shape[:2]
        boxes = np.array(person.cues.regions)
        assert boxes.shape == (REGION_COUNT, 4)
        assert (boxes >= 0).all()
        assert (boxes <= (width, height) * 2).all()
    for person in people["shift"]:
        height, width = pixels(person.image).shape[:2]
        assert person.box is not None
        clipped = np.clip(person.box, 0, (width, height) * 2)
        away = np.abs(np.array(person.cues.regions) - clipped).max(1)
        assert away[:3].min() < 2.01  # annotated boxes have fractions


def test_bystanders_are_where_the_camera_shows_them(tmp_path: Path) -> None:
    edges = 0
    for group in sample_shots(0, "test", 20, 0.5):
        job = caer_s._plan_shot(tmp_path / "test", group, [f"{i}.png" for i in range(len(group.actors))])
        job.folder.mkdir(exist_ok=True)
        for frame, findings in zip(job.frames, caer_s.draw(job), strict=True):
            subject, *others = findings.regions[: 1 + len(job.bystanders)]  # type: ignore[index]
            assert np.allclose(subject, np.clip(frame.card, 0, (192, 108) * 2))
            image = np.asarray(Image.open(job.folder / frame.name)).astype(int)
            for x1, y1, _, y2 in others:
                if x1 > 0:  # a card's edge is almost white
                    column = image[int(y1) + 2 : int(y2) - 2, int(x1)]
                    assert (column.min(1) > 200).mean() > 0.7  # an arm may reach it
                    edges += 1
    assert edges > 10


def test_proposals_by_hand() -> None:
    card: Box = (10, 10, 50, 80)
    shapes = [
        (0, 0, 100, 100),
        (60, 10, 90, 40),
        (62, 12, 70, 20),
        (12, 20, 30, 60),
        (95, 50, 105, 90),
        (50, 0, 56, 90),
    ]
    boxes = propose_regions([(60, 60, 70, 80), card], shapes, (100, 100))
    # Left out: background; what lies within a better one, twice; what is narrow, in the frame or by itself.
    assert boxes[:3] == [card, (60, 60, 70, 80), (60, 10, 90, 40)]
    assert boxes[3:5] == [(0, 0, 50, 50), (50, 0, 100, 50)]  # windows fill up
    assert len(boxes) == len(set(boxes)) == REGION_COUNT
