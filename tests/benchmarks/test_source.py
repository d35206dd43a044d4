"""The drawn set: EMOTIC's layout, JPEGs that weigh what photographs do, drawn once and found again."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import source
from benchmarks.source import photograph
from clef.datasets import cards, open_reader
from clef.errors import ConfigError


def make(folder: Path, people: int = 30) -> Path:
    return source.make(folder, people, (160, 120), 4, 1, lambda *_: None)


def test_the_reader_finds_everyone_it_drew(tmp_path: Path) -> None:
    card = cards.load(str(make(tmp_path)))
    people = open_reader(card, Path(card.source)).read("train").people
    assert 30 <= len(people) < 34
    for person in people:
        width, height = Image.open(person.image).size
        assert (width, height) == (160, 120)
        assert person.box is not None
        assert person.face is not None
        x1, y1, x2, y2 = person.box
        assert 0 <= x1 < person.face[0] < person.face[2] < x2 <= width
        assert 0 <= y1 <= person.face[1] < person.face[3] < y2 <= height
        assert person.labels
    assert card.storage == cards.load("emotic").storage.model_copy(update={"samples_per_shard": 8})


def test_several_people_share_an_image_as_in_emotic() -> None:
    assert np.dot(source.PEOPLE, source.SHARES) == pytest.approx(34_320 / 23_571, abs=0.01)


def test_jpegs_weigh_what_those_of_photographs_do(tmp_path: Path) -> None:
    sizes = []
    for seed in range(3):
        photograph((1280, 853), [(200, 100, 500, 800)], seed).save(tmp_path / "one.jpg", quality=source.QUALITY)
        sizes.append((tmp_path / "one.jpg").stat().st_size / (1280 * 853))
    assert all(0.15 <= size <= 0.25 for size in sizes), sizes


def test_a_kept_set_is_found_again_and_another_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.jpg")}
    assert make(tmp_path) == path
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.jpg")} == before
    with pytest.raises(ConfigError, match="other people or sizes"):
        make(tmp_path, people=31)
