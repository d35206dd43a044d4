"""A set of photograph-like images in EMOTIC's official layout, with a card of EMOTIC's own storage sizes.

Rates rest on bytes and pixels, not on what is to be seen: sizes, people an image and JPEG bytes are as in EMOTIC.

Pictures that cost a JPEG codec what photographs do: 1/f noise, things with edges, grain. Not meant to be looked at.

At quality 90 they take 0.20 to 0.22 bytes a pixel, where photographs of this size mostly take 0.15 to 0.25; drawings,
such as the demo's, take far less and decode faster.
"""

import csv
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.common import leave_interrupts
from clef import io
from clef.console import Progress
from clef.datasets import cards
from clef.demo.emotic_mat import Annotation, ImageEntry, write_mat
from clef.errors import ConfigError

FIELD = 1536
"""Least side of the field of noise that pictures are cut from; it repeats without a seam."""
THINGS = 24
"""Shapes with edges in a picture."""
PixelBox = tuple[float, float, float, float]


def photograph(size: tuple[int, int], boxes: list[PixelBox], seed: int) -> Image.Image:
    """A picture of `size` (width, height): a scene, and a figure in each box x1, y1, x2, y2."""
    rng = np.random.default_rng(seed)
    red, blue, light = _cut(size, rng), _cut(size, rng), _light(size, rng)
    canvas = np.stack([light + 0.35 * red, light - 0.175 * (red + blue), light + 0.35 * blue], axis=-1)
    shapes = _shapes(size, boxes, rng)
    levels = rng.normal(0, 0.9, (int(shapes.max()) + 1, 3)).astype(np.float32)
    contrast = rng.uniform(0.3, 1.1, (len(levels), 1)).astype(np.float32)
    levels[0], contrast[0] = 0, 1
    canvas = canvas * contrast[shapes] + levels[shapes]
    # A sensor's noise, the same in all channels: a camera's own processing leaves little of it in the colours.
    canvas += 0.03 * rng.standard_normal((*shapes.shape, 1), dtype=np.float32)
    return Image.fromarray(np.clip(canvas * 42 + 118, 0, 255).astype(np.uint8))


@lru_cache(maxsize=1)
def _field(side: int) -> np.ndarray:
    """Noise of mean 0 and deviation 1 whose amplitude falls with the frequency, laid out twice in both directions."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    phases = np.exp(2j * np.pi * rng.random(frequency.shape))
    # Photographs have exponents of about 1; this one meets their bytes, which smooth regions keep low.
    field = np.fft.irfft2(phases / frequency**1.45, s=(side, side))
    return np.tile(field / field.std(), (2, 2)).astype(np.float32)


def _cut(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A part of the field, anywhere, mirrored or not; H,W."""
    side = max(FIELD, *size)
    x, y = rng.integers(0, side, 2)
    part = _field(side)[y : y + size[1], x : x + size[0]]
    return part[:, ::-1] if rng.random() < 0.5 else part


def _light(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Two parts of the field together, so that hardly two pictures share one."""
    share = rng.uniform(0.3, 0.7)
    return np.sqrt(share) * _cut(size, rng) + np.sqrt(1 - share) * _cut(size, rng)


def _shapes(size: tuple[int, int], boxes: list[PixelBox], rng: np.random.Generator) -> np.ndarray:
    """The number of the shape that each pixel belongs to, 0 for none; H,W. Figures lie in front."""
    image = Image.new("L", size)
    draw = ImageDraw.Draw(image)
    for number in range(1, THINGS + 1):
        middle, reach = rng.uniform(0, size), rng.uniform(0.03, 0.25) * min(size)
        if number % 2:
            corners = middle + reach * rng.uniform(-1, 1, (rng.integers(3, 8), 2))
            draw.polygon([(x, y) for x, y in corners.tolist()], number)
        else:
            draw.ellipse((*(middle - reach), *(middle + reach * rng.uniform(0.2, 1, 2))), number)
    for number, box in enumerate(boxes):
        head, edge = head_of(box), (box[2] - box[0]) / 8
        draw.rectangle((box[0] + edge, head[3], box[2] - edge, box[3]), THINGS + 1 + 2 * number)
        draw.ellipse(head, THINGS + 2 + 2 * number)
    return np.asarray(image)


def head_of(box: PixelBox) -> PixelBox:
    """Where the head of the figure in a box is."""
    x1, y1, x2, y2 = box
    return x1 + (x2 - x1) / 4, y1, x2 - (x2 - x1) / 4, y1 + (y2 - y1) / 5


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
    io.write(path, text)  # last: it says that the set is whole
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
