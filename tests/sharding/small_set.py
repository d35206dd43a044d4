"""A small set in CAER-S's layout that is sharded in a moment: 56 frames, several shards a split."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from clef.datasets import cards
from clef.datasets.cards import Card

SHARD = 8


def card(samples_per_shard: int = SHARD) -> Card:
    """CAER-S's card with small pictures and small shards."""
    made = cards.load("caer_s")
    storage = {"frame": 32, "body": 24, "face": 16, "samples_per_shard": samples_per_shard}
    changes = {"storage": made.storage.model_copy(update=storage), "reader_options": {"val_gap": 1}}
    return made.model_copy(update=changes)


def draw(root: Path) -> Path:
    """Write the set. One image can't be read, and one has no face."""
    for split, count in (("train", 6), ("test", 2)):
        lines = []
        for number_of_class, label in enumerate(card().classes):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng([split == "test", len(lines)]).integers(0, 256, (40, 60, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:04d}.png")
                lines.append(f"{label}/{number:04d}.png,{number_of_class},10,5,40,{30 if lines else 5}\n")
        (root / f"{split}.txt").write_text("".join(lines))
    (root / "train/Happy/0002.png").write_bytes(b"no image")
    return root


def hashes(folder: Path) -> dict[str, str]:
    """A hash of every file in a folder, hidden ones too."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
