"""A dataset of one photograph, laid out as CAER-S is: NASA's portrait of Eileen Collins, which scikit-image brings."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from clef.cues import files

ROOT = Path(__file__).resolve().parents[2]
KEY = "train/Happy/0000.png"
FACE = (180, 70, 268, 176)
"""Her face from the brow's top to the chin, between the ears; read off the picture by eye."""
EYES, MOUTH = ((203, 101), (247, 103)), (223, 146)
"""Her right eye and her left, and her mouth's middle; as above."""
BLACK = (96, 6)
"""Width and height of the black pictures: flat, for networks that enlarge what is small have little to do on them."""
_CLASSES = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


def pixels() -> np.ndarray:
    """512,512,3 uint8 RGB."""
    return np.asarray(skimage.data.astronaut())


def lay_out(source: Path, image: np.ndarray | None = None, box: Sequence[int] | None = None) -> Path:
    """A CAER-S tree at `source` with the picture among small black ones, and a card of it. Returns the card's path.

    `box` is written as the photo's person box; all other subjects are whole frames.
    """
    for split in ("train", "test"):
        for name in _CLASSES:
            (source / split / name).mkdir(parents=True)
            Image.new("RGB", BLACK).save(source / split / name / "0000.png")
        (source / f"{split}.txt").write_text(
            "".join(f"{name}/0000.png,{label},0,0,0,0\n" for label, name in enumerate(_CLASSES))
        )
    Image.fromarray(pixels() if image is None else image).save(source / KEY)
    if box:
        (source / "train_person.txt").write_text(f"Happy/0000.png,3,{','.join(map(str, box))}\n")
    card = source / "photo.yaml"
    card.write_text(
        "extends: caer_s\nname: photo\npolicies: {face_missing: full}\nreader_options: {val_fraction: 0, val_gap: 0}\n"
        "splits: {train: {split: train}, test: {split: test}}\n"
    )
    return card


def run(card: Path, *arguments: str, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    """The real command on that tree."""
    command = [str(python), "-m", "clef.cues", "--dataset", str(card), "--source", str(card.parent), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=card.parent, env=environment)


def train_dlib(path: Path) -> list[tuple[int, int]]:
    """Write a shape predictor that knows her face, and return its 68 marks: the published one is not for everyone."""
    dlib = pytest.importorskip("dlib")
    marks = [(FACE[0] + i % 9 * 10, FACE[1] + i // 9 * 13) for i in range(68)]
    shape = dlib.full_object_detection(dlib.rectangle(*FACE), [dlib.point(*mark) for mark in marks])
    options = dlib.shape_predictor_training_options()
    options.tree_depth, options.cascade_depth, options.oversampling_amount = 2, 4, 5
    options.num_test_splits, options.feature_pool_size, options.num_threads = 10, 100, 1
    dlib.train_shape_predictor([pixels()] * 2, [[shape]] * 2, options).save(str(path))
    return marks


def values(source: Path, cue: str) -> dict[str, Any]:
    """What a cue file says, read without our reader."""
    lines = files.cue_path(source, cue).read_text().splitlines()[1:]
    return {entry["key"]: entry["value"] for entry in map(json.loads, lines)}
