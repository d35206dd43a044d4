"""Cues join their people, and nobody else's."""

import time
from pathlib import Path

import pytest

from clef.cues import files
from clef.datasets import cards, open_reader
from clef.datasets.cards import Card, SplitSource
from clef.datasets.person import Person, Reading
from clef.errors import DataError, ShardError
from clef.sharding import build
from tests.cues.test_files import VALUES, tuples, write

POSE = VALUES["pose"]


def person(name: str, image: Path, x: float = 0, face: bool = False) -> Person:
    return Person(name, image, (x, 0, x + 10, 20), ("Happy",), (x, 0, x + 5, 5) if face else None)


def test_people_get_their_own_and_images_theirs(tmp_path: Path) -> None:
    a, b = tmp_path / "i/a.png", tmp_path / "i/b.png"
    people = [person("a#0", a), person("a#1", a, x=50, face=True), person("b#0", b)]
    write(tmp_path, "face", files.finding_line("a#0", [1, 1, 4, 4]), files.finding_line("a#1", [51, 1, 54, 4]))
    write(tmp_path, "pose", files.finding_line("a#1", POSE), files.finding_line("b#0", None))
    write(tmp_path, "regions", files.finding_line("i/a.png", [[0, 0, 5, 5]]))
    write(tmp_path, "depth", files.finding_line("i/b.png", "depth/b.png"))
    first, second, third = files.with_cues(people, tmp_path, files.find_cue_files(tmp_path))
    assert first.face == (1, 1, 4, 4)
    assert second.face == (50, 0, 55, 5), "the source's own box goes before a detector's"
    assert second.cues.face == (51, 1, 54, 4)
    assert third.face is None
    assert [p.cues.pose for p in (first, second, third)] == [None, tuples(POSE), None]
    assert [p.cues.regions for p in (first, second, third)] == [((0, 0, 5, 5),), ((0, 0, 5, 5),), None]
    assert [p.cues.depth for p in (first, second, third)] == [None, None, tmp_path / "cues/depth/b.png"]
    assert [p.cues.others for p in (first, second, third)] == [((50, 0, 60, 20),), ((0, 0, 10, 20),), ()]


def test_an_id_that_two_subjects_share_gets_no_cue_of_a_person(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    write(tmp_path, "face", files.finding_line("a#0", [1, 1, 4, 4]), files.finding_line("a#1", [1, 1, 4, 4]))
    write(tmp_path, "regions", files.finding_line("a.png", [[0, 0, 5, 5]]))
    people = [person("a#0", image), person("a#0", image, x=30), person("a#1", image)]
    faces = [p.face for p in files.with_cues(people, tmp_path, files.find_cue_files(tmp_path))]
    assert faces == [None, None, (1, 1, 4, 4)]
    assert all(p.cues.regions for p in files.with_cues(people, tmp_path, files.find_cue_files(tmp_path)))


def test_an_image_elsewhere_is_keyed_by_all_of_its_path(tmp_path: Path) -> None:
    assert files.image_key(tmp_path / "source", tmp_path / "images/a.png") == (tmp_path / "images/a.png").as_posix()


@pytest.fixture
def card() -> Card:
    splits = {name: SplitSource(split=name, root=root) for name, root in (("train", "m"), ("val", "m"), ("test", "s"))}
    return cards.load("caer_s").model_copy(update={"splits": splits})


def readings(source: Path) -> dict[str, Reading]:
    roots = {"train": "m", "val": "m", "test": "s"}
    return {
        name: Reading([person(f"{name}{i}", source / root / f"{name}{i}.png") for i in range(3)])
        for name, root in roots.items()
    }


def test_who_has_no_line_and_which_key_is_nobodys_is_noted(tmp_path: Path, card: Card) -> None:
    lines = [files.finding_line(key, None) for key in ("train0", "train1", "val0", "val1", "val2", "stranger")]
    write(tmp_path / "m", "pose", *lines)
    write(tmp_path / "s", "pose", *(files.finding_line(f"test{i}", POSE) for i in range(3)))
    people = readings(tmp_path)
    files.join_cues(card, tmp_path, people, files.load_cue_files(card, tmp_path))
    assert people["train"].notes == {"cue pose: no line in its file": 1, "cue pose: keys that match nobody": 1}
    assert not people["val"].notes
    assert not people["test"].notes
    assert all(person.cues.pose == tuples(POSE) for person in people["test"].people)


def test_another_datasets_file_is_refused(tmp_path: Path, card: Card) -> None:
    for root in ("m", "s"):
        write(tmp_path / root, "pose", files.finding_line("mscoco/images/x.jpg#0", POSE))
    with pytest.raises(DataError, match=r"m/cues/pose\.jsonl: none of its 1 keys.*'train0' is expected"):
        files.join_cues(card, tmp_path, readings(tmp_path), files.load_cue_files(card, tmp_path))


@pytest.mark.parametrize("other", [None, "2"])
def test_all_roots_must_have_a_cue_from_one_extractor(tmp_path: Path, card: Card, other: str | None) -> None:
    write(tmp_path / "m", "pose", version="1")
    if other:
        write(tmp_path / "s", "pose", version=other)
    with pytest.raises(DataError, match=r"the cue pose must come from one extractor.*python -m clef\.cues"):
        files.load_cue_files(card, tmp_path)


@pytest.mark.slow
def test_ten_times_the_people_take_ten_times_the_work_and_no_hundred(tmp_path: Path) -> None:
    def took(count: int) -> float:
        people = [person(f"{i}", tmp_path / f"{i // 2}.png", x=i % 2 * 50) for i in range(count)]
        write(tmp_path, "face", *(files.finding_line(f"{i}", [0, 0, i + 1, 5]) for i in range(count)))
        started = time.process_time()
        joined = files.with_cues(people, tmp_path, files.find_cue_files(tmp_path))
        assert joined[count - 1].face == (0, 0, count, 5)
        assert joined[count - 1].cues.others == ((0, 0, 10, 20),)
        return time.process_time() - started

    assert took(70_000) < 40 * took(7_000) + 1


def test_shards_say_which_cues_they_hold_and_know_other_cues_from_theirs(sources: Path, tmp_path: Path) -> None:
    card, source, cues = cards.load("caer_s_demo"), sources / "caer_s_demo", tmp_path / "cues"
    bare = build.build(card, source, tmp_path / "bare/caer_s_demo", cues=cues)
    assert bare.cues == {}
    reader = open_reader(card, source / "main")
    people = {"main": [p for s in ("train", "val", "test") for p in reader.read(s).people]}
    people["shift"] = open_reader(card, source / "shift").read("test").people
    for root, found in people.items():
        write(cues / root, "pose", *(files.finding_line(p.id, POSE) for p in found))
    manifest = build.build(card, source, tmp_path / "posed/caer_s_demo", cues=cues)
    assert manifest.cues == {"pose": "me 1"}
    assert manifest.source != bare.source
    assert all(split.members["pose.npy"] == split.samples for split in manifest.splits.values())
    assert build.build(card, source, tmp_path / "posed/caer_s_demo", cues=cues) == manifest
    path = files.cue_path(cues / "shift", "pose")
    path.write_text(path.read_text() + files.finding_line("stranger", None))
    with pytest.raises(ShardError, match="another source, card, version or cues"):
        build.build(card, source, tmp_path / "posed/caer_s_demo", cues=cues)
