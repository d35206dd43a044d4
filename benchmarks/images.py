"""A dataset of real photographs in EMOTIC's official layout, with EMOTIC's storage sizes.

Rates depend on bytes and pixels, not on what an image shows. Each image is a mosaic of the two photographs that
scikit-learn ships, so it costs a JPEG codec what a photograph costs: 0.19 to 0.24 bytes a pixel. Drawings, such as the
demo's, take far fewer bytes and decode faster. The people are boxes at random places.
"""

import csv
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.common import ignore_interrupts
from clef import io
from clef.console import Progress
from clef.datasets import cards
from clef.demo.emotic_mat import Annotation, ImageEntry, write_mat
from clef.errors import ConfigError

NAME = "photographs"
DATABASE = "mscoco"
PEOPLE, SHARES = (1, 2, 3, 4), (0.68, 0.22, 0.07, 0.03)
"""How many people an image shows, and how often: 1.45 on average, as in EMOTIC's 34,320 in 23,571."""
QUALITY = 85
PixelBox = tuple[float, float, float, float]


def make_dataset(folder: Path, people: int, size: tuple[int, int], shards: int, progress: Progress) -> Path:
    """Write a dataset below `folder` and return the path of its card.

    Its train split has `people` people, or up to three more, in images of `size` (width, height), and is meant for
    about `shards` shards. A dataset that an earlier call wrote there is used again. Raises ConfigError when that one
    has other people or another size.
    """
    root, path = folder / "source", folder / f"{NAME}.yaml"
    text = (
        f"extends: emotic\nname: {NAME}\ntitle: {people} people in mosaics of photographs, {size[0]}x{size[1]}\n"
        f"source: {root}\nrequest: 'nowhere: it is made here'\n"
        f"storage: {{samples_per_shard: {-(-people // shards)}}}\n"
    )
    if path.is_file():
        if path.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{folder}: holds a set of other people or sizes; name another folder with --keep")
        return path
    if others := sorted({each.name for each in folder.iterdir()} - {root.name}):
        raise ConfigError(f"{folder}: holds {others[0]}, which is no part of a set; name an empty folder with --keep")
    images = _write_annotations(root, people, size)
    with ProcessPoolExecutor(mp_context=get_context("forkserver"), initializer=ignore_interrupts) as pool:
        jobs = [(image, size, seed) for seed, image in enumerate(images)]
        for done, _ in enumerate(pool.map(_write_image, jobs, chunksize=8), 1):
            progress("images", done, len(images))
    io.write(path, text)  # last, because it says that the dataset is complete
    return path


def mosaic(size: tuple[int, int], seed: int) -> Image.Image:
    """Return an image of `size` (width, height): tiles of both photographs in turn, each shifted and mirrored."""
    random, photographs = np.random.default_rng(seed), _photographs()
    height, width = photographs[0].shape[:2]
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    for row, top in enumerate(range(0, size[1], height)):
        for column, left in enumerate(range(0, size[0], width)):
            tile = np.roll(photographs[(row + column + seed) % 2], random.integers(0, height, 2), (0, 1))
            part = pixels[top : top + height, left : left + width]
            part[:] = tile[:, :: random.choice([-1, 1])][: part.shape[0], : part.shape[1]]
    return Image.fromarray(pixels)


@cache
def _photographs() -> list[np.ndarray]:
    images: list[np.ndarray] = load_sample_images().images
    return images


def _write_image(job: tuple[Path, tuple[int, int], int]) -> None:
    path, size, seed = job
    mosaic(size, seed).save(path, quality=QUALITY)


def _write_annotations(root: Path, people: int, size: tuple[int, int]) -> list[Path]:
    """Write everything but the images, whose paths are returned."""
    random, classes = np.random.default_rng(0), cards.load("emotic").classes
    folder = root / "emotic" / DATABASE / "images"
    folder.mkdir(parents=True, exist_ok=True)
    images: list[Path] = []
    entries: dict[str, list[ImageEntry]] = {"train": [], "val": [], "test": []}
    faces: list[list[object]] = [["id", "x1", "y1", "x2", "y2"]]
    for split, wanted in {"train": people, "val": 1, "test": 1}.items():
        while sum(len(entry.people) for entry in entries[split]) < wanted:
            images.append(folder / f"{len(images):06d}.jpg")
            boxes = [_person_box(size, random) for _ in range(random.choice(PEOPLE, p=SHARES))]
            annotations = tuple(_annotation(box, classes, random) for box in boxes)
            entries[split].append(ImageEntry(images[-1].name, DATABASE, size, annotations))
            key = f"{DATABASE}/images/{images[-1].name}"
            faces += [[f"{key}#{number}", *_face_box(box)] for number, box in enumerate(boxes)]
    write_mat(root / "Annotations" / "Annotations.mat", entries, random)
    with (root / "faces.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(faces)
    return images


def _person_box(size: tuple[int, int], random: np.random.Generator) -> PixelBox:
    """Return x1, y1, x2, y2 of an upright box between a third and nearly all of the image's height."""
    height = size[1] * random.uniform(0.35, 0.95)
    width = min(height * random.uniform(0.35, 0.7), size[0] - 2)
    x, y = random.uniform(1, size[0] - width), random.uniform(1, size[1] - height)
    return round(x), round(y), round(x + width), round(y + height)


def _face_box(box: PixelBox) -> PixelBox:
    x1, y1, x2, y2 = box
    return x1 + (x2 - x1) / 4, y1, x2 - (x2 - x1) / 4, y1 + (y2 - y1) / 5


def _annotation(box: PixelBox, classes: tuple[str, ...] | list[str], random: np.random.Generator) -> Annotation:
    labels = tuple(classes[i] for i in random.choice(len(classes), random.integers(1, 4), replace=False))
    valence, arousal, dominance = (float(value) for value in random.integers(1, 11, 3))
    x1, y1, x2, y2 = box
    # MATLAB's boxes are 1-based, and their last pixel belongs to them.
    return Annotation((x1 + 1, y1 + 1, x2, y2), labels, (valence, arousal, dominance), "Female", "Adult")
