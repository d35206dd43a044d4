"""The dataset of photographs: EMOTIC's layout, the bytes of real photographs, made once and used again."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import images
from clef.datasets import cards, open_reader
from clef.errors import ConfigError

pytestmark = pytest.mark.slow  # written by a pool of processes


def make(folder: Path, people: int = 30) -> Path:
    return images.make_dataset(folder, people, (160, 120), 4, lambda *_: None)


def test_the_reader_finds_everyone(tmp_path: Path) -> None:
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
    assert np.dot(images.PEOPLE, images.SHARES) == pytest.approx(34_320 / 23_571, abs=0.01)


def test_jpegs_have_the_bytes_of_photographs_and_no_two_are_alike(tmp_path: Path) -> None:
    contents = []
    for seed in range(6):
        images.mosaic((1280, 853), seed).save(tmp_path / "mosaic.jpg", quality=images.QUALITY)
        contents.append((tmp_path / "mosaic.jpg").read_bytes())
    sizes = [len(content) / (1280 * 853) for content in contents]
    assert all(0.15 <= size <= 0.25 for size in sizes), sizes
    assert len(set(contents)) == len(contents)


def test_a_kept_dataset_is_used_again_and_another_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.jpg")}
    assert make(tmp_path) == path
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.jpg")} == before
    with pytest.raises(ConfigError, match="other people or sizes"):
        make(tmp_path, people=31)


def test_a_folder_with_files_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sharded").mkdir()
    with pytest.raises(ConfigError, match="holds sharded, which is no part of a set; name an empty folder"):
        make(tmp_path)
