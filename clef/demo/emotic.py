"""Writes pictures in the layout of EMOTIC: images, `Annotations.mat`, and face boxes, which EMOTIC itself lacks.

Some things are wrong with the set on purpose: each fault is one that copies of the real set have.
Sizes are (width, height), as in Pillow.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clef.cues.files import image_key
from clef.demo.cues import ImageCues, ListedPerson, find_image_cues, write_person_cues
from clef.demo.emotic_mat import Annotation, ImageEntry, write_mat
from clef.demo.figure import card_height, draw_person, face_box
from clef.demo.scenes import draw_scene
from clef.demo.world import (
    MOOD_SCENES,
    MOODS,
    Actor,
    Group,
    draw_categories,
    draw_vad,
    random_stream,
    sample_pictures,
)
from clef.geometry import PixelBox

DEFAULT_PEOPLE = 2600
FILE_NAMES = {
    "mscoco": "COCO_val2014_{:012d}.jpg",
    "framesdb": "frame_{:04d}.jpg",
    "emodb_small": "emodb_{:05d}.jpg",
    "ade20k": "labelme_{:05d}.jpg",
}
OFF_FRAME = 0.06
"""The share of people whom the left or lower edge cuts, so that their boxes reach beyond the frame."""
FRACTIONAL = 0.1
"""The share of boxes with fractions of pixels."""
NO_FACE = 0.03
"""The share of people without a face box, in both roots: the two tests must differ in nothing but their scenes."""
LEAKED = 0.1
"""The share of val's people who are in train too: the same framesdb images, the same boxes."""
IMAGE_FAULTS = ("truncated", "missing", "png", "png", "grey", "grey", "cmyk", "cmyk")
PERSON_FAULTS = ("empty_box", "tiny_box", "twice", "twice", "no_vad", "no_vad", "no_vad")
ALIASES = {
    "Disquietment": "Disquitement",
    "Disconnection": "Disconnect",
    "Doubt/Confusion": "Doubt Confusion",
}
ALIAS_SHARE = 0.2
"""The probability that a category of train or val is written in its other spelling, if it has one."""


@dataclass(frozen=True)
class Picture:
    """Everything that is needed to draw one image, and its entry in the annotations."""

    root: Path
    entry: ImageEntry
    scene: str
    seed: int
    actors: tuple[Actor, ...]
    cards: tuple[PixelBox, ...]
    fault: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height."""
        return self.entry.size

    @property
    def name(self) -> str:
        """Return the image's folder and file, as the annotations name them."""
        return f"{self.entry.database}/images/{self.entry.filename}"

    @property
    def path(self) -> Path:
        """Return where the image is."""
        return self.root / "emotic" / self.name

    @property
    def readable(self) -> bool:
        """Return whether the image exists and is whole."""
        return self.fault not in ("truncated", "missing")


def plan(root: Path, seed: int, strength: float, people: int) -> list[Picture]:
    """Lay out both roots, and write everything but the images and their cues. Returns the pictures for `draw`."""
    main, shift = root / "main", root / "shift"
    val_people, test_people = round(people * 2 / 13), round(people * 9 / 26)
    train = _add_faults(
        _compose_pictures(main, sample_pictures(seed, "train", people, strength), 1), random_stream(seed, "faults")
    )
    train = _respell_people(train, random_stream(seed, "spellings", "train"))
    leak = _choose_leaked(train, round(val_people * LEAKED))
    groups = sample_pictures(seed, "val", val_people - sum(len(picture.actors) for picture in leak), strength)
    val = _respell_people(_compose_pictures(main, groups, len(train) + 1), random_stream(seed, "spellings", "val"))
    tested = _compose_pictures(main, sample_pictures(seed, "test", test_people, strength), len(train) + len(val) + 1)
    _write_annotation_files(main, {"train": train, "val": val + leak, "test": tested}, seed)
    # The layout has three splits: one picture each stands for the two that the shifted root does not need.
    counts = {"train": 1, "val": 1, "test": test_people}
    shifted = {
        split: _compose_pictures(shift, sample_pictures(seed, f"shift/{split}", count, 0.0), first)
        for first, (split, count) in enumerate(counts.items(), 1)
    }
    _write_annotation_files(shift, shifted, seed)
    return train + val + tested + [picture for split in shifted.values() for picture in split]


def draw(picture: Picture) -> list[ImageCues]:
    """Draw and save one picture, and return its cues."""
    pen = draw_scene(picture.scene, *picture.size, picture.seed)
    shapes = tuple(pen.shapes)
    for actor, card in zip(picture.actors, picture.cards, strict=True):
        draw_person(pen, card, actor.expression, actor.look)
    _save_image(pen.finish(), picture.path, picture.fault)
    key = image_key(picture.root, picture.path)
    return [find_image_cues(picture.root, key, picture.cards, shapes, picture.size, picture.readable)]


def _compose_pictures(root: Path, groups: Iterable[Group], first: int) -> list[Picture]:
    return [compose_picture(root, group, number) for number, group in enumerate(groups, first)]


def compose_picture(root: Path, group: Group, number: int) -> Picture:
    """Choose a frame, place the group's people side by side, and annotate them."""
    rng = np.random.default_rng([group.seed, 3])
    database = list(FILE_NAMES)[int(rng.choice(4, p=[0.35, 0.35, 0.15, 0.15]))]
    size = _frame_size(rng, len(group.actors))
    cards = tuple(_place_card(rng, size, i, len(group.actors)) for i in range(len(group.actors)))
    people = tuple(_annotate_person(rng, actor, card) for actor, card in zip(group.actors, cards, strict=True))
    entry = ImageEntry(FILE_NAMES[database].format(number), database, size, people)
    return Picture(root, entry, list(MOOD_SCENES.values())[group.scene], group.seed, group.actors, cards)


def _frame_size(rng: np.random.Generator, people: int) -> tuple[int, int]:
    """Draw width and height: portrait format only for a single person, and then in 30 % of pictures."""
    long, short = int(rng.integers(150, 181)), int(rng.integers(112, 137))
    return (short, long) if people == 1 and rng.random() < 0.3 else (long, short)


def _place_card(rng: np.random.Generator, size: tuple[int, int], index: int, people: int) -> PixelBox:
    """Draw where the card of person `index` is, in that person's slot: people stand side by side."""
    slot = size[0] // people
    width = int(rng.integers(40, min(58, slot - 7)))
    height = card_height(width)
    left = slot * index + int(rng.integers(2, slot - width - 2))
    top = int(rng.integers(2, size[1] - height - 1))
    if rng.random() < OFF_FRAME:
        left, top = (-width // 5, top) if index == 0 and rng.random() < 0.5 else (left, size[1] - height + height // 6)
    return left, top, left + width, top + height


def _annotate_person(rng: np.random.Generator, actor: Actor, card: PixelBox) -> Annotation:
    """Draw a person's annotation; gender and age are random, and nothing that is drawn depends on them."""
    mood = list(MOODS)[actor.label]
    fraction = rng.random(4).round(2) * 0.9 if rng.random() < FRACTIONAL else np.zeros(4)
    x1, y1, x2, y2 = (float(v) for v in np.add(card, (1, 1, 0, 0)) + fraction)
    valence, arousal, dominance = (float(v) for v in draw_vad(rng, mood))
    gender = "Female" if rng.random() < 0.5 else "Male"
    age = ("Kid", "Teenager", "Adult")[int(rng.choice(3, p=[0.1, 0.1, 0.8]))]
    return Annotation((x1, y1, x2, y2), draw_categories(rng, mood), (valence, arousal, dominance), gender, age)


def _add_faults(pictures: Sequence[Picture], rng: np.random.Generator) -> list[Picture]:
    """Give each fault a picture of its own."""
    changed = list(pictures)
    faults = IMAGE_FAULTS + PERSON_FAULTS
    for i, fault in zip(rng.permutation(len(changed))[: len(faults)], faults, strict=True):
        changed[i] = _with_fault(changed[i], fault)
    return changed


def _with_fault(picture: Picture, fault: str) -> Picture:
    """Return the picture with a fault; of a person's faults, the first person has it."""
    (width, height), (first, *rest) = picture.size, picture.entry.people
    x, y = first.box[:2]
    if fault == "twice":
        rest = [*rest, first]
    if fault == "no_vad":
        first = replace(first, vad=(nan, nan, nan))
    if fault == "empty_box":
        first = replace(first, box=(width + 4.0, y, width + 30.0, height + 0.0))
    if fault == "tiny_box":
        first = replace(first, box=(x, y, x + 8, y + 9))
    entry: ImageEntry = replace(picture.entry, people=(first, *rest))
    return replace(picture, entry=entry, fault=fault)


def _respell_people(drawn: Sequence[Picture], rng: np.random.Generator) -> list[Picture]:
    """Return the pictures with some categories of their people in the other spelling."""
    return [
        replace(
            picture,
            entry=replace(picture.entry, people=tuple(_respell_categories(p, rng) for p in picture.entry.people)),
        )
        for picture in drawn
    ]


def _respell_categories(annotation: Annotation, rng: np.random.Generator) -> Annotation:
    """Write some categories in the other spelling that is found in copies."""
    names = [ALIASES.get(c, c) if rng.random() < ALIAS_SHARE else c for c in annotation.categories]
    return replace(annotation, categories=tuple(names))


def _choose_leaked(train: Sequence[Picture], people: int) -> list[Picture]:
    """Return framesdb pictures without a fault that hold this many people, or one or two more."""
    leak: list[Picture] = []
    for picture in train:
        if sum(len(p.actors) for p in leak) >= people:
            break
        if picture.entry.database == "framesdb" and not picture.fault:
            leak.append(picture)
    return leak


def _write_annotation_files(root: Path, splits: Mapping[str, Sequence[Picture]], seed: int) -> None:
    """Make a root's folders, and write its annotations, face boxes, moods and the cues of its people."""
    for database in FILE_NAMES:
        (root / "emotic" / database / "images").mkdir(parents=True, exist_ok=True)
    rng = random_stream(seed, "side files", root.name)
    entries = {split: [picture.entry for picture in drawn] for split, drawn in splits.items()}
    write_mat(root / "Annotations" / "Annotations.mat", entries, rng)
    by_name = {picture.name: picture for drawn in splits.values() for picture in drawn}  # leaked ones are in two
    moods: list[list[Any]] = []
    people: list[ListedPerson] = []
    for name, picture in by_name.items():
        for i, (actor, card) in enumerate(_listed_people(picture)):
            person, face = f"{name}#{i}", bool(rng.random() >= NO_FACE)
            moods.append([person, list(MOODS)[actor.label]])
            people.append(ListedPerson(person, card, actor.expression, picture.size, picture.readable, face))
    faces = [[person.id, *face_box(person.card, person.expression)] for person in people if person.face]
    _write_csv(root / "faces.csv", ["id", "x1", "y1", "x2", "y2"], faces)
    _write_csv(root / "moods.csv", ["id", "mood"], moods)
    write_person_cues(root, people, random_stream(seed, "cues", root.name))


def _listed_people(picture: Picture) -> list[tuple[Actor, PixelBox]]:
    """Return the people as the annotations list them: one may be listed twice."""
    people = list(zip(picture.actors, picture.cards, strict=True))
    return people + people[: len(picture.entry.people) - len(people)]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _save_image(image: Image.Image, path: Path, fault: str) -> None:
    """Write an image with its fault; without one, or with a person's fault, it is a plain JPEG."""
    if fault == "missing":
        return
    modes = {"grey": "L", "cmyk": "CMYK"}
    encoded = BytesIO()
    image.convert(modes.get(fault, "RGB")).save(encoded, "PNG" if fault == "png" else "JPEG", quality=92)
    content = encoded.getvalue()
    path.write_bytes(content[: len(content) // 2] if fault == "truncated" else content)
