"""Small datasets in the official layouts, without a fault until a test adds one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import loadmat, savemat

from clef.datasets import cards
from clef.datasets.cards import Card
from clef.demo.emotic_mat import Annotation, ImageEntry, write_mat
from clef.sharding.check import check_source
from clef.sharding.check.report import Report

WIDTH, HEIGHT = 120, 90
CAER_CLASSES = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
Box = tuple[float, float, float, float]


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Coarse blotches, smooth as photographs are: no two seeds look alike."""
    blotches = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    return Image.fromarray(blotches).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", quality: int = 92, orientation: int | None = None) -> bytes:
    """An image file; `orientation`: what its EXIF data state, if it has any."""
    buffer, exif = BytesIO(), Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    image.save(buffer, kind, quality=quality, exif=exif)
    return buffer.getvalue()


def annotation(
    box: Box = (11, 6, 60, 80), names: tuple[str, ...] = ("Peace",), vad: Box | tuple = (5.0, 6.0, 7.0)
) -> Annotation:
    return Annotation(box, names, vad, "Male", "Adult")  # type: ignore[arg-type]


@dataclass
class EmoticSet:
    """What EMOTIC's folders will hold: images by `db/images/name`, and the annotations' entries."""

    entries: dict[str, list[ImageEntry]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    unjudged: list[tuple[str, int]] = field(default_factory=list)
    """Images, by split and number, whose first person no annotator stands beside."""

    @classmethod
    def clean(cls) -> EmoticSet:
        """Four images of train, two of val, two of test, all of framesdb, a person in each."""
        dataset = cls()
        for split, count in (("train", 4), ("val", 2), ("test", 2)):
            for number in range(count):
                dataset.add(split, f"{split}{number}.jpg", annotation())
        return dataset

    def add(self, split: str, name: str, *people: Annotation, content: bytes | None = None) -> None:
        self.entries.setdefault(split, []).append(ImageEntry(name, "framesdb", (WIDTH, HEIGHT), people))
        self.files.setdefault(f"framesdb/images/{name}", content or encoded(picture(len(self.files))))

    def person(self, split: str, number: int, **changes: Any) -> None:
        """Change the person of an image."""
        entry = self.entries[split][number]
        self.entries[split][number] = replace(entry, people=(replace(entry.people[0], **changes),))

    def write(self, root: Path) -> Path:
        for name, content in self.files.items():
            path = root / "emotic" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        path = root / "Annotations/Annotations.mat"
        write_mat(path, self.entries, np.random.default_rng(0))
        if self.unjudged:
            content = loadmat(path)
            for split, number in self.unjudged:
                content[split][0, number]["person"][0, 0]["annotations_categories"] = np.zeros((0, 0))
            savemat(path, {split: content[split] for split in self.entries})
        return root


@dataclass
class CaerSet:
    """What CAER-S's folders will hold: images and other files by path, and box rows by file of boxes."""

    files: dict[str, bytes] = field(default_factory=dict)
    boxes: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def clean(cls, train: int = 6, test: int = 2) -> CaerSet:
        dataset = cls()
        for split, count in (("train", train), ("test", test)):
            for label, name in enumerate(CAER_CLASSES):
                folder = "Angry" if (split, name) == ("train", "Anger") else name
                for number in range(count):
                    dataset.add(split, f"{folder}/{number:04d}.png", label)
        return dataset

    def add(self, split: str, name: str, label: int, box: str = "20,10,60,50", content: bytes | None = None) -> None:
        self.files[f"{split}/{name}"] = content or encoded(picture(1000 + len(self.files)), "PNG")
        self.boxes.setdefault(f"{split}.txt", {})[name] = f"{label},{box}"

    def box(self, split: str, name: str, box: str) -> None:
        label = self.boxes[f"{split}.txt"][name].split(",")[0]
        self.boxes[f"{split}.txt"][name] = f"{label},{box}"

    def write(self, root: Path) -> Path:
        for name, content in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for name, rows in self.boxes.items():
            (root / name).write_text("".join(f"{key},{row}\n" for key, row in rows.items()))
        return root


def variants(dataset: str, policies: Mapping[str, str] | None = None, **storage: Any) -> dict[str, Card]:
    """Every protocol's card, with small shards and a gap that fits so few frames."""
    names = ["leak_free", *cards.load(dataset).protocols]
    by_protocol = {name: cards.load(dataset, name, policies) for name in names}
    if dataset == "caer_s":
        card = by_protocol["leak_free"]
        options = {**card.reader_options, "val_fraction": 0.34, "val_gap": 1}
        by_protocol["leak_free"] = card.model_copy(update={"reader_options": options})
    update = {"samples_per_shard": 3, **storage}
    return {
        name: card.model_copy(update={"storage": card.storage.model_copy(update=update)})
        for name, card in by_protocol.items()
    }


def run_check(dataset: str, root: Path, policies: Mapping[str, str] | None = None, **settings: Any) -> Report:
    storage = {"max_pixels": settings.pop("max_pixels")} if "max_pixels" in settings else {}
    return check_source(
        variants(dataset, policies, **storage), settings.pop("protocol", "leak_free"), root, root, **settings
    )
