"""`clef.cues --protocol`: whom the protocol counts is looked at."""

from pathlib import Path

import pytest

from tests.cues import photo_dataset
from tests.datasets import caer_s_factory

pytestmark = pytest.mark.slow

MIDDLE = ("--cue", "face", "--extractor", "tests.cues.fakes:Middle")


def test_the_protocol_says_who_is_looked_at(tmp_path: Path) -> None:
    caer_s_factory.write_rows(tmp_path, caer_s_factory.lay_out(tmp_path))
    card = tmp_path / "mine.yaml"
    card.write_text("extends: caer_s\nname: mine\nreader_options: {val_fraction: 0.25, val_gap: 1}\n")
    assert photo_dataset.run(card, *MIDDLE).returncode == 0
    usual = set(photo_dataset.values(tmp_path, "face"))
    assert len(usual) == 7 * (4 - 1 + 3) - 2  # a frame of each class is the gap; two have no face
    assert photo_dataset.run(card, *MIDDLE, "--protocol", "paper").returncode == 0
    assert len(photo_dataset.values(tmp_path, "face")) == 7 * (4 + 3) - 2
    wrong = photo_dataset.run(card, *MIDDLE, "--protocol", "papers")
    assert wrong.returncode == 2
    assert "protocol 'papers': unknown (did you mean paper?)" in " ".join(wrong.stderr.split())
