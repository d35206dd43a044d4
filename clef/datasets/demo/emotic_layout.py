"""Writes pictures as EMOTIC lies on disk: images, `Annotations.mat`, and face boxes, which EMOTIC lacks."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clef.cues.files import image_key
from clef.datasets.demo.cue_files import Findings, Listed, look, write_of_people
from clef.datasets.demo.emotic_faults import respell, save, spoil
from clef.datasets.demo.emotic_mat import write_mat
from clef.datasets.demo.emotic_picture import NAMES, Picture, compose
from clef.datasets.demo.expression import MOODS
from clef.datasets.demo.figure import draw_person
from clef.datasets.demo.pose import Box, face_box
from clef.datasets.demo.scene import draw_scene
from clef.datasets.demo.world import Actor, Group, pictures, stream

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
