"""Writes pictures as EMOTIC lies on disk: images, `Annotations.mat`, and face boxes, which EMOTIC lacks.

What is wrong with the EMOTIC-like set, on purpose: each fault is one that copies of the real set have.

One picture of the EMOTIC-like set: the people placed in it and what is annotated of them.
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
from clef.demo.cues import Findings, Listed, look, write_of_people
from clef.demo.emotic_mat import Annotation, ImageEntry, write_mat
from clef.demo.figure import Box, card_height, draw_person, face_box
from clef.demo.scenes import draw_scene
from clef.demo.world import MOOD_SCENES, MOODS, Actor, Group, draw_categories, draw_vad, pictures, stream

NAMES = {
    "mscoco": "COCO_val2014_{:012d}.jpg",
    "framesdb": "frame_{:04d}.jpg",
    "emodb_small": "emodb_{:05d}.jpg",
    "ade20k": "labelme_{:05d}.jpg",
}
OFF_FRAME = 0.06
"""Share of people whom the left or lower edge cuts, so that their boxes overshoot the frame."""
FRACTIONAL = 0.1
"""Share of boxes with fractions of pixels."""


@dataclass(frozen=True)
class Picture:
    """All that it takes to draw one image, and its entry in the annotations."""

    root: Path
    entry: ImageEntry
    scene: str
    seed: int
    actors: tuple[Actor, ...]
    cards: tuple[Box, ...]
    fault: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.entry.size

    @property
    def name(self) -> str:
        """How the annotations name the image: folder and file."""
        return f"{self.entry.database}/images/{self.entry.filename}"

    @property
    def path(self) -> Path:
        """Where the image lies."""
        return self.root / "emotic" / self.name

    @property
    def readable(self) -> bool:
        """Whether the image is there and whole."""
        return self.fault not in ("truncated", "missing")


def compose(root: Path, group: Group, number: int) -> Picture:
    """Choose a frame, place the group's people side by side, and annotate them."""
    rng = np.random.default_rng([group.seed, 3])
    database = list(NAMES)[int(rng.choice(4, p=[0.35, 0.35, 0.15, 0.15]))]
    size = _frame_size(rng, len(group.actors))
    cards = tuple(_place(rng, size, i, len(group.actors)) for i in range(len(group.actors)))
    people = tuple(_annotate(rng, actor, card) for actor, card in zip(group.actors, cards, strict=True))
    entry = ImageEntry(NAMES[database].format(number), database, size, people)
    return Picture(root, entry, list(MOOD_SCENES.values())[group.scene], group.seed, group.actors, cards)


def _frame_size(rng: np.random.Generator, people: int) -> tuple[int, int]:
    """Upright only where one person stands alone."""
    long, short = int(rng.integers(150, 181)), int(rng.integers(112, 137))
    return (short, long) if people == 1 and rng.random() < 0.3 else (long, short)


def _place(rng: np.random.Generator, size: tuple[int, int], index: int, people: int) -> Box:
    slot = size[0] // people
    width = int(rng.integers(40, min(58, slot - 7)))
    tall = card_height(width)
    left = slot * index + int(rng.integers(2, slot - width - 2))
    top = int(rng.integers(2, size[1] - tall - 1))
    if rng.random() < OFF_FRAME:
        left, top = (-width // 5, top) if index == 0 and rng.random() < 0.5 else (left, size[1] - tall + tall // 6)
    return left, top, left + width, top + tall


def _annotate(rng: np.random.Generator, actor: Actor, card: Box) -> Annotation:
    mood = list(MOODS)[actor.label]
    fraction = rng.random(4).round(2) * 0.9 if rng.random() < FRACTIONAL else np.zeros(4)
    x1, y1, x2, y2 = (float(v) for v in np.add(card, (1, 1, 0, 0)) + fraction)
    valence, arousal, dominance = (float(v) for v in draw_vad(rng, mood))
    gender = "Female" if rng.random() < 0.5 else "Male"
    age = ("Kid", "Teenager", "Adult")[int(rng.choice(3, p=[0.1, 0.1, 0.8]))]
    return Annotation((x1, y1, x2, y2), draw_categories(rng, mood), (valence, arousal, dominance), gender, age)


IMAGE_FAULTS = ("truncated", "missing", "png", "png", "grey", "grey", "cmyk", "cmyk")
PERSON_FAULTS = ("empty_box", "tiny_box", "twice", "twice", "no_vad", "no_vad", "no_vad")
ALIASES = {
    "Disquietment": "Disquitement",
    "Disconnection": "Disconnect",
    "Doubt/Confusion": "Doubt Confusion",
}
ALIASED = 0.2
"""How often a category of train or val that has another spelling is written so."""


def spoil(pictures: Sequence[Picture], rng: np.random.Generator) -> list[Picture]:
    """Give each fault a picture of its own."""
    spoiled = list(pictures)
    faults = IMAGE_FAULTS + PERSON_FAULTS
    for i, fault in zip(rng.permutation(len(spoiled))[: len(faults)], faults, strict=True):
        spoiled[i] = _with(spoiled[i], fault)
    return spoiled


def respell(annotation: Annotation, rng: np.random.Generator) -> Annotation:
    """Write some categories in the other spelling that circulates."""
    names = [ALIASES.get(c, c) if rng.random() < ALIASED else c for c in annotation.categories]
    return replace(annotation, categories=tuple(names))


def _with(picture: Picture, fault: str) -> Picture:
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


def save(image: Image.Image, path: Path, fault: str) -> None:
    """Write an image as its fault has it; with none, or a person's, as a plain JPEG."""
    if fault == "missing":
        return
    modes = {"grey": "L", "cmyk": "CMYK"}
    encoded = BytesIO()
    image.convert(modes.get(fault, "RGB")).save(encoded, "PNG" if fault == "png" else "JPEG", quality=92)
    content = encoded.getvalue()
    path.write_bytes(content[: len(content) // 2] if fault == "truncated" else content)


PEOPLE = 2600
NO_FACE = 0.03
"""Share of people whose face was not found. In both roots: the two tests differ in their scenes alone."""
LEAK = 0.1
"""Share of val's people who are in train, too: the same framesdb images, the same boxes."""


def plan(root: Path, seed: int, strength: float, people: int) -> list[Picture]:
    """Lay out both roots and write all but the images, which the pictures returned draw."""
    main, shift = root / "main", root / "shift"
    held, test = round(people * 2 / 13), round(people * 9 / 26)
    train = spoil(_compose(main, pictures(seed, "train", people, strength), 1), stream(seed, "faults"))
    train = _respelt(train, stream(seed, "spellings", "train"))
    leak = _leak(train, round(held * LEAK))
    groups = pictures(seed, "val", held - sum(len(picture.actors) for picture in leak), strength)
    val = _respelt(_compose(main, groups, len(train) + 1), stream(seed, "spellings", "val"))
    tested = _compose(main, pictures(seed, "test", test, strength), len(train) + len(val) + 1)
    _write_side_files(main, {"train": train, "val": val + leak, "test": tested}, seed)
    # The layout has three splits: one picture each stands for the two that the shifted root does not need.
    counts = {"train": 1, "val": 1, "test": test}
    shifted = {
        split: _compose(shift, pictures(seed, f"shift/{split}", count, 0.0), first)
        for first, (split, count) in enumerate(counts.items(), 1)
    }
    _write_side_files(shift, shifted, seed)
    return train + val + tested + [picture for split in shifted.values() for picture in split]


def draw(picture: Picture) -> list[Findings]:
    """Draw and save one picture, and look what there is in it."""
    frame = draw_scene(picture.scene, *picture.size, picture.seed)
    shapes = tuple(frame.shapes)
    for actor, card in zip(picture.actors, picture.cards, strict=True):
        draw_person(frame, card, actor.expression, actor.look)
    save(frame.finish(), picture.path, picture.fault)
    key = image_key(picture.root, picture.path)
    return [look(picture.root, key, picture.cards, shapes, picture.size, picture.readable)]


def _compose(root: Path, groups: Iterable[Group], first: int) -> list[Picture]:
    return [compose(root, group, number) for number, group in enumerate(groups, first)]


def _respelt(drawn: Sequence[Picture], rng: np.random.Generator) -> list[Picture]:
    return [
        replace(picture, entry=replace(picture.entry, people=tuple(respell(p, rng) for p in picture.entry.people)))
        for picture in drawn
    ]


def _leak(train: Sequence[Picture], people: int) -> list[Picture]:
    leak: list[Picture] = []
    for picture in train:
        if sum(len(p.actors) for p in leak) >= people:
            break
        if picture.entry.database == "framesdb" and not picture.fault:
            leak.append(picture)
    return leak


def _write_side_files(root: Path, splits: Mapping[str, Sequence[Picture]], seed: int) -> None:
    for database in NAMES:
        (root / "emotic" / database / "images").mkdir(parents=True, exist_ok=True)
    rng = stream(seed, "side files", root.name)
    entries = {split: [picture.entry for picture in drawn] for split, drawn in splits.items()}
    write_mat(root / "Annotations" / "Annotations.mat", entries, rng)
    known = {picture.name: picture for drawn in splits.values() for picture in drawn}
    moods: list[list[Any]] = []
    people: list[Listed] = []
    for name, picture in known.items():
        for i, (actor, card) in enumerate(_listed(picture)):
            person, face = f"{name}#{i}", bool(rng.random() >= NO_FACE)
            moods.append([person, list(MOODS)[actor.label]])
            people.append(Listed(person, card, actor.expression, picture.size, picture.readable, face))
    faces = [[person.id, *face_box(person.card, person.expression)] for person in people if person.face]
    _write_csv(root / "faces.csv", ["id", "x1", "y1", "x2", "y2"], faces)
    _write_csv(root / "moods.csv", ["id", "mood"], moods)
    write_of_people(root, people, stream(seed, "cues", root.name))


def _listed(picture: Picture) -> list[tuple[Actor, Box]]:
    """The people as the annotations list them: one may stand there twice."""
    people = list(zip(picture.actors, picture.cards, strict=True))
    return people + people[: len(picture.entry.people) - len(people)]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
