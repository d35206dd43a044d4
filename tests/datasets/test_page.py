"""docs/datasets.md: its cards and its code, taken from the page, run through the commands as a user would run them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clef.datasets import cards, splits
from tests.datasets import caer_s_factory
from tests.datasets.emotic_factory import ONE_TEST, ONE_VAL, write
from tests.datasets.test_emotic_layouts import LAYOUTS, TRAIN

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
NAMES = {
    "emotic_2017.yaml", "caer_s_hand_checked.yaml", "ncaer_s.yaml", "heco.yaml",
    "draw.py", "moods.yaml", "my_cell.yaml", "my_reader.py", "sheet.yaml", "sidecars.yaml",
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder with the page's files in it."""
    for name, text in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text)
    assert {path.name for path in tmp_path.iterdir()} == NAMES
    return tmp_path


def run(project: Path, command: str) -> str:
    program, *arguments = command.replace("PYTHONPATH=. ", "").split()
    assert program == "python"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((".", str(ROOT)))}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_examples_of_a_table_and_of_a_reader_run(project: Path) -> None:
    blocks = re.findall(r"```\n((?:PYTHONPATH=\. )?python .*?)```", PAGE, re.DOTALL)
    for command in "".join(blocks).splitlines():
        run(project, command)
    manifests = [json.loads((project / f"shards/{name}/manifest.json").read_text()) for name in ("moods", "sidecars")]
    for manifest in manifests:
        assert {name: split["samples"] for name, split in manifest["splits"].items()} == {
            "train": 24, "val": 8, "test": 8,
        }  # fmt: skip
        assert manifest["splits"]["test"]["classes"] == {"calm": 4, "tense": 4}
        assert not manifest["splits"]["train"]["left_out"]
    sheet = json.loads((project / "shards/sheet/manifest.json").read_text())["splits"]
    assert {name: split["samples"] for name, split in sheet.items()} == {"train": 24, "val": 8, "test": 8}
    assert sheet["val"]["notes"] == {"cut from train by subject: a share of 0.25, seed 0": 8}
    assert sheet["test"]["content"]["scene.jpg"] == manifests[0]["splits"]["test"]["content"]["scene.jpg"]
    assert sorted(p.name.partition("-")[0] for p in project.glob("runs/single/*")) == ["moods", "sheet", "sidecars"]
    assert len(list(project.glob("runs/single/*/result.json"))) == 3


def test_a_reader_is_short(project: Path) -> None:
    assert len((project / "my_reader.py").read_text().splitlines()) < 30


def test_the_card_of_heco_reads_its_form(project: Path) -> None:
    labels = project / "data/heco/Labels/HECO_Labels.csv"
    labels.parent.mkdir(parents=True)
    labels.write_text(
        "Image,xmin,ymin,xmax,ymax,Category,Label_SA,Label_CA,Valence,Arousal,Dominance\n"
        "1.jpg,1,2,30,40,Happinesst,3,2,8,7,6\n1.jpg,5,6,7,8,Peace,3,2,8,3,6\n2.jpg,0,0,9,9,Fear,1,1,2,8,3\n"
    )
    card = cards.load(str(project / "heco.yaml"))
    people = [p for reading in splits.read(card, project / "data/heco").values() for p in reading.people]
    assert sorted((p.id, p.labels) for p in people) == [
        ("1.jpg#0", ("Happiness",)), ("1.jpg#1", ("Peace",)), ("2.jpg#0", ("Fear",)),
    ]  # fmt: skip
    assert {p.image for p in people} == {project / f"data/heco/Images/{i}.jpg" for i in (1, 2)}


def test_the_cards_of_caer_s_read_what_they_say(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "data/caer_s"
    boxes = caer_s_factory.lay_out(root)
    (root / "boxes").mkdir()
    caer_s_factory.write_json(root / "boxes", boxes)
    for name, of_split in (("train", boxes["train"]), ("test", boxes["test"]), ("val", {})):
        (root / f"people_{name}.txt").write_text(caer_s_factory.rows(of_split))
    readings = splits.read(cards.load(str(project / "caer_s_hand_checked.yaml")), root)
    assert readings["test"].notes == {
        "face boxes from boxes/test.json": 21, "person boxes from people_val.txt, people_test.txt": 21,
    }  # fmt: skip
    shutil.move(root / "test", root / "images")
    caer_s_factory.write_crops_of(root / "crop", boxes["test"])
    for split, number in (("train", 0), ("val", 1), ("test", 2)):
        rows = "".join(f"{name}/{number:04d}.png\n" for name in caer_s_factory.CLASSES)
        (root / f"{split}.lst").write_text(rows)
    readings = splits.read(cards.load(str(project / "ncaer_s.yaml")), root)
    assert [len(reading.people) for reading in readings.values()] == [7, 6, 7]


def test_the_card_of_emotic_2017_chooses_its_file(project: Path) -> None:
    root = write(project / "data/emotic", TRAIN, ONE_VAL, ONE_TEST)
    shutil.copy(root / "Annotations/Annotations.mat", root / "CVPR17_Annotations.mat")
    readings = splits.read(cards.load(str(project / "emotic_2017.yaml")), root)
    assert readings["train"].notes == {"annotations from CVPR17_Annotations.mat": 3}


def test_every_layout_that_is_tested_stands_on_the_page() -> None:
    for databases, annotations in LAYOUTS.values():
        assert f"`{databases}/<db>/`".replace("./", "") in PAGE
        assert f"`{annotations.replace('Annotations/CVPR17', 'CVPR17')}`" in PAGE
