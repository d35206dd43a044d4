"""Cues as members of shards: values by hand, and what can't be used is flagged and left out."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from clef.data.shards import SplitShards
from clef.datasets import Person
from clef.sharding import build, cue_members, shard_plan
from clef.sharding.render import Sample, render
from tests.sharding import factories
from tests.sharding.factories import card

NAN = math.nan
OUTSIDE = ((70, 0, 80, 10), (0, 50, 10, 60))


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return factories.person(tmp_path)


def made(person: Person, **storage: Any) -> Sample:
    return render(person, card(**storage), "train")


def array(sample: Sample, kind: str) -> np.ndarray:
    result: np.ndarray = np.load(io.BytesIO(sample.members[kind]), allow_pickle=False)
    assert result.dtype == np.float32
    return result


def depth(sample: Sample) -> np.ndarray:
    image = Image.open(io.BytesIO(sample.members["depth.png"]))
    assert image.mode == "L"
    return np.asarray(image)


def facts(sample: Sample) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(sample.members["meta.json"])
    return result


def with_cues(original: Person, **cues: Any) -> Person:
    return replace(original, cues=replace(original.cues, **cues))


@pytest.mark.parametrize("frame", [256, 20])
def test_boxes_and_joints_are_parts_of_the_frame_however_it_is_stored(person: Person, frame: int) -> None:
    sample = made(person, frame=frame)
    assert array(sample, "regions.npy") == pytest.approx(
        np.array([[0, 0, 0.5, 0.5], [0.5, 0.25, 1, 0.75], [0.25, 0.5, 0.75, 1]])
    )
    assert array(sample, "agents.npy") == pytest.approx(
        np.array([[1 / 6, 0.125, 5 / 6, 1], [0, 0.25, 0.1, 0.75], [0.75, 0, 0.95, 1]])
    )
    pose = array(sample, "pose.npy")
    assert pose.shape == (17, 3)
    assert pose[0].tolist() == pytest.approx([1 / 3, 0.2, 0])
    assert pose[9].tolist() == [1, 0, 0.25]  # beyond the frame
    assert pose[10].tolist() == [0.25, 0.75, 1]
    assert facts(sample)["person_box"] == ([6, 4, 45, 40] if frame == 256 else [3, 2, 23, 20])
    assert not sample.notes


def test_landmarks_are_parts_of_the_face_that_was_cut_out(person: Person) -> None:
    points = ((24, 8), (36, 16), (38, 10), (30, 6)) + ((30.0, 12.0),) * 64
    fractional = replace(with_cues(person, landmarks=points), face=(24.4, 8.6, 35.2, 15.9))
    sample = made(fractional)
    assert Image.open(io.BytesIO(sample.members["face.jpg"])).size == (12, 8)  # rounded outwards: 24, 8, 36, 16
    expected = [[0, 0], [1, 1], [7 / 6, 0.25], [0.5, -0.25], [0.5, 0.5]]
    assert array(sample, "landmarks.npy")[:5] == pytest.approx(np.array(expected))


def test_landmarks_without_a_face_box_make_one(person: Person) -> None:
    points = ((20, 10), (40, 20)) + ((30.0, 15.0),) * 66  # 20 x 10, so 2 and 1 more on each side
    sample = made(replace(with_cues(person, landmarks=points), face=None))
    assert facts(sample)["face_box"] == [18, 9, 42, 21]
    assert array(sample, "landmarks.npy")[:2] == pytest.approx(np.array([[2 / 24, 1 / 12], [22 / 24, 11 / 12]]))
    assert sample.notes == ("face from landmarks",)
    assert "face.jpg" in sample.members


def test_sixteen_bits_of_depth_become_eight_from_least_to_greatest(person: Person) -> None:
    expected = np.zeros((40, 60))
    expected[4:30, 6:20], expected[10:20, 9:15] = 128, 255
    assert np.array_equal(depth(made(person)), expected)


def test_depth_is_made_smaller_with_the_frame_and_never_larger(person: Person, tmp_path: Path) -> None:
    assert depth(made(person, frame=20)).shape == (20, 30)
    coarse = tmp_path / "coarse.png"
    Image.fromarray(np.array([[5, 7, 9]], np.uint8)).save(coarse)
    assert depth(made(with_cues(person, depth=coarse))).tolist() == [[0, 128, 255]]


def test_so_many_regions_are_kept_and_the_best(person: Person) -> None:
    assert array(made(person, regions=2), "regions.npy") == pytest.approx(
        np.array([[0, 0, 0.5, 0.5], [0.5, 0.25, 1, 0.75]])
    )


def write_bad(folder: Path) -> dict[str, Path]:
    """Depth files that can't be used, by the flag they cause."""
    paths = {f"depth {what}": folder / f"{what}.png" for what in ("missing", "unreadable", "not grey", "flat")}
    good = (folder / "depth.png").read_bytes()
    paths["depth unreadable"].write_bytes(good[: len(good) // 2])
    Image.new("RGB", (60, 40), (9, 8, 7)).save(paths["depth not grey"])
    Image.new("L", (60, 40), 7).save(paths["depth flat"])
    return paths


JOINT, POINT = (1.0, 2.0, 0.5), (30.0, 12.0)
BAD = [
    ("pose", (JOINT,) * 16, "pose malformed"),
    ("pose", (*(JOINT,) * 16, (NAN, 2.0, 0.5)), "pose malformed"),
    ("pose", (*(JOINT,) * 16, (1.0, 2.0)), "pose malformed"),
    ("landmarks", (POINT,) * 67, "landmarks malformed"),
    ("landmarks", (*(POINT,) * 67, (math.inf, 2.0)), "landmarks malformed"),
    ("landmarks", ((5.0, 30.0),) * 68, "landmarks off the face"),
    ("regions", ((0, 0, 10, 10), (0, 0, NAN, 10)), "regions malformed"),
    ("regions", ("box",), "regions malformed"),
    ("regions", OUTSIDE, "no region in the frame"),
    ("regions", (), "no region in the frame"),
]
MEMBER = {"pose": "pose.npy", "landmarks": "landmarks.npy", "regions": "regions.npy", "depth": "depth.png"}


@pytest.mark.parametrize(("cue", "value", "flag"), BAD)
def test_a_cue_that_cannot_be_used_is_flagged_and_left_out(person: Person, cue: str, value: Any, flag: str) -> None:
    whole, sample = made(person), made(with_cues(person, **{cue: value}))
    assert sample.notes == tuple(facts(sample)["flags"]) == (flag,)
    assert set(whole.members) - set(sample.members) == {MEMBER[cue]}
    others = set(sample.members) - {"meta.json"}
    assert all(sample.members[kind] == whole.members[kind] for kind in others)


@pytest.mark.parametrize("flag", ["depth missing", "depth unreadable", "depth not grey", "depth flat"])
def test_a_depth_map_that_cannot_be_used_is_flagged_and_left_out(person: Person, tmp_path: Path, flag: str) -> None:
    sample = made(with_cues(person, depth=write_bad(tmp_path)[flag]))
    assert sample.notes == (flag,)
    assert "depth.png" not in sample.members


@pytest.mark.parametrize("box", [*OUTSIDE, (NAN, 0, 5, 5), (9, 9, 9, 20), (1, 2, 3)])
def test_boxes_of_others_and_of_the_detector_that_hold_nothing(person: Person, box: Any) -> None:
    sample = made(with_cues(person, person=box, others=(box, *factories.OTHERS)))
    assert facts(sample)["person_box"] is None
    assert set(sample.notes) == {"person box unusable", "box of another unusable"}
    assert sample.members["agents.npy"] == made(person).members["agents.npy"]


def test_landmarks_outside_the_frame_make_no_face(person: Person) -> None:
    sample = made(replace(with_cues(person, landmarks=((90.0, 90.0),) * 68), face=None))
    assert sample.notes == ("landmarks outside the frame",)
    assert not {"face.jpg", "landmarks.npy"} & set(sample.members)


def test_without_cues_there_are_only_the_agents(tmp_path: Path) -> None:
    whole = factories.person(tmp_path)
    sample = made(Person("somebody", whole.image, factories.BOX, whole.labels))
    assert set(sample.members) == {"context.jpg", "scene.jpg", "body.jpg", "agents.npy", "meta.json"}
    assert array(sample, "agents.npy") == pytest.approx(np.array([[1 / 6, 0.125, 5 / 6, 1]]))
    assert facts(sample)["person_box"] is None
    assert not sample.notes


def test_the_subject_without_a_box_is_the_whole_frame(person: Person) -> None:
    sample = made(replace(with_cues(person, others=()), box=None))
    assert array(sample, "agents.npy").tolist() == [[0, 0, 1, 1]]


def test_the_same_person_gives_the_same_bytes(person: Person) -> None:
    first = made(person)
    cue_members._depth.cache_clear()
    assert made(person).members == first.members


def test_a_cue_changes_no_other_member(person: Person) -> None:
    # Why each cue is a member of its own: a cell's identity holds the content of what it reads.
    bare = replace(person, cues=replace(person.cues, pose=None, depth=None))
    whole, less = made(person).members, made(bare).members
    assert set(whole) - set(less) == {"pose.npy", "depth.png"}
    assert all(whole[kind] == content for kind, content in less.items())


def test_stock_webdataset_decodes_the_members(person: Person, tmp_path: Path) -> None:
    target = {"out": tmp_path, "split": "train", "number": 0, "fingerprint": "none", "parts": 1}
    job = shard_plan.ShardJob(**target, card=card(), first=0, people=(person,))
    build.write_shard(job, lambda done: None)
    (sample,) = webdataset.WebDataset(str(job.path), shardshuffle=False).decode("rgb8")
    rendered = made(person)
    for kind in ("landmarks.npy", "pose.npy", "regions.npy", "agents.npy"):
        assert np.array_equal(sample[kind], array(rendered, kind))
        assert sample[kind].dtype == np.float32
    assert np.array_equal(sample["depth.png"][..., 0], depth(rendered))
    assert sample["meta.json"]["person_box"] == [6, 4, 45, 40]


def test_every_subject_of_a_set_is_its_first_agent(shards: Path) -> None:
    split = SplitShards(shards / "emotic_demo", "train")
    assert split.split.members["agents.npy"] == len(split)
    for index in range(len(split)):
        meta = json.loads(split.read(index, "meta.json") or b"")
        agents = np.load(io.BytesIO(split.read(index, "agents.npy") or b""))
        size = np.array(meta["source_size"] * 2)
        assert agents[0] * size == pytest.approx(np.clip(meta["source_box"], 0, size), abs=1e-3)
        assert (agents >= 0).all()
        assert (agents <= 1).all()
        assert (agents[:, 2:] > agents[:, :2]).all()
