"""A set of photograph-like images in EMOTIC's official layout, with a card of EMOTIC's own storage sizes.

Rates rest on bytes and pixels, not on what is to be seen: sizes, people an image and JPEG bytes are as in EMOTIC.
"""

import csv
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from clef import cards, files
from clef.bench.photograph import PixelBox, head_of, photograph
from clef.bench.processes import leave_interrupts
from clef.console import Progress
from clef.datasets.demo.emotic_mat import Annotation, ImageEntry, write_mat
from clef.errors import ConfigError

NAME = "photographs"
DATABASE = "mscoco"
PEOPLE = (1, 2, 3, 4)
SHARES = (0.68, 0.22, 0.07, 0.03)
"""How many people an image shows, and how often: 1.45 on average, as in EMOTIC's 34,320 in 23,571."""
QUALITY = 90


@dataclass(frozen=True)
class Picture:
    """One image to draw."""

    path: Path
    size: tuple[int, int]
    boxes: list[PixelBox]
    seed: int


def make(folder: Path, people: int, size: tuple[int, int], shards: int, workers: int, progress: Progress) -> Path:
    """Draw a set whose train split has `people` people or a few more below `folder`; the path of its card.

    That split will be cut into about `shards` shards. `size` is that of every image (width, height). A set that was
    drawn there before is used again; ConfigError when it is another.
    """
    root, path = folder / "source", folder / f"{NAME}.yaml"
    text = (
        f"extends: emotic\nname: {NAME}\ntitle: {people} drawn people, {size[0]}x{size[1]}\nsource: {root}\n"
        f'request: "nowhere: it is drawn"\nstorage: {{samples_per_shard: {-(-people // shards)}}}\n'
    )
    if path.is_file():
        if path.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{folder}: holds a set of other people or sizes; remove it, or name another with --keep")
        return path
    pictures = _plan(root, people, size)
    with ProcessPoolExecutor(workers, get_context("forkserver"), leave_interrupts) as pool:
        for done, _ in enumerate(pool.map(_draw, pictures, chunksize=8), 1):
            progress("drawn", done, len(pictures))
    files.write(path, text)  # last: it says that the set is whole
    return path


def _plan(root: Path, people: int, size: tuple[int, int]) -> list[Picture]:
    """Lay the set out and write all but its images."""
    rng = np.random.default_rng(0)
    pictures: list[Picture] = []
    splits: dict[str, list[ImageEntry]] = {}
    for split, wanted in {"train": people, "val": 1, "test": 1}.items():
        splits[split] = []
        while sum(len(entry.people) for entry in splits[split]) < wanted:
            picture = _picture(root, len(pictures), size, rng)
            pictures.append(picture)
            splits[split].append(_entry(picture, rng))
    write_mat(root / "Annotations" / "Annotations.mat", splits, rng)
    pictures[0].path.parent.mkdir(parents=True, exist_ok=True)
    _write_faces(root / "faces.csv", pictures)
    return pictures


def _picture(root: Path, number: int, size: tuple[int, int], rng: np.random.Generator) -> Picture:
    path = root / "emotic" / DATABASE / "images" / f"{number:06d}.jpg"
    boxes = [_box(size, rng) for _ in range(rng.choice(PEOPLE, p=SHARES))]
    return Picture(path, size, boxes, number)


def _box(size: tuple[int, int], rng: np.random.Generator) -> PixelBox:
    """The box of a person: between a third and nearly all of the frame's height, upright."""
    height = size[1] * rng.uniform(0.35, 0.95)
    width = min(height * rng.uniform(0.35, 0.7), size[0] - 2)
    x, y = rng.uniform(1, size[0] - width), rng.uniform(1, size[1] - height)
    return round(x), round(y), round(x + width), round(y + height)


def _entry(picture: Picture, rng: np.random.Generator) -> ImageEntry:
    classes = cards.load("emotic").classes
    people = []
    for x1, y1, x2, y2 in picture.boxes:
        named = tuple(classes[i] for i in rng.choice(len(classes), rng.integers(1, 4), replace=False))
        vad = tuple(float(v) for v in rng.integers(1, 11, 3))
        # MATLAB's boxes are 1-based and inclusive.
        people.append(Annotation((x1 + 1, y1 + 1, x2, y2), named, vad, "Female", "Adult"))  # type: ignore[arg-type]
    return ImageEntry(picture.path.name, DATABASE, picture.size, tuple(people))


def _write_faces(path: Path, pictures: list[Picture]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["id", "x1", "y1", "x2", "y2"])
        for picture in pictures:
            for number, box in enumerate(picture.boxes):
                rows.writerow([f"{DATABASE}/images/{picture.path.name}#{number}", *head_of(box)])


def _draw(picture: Picture) -> None:
    photograph(picture.size, picture.boxes, picture.seed).save(picture.path, quality=QUALITY)
