"""Writes shots as CAER-S lies on disk, with the faults that copies of it have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from clef.cues.files import image_key
from clef.demo.cues import Findings, Listed, look, write_of_people
from clef.demo.figure import Box, card_height, draw_person, face_box, moved
from clef.demo.pen import Extent
from clef.demo.scenes import draw_scene
from clef.demo.world import EMOTION_SCENES, EMOTIONS, Actor, Group, prototypes, shots, stream

WIDTH, HEIGHT = 192, 108
PAN = 5
"""How far a shot's camera strays, in pixels; the scene is drawn that much larger on each side."""
PEOPLE = 2800
CLASSES = tuple(EMOTIONS)
FAULTS = ("truncated", "duplicate", "duplicate", "no_face", "no_face", "no_row", "prefix", "prefix")
"""What goes wrong in train, each in a frame of its own."""
OFF_FRAME = 0.03
"""Share of shots whose subject is cut by the frame's left edge: their boxes begin at negative coordinates."""


@dataclass(frozen=True)
class Frame:
    """One image: its place in the layout, its subject, and where the camera stands."""

    name: str
    subject: Actor
    card: Box
    camera: tuple[int, int]
    fault: str = ""


@dataclass(frozen=True)
class ShotJob:
    """All that it takes to draw one shot."""

    folder: Path
    scene: str
    seed: int
    bystanders: tuple[tuple[Actor, Box], ...]
    frames: tuple[Frame, ...]


def plan(root: Path, seed: int, strength: float, people: int) -> list[ShotJob]:
    """Lay out both roots and write their box lists; the jobs returned draw the images."""
    many = max(1, round(people / len(CLASSES)))
    few = max(1, round(0.3 * many))
    train = _spoiled(_split(root / "main/train", shots(seed, "train", many, strength)), stream(seed, "faults"))
    test = _split(root / "main/test", shots(seed, "test", few, strength))
    token = _split(root / "shift/train", shots(seed, "shift/train", 1, 0.0))
    shifted = _split(root / "shift/test", shots(seed, "shift/test", few, 0.0))
    for jobs in (train, test, token, shifted):
        _write_boxes(jobs)
    for place, jobs in {"main": train + test, "shift": token + shifted}.items():
        write_of_people(root / place, _listed(jobs), stream(seed, "cues", place))
    for stray in ("train/.DS_Store", "train/Sad/Thumbs.db", "test/Happy/.DS_Store"):
        (root / "main" / stray).write_bytes(b"\0\0\0\1Bud1")
    return train + test + token + shifted


def draw(job: ShotJob) -> list[Findings]:
    """Draw a shot's frames, and look what there is in them; the scene is drawn once."""
    place = draw_scene(job.scene, WIDTH + 2 * PAN, HEIGHT + 2 * PAN, job.seed)
    shapes = tuple(place.shapes)
    for actor, card in job.bystanders:
        draw_person(place, card, actor.expression, actor.look)
    for frame in job.frames:
        view = place.window(*frame.camera, WIDTH, HEIGHT)
        draw_person(view, frame.card, frame.subject.expression, frame.subject.look)
        png = BytesIO()
        view.finish().save(png, "PNG", compress_level=4)
        content = png.getvalue()
        (job.folder / frame.name).write_bytes(content[: len(content) // 2] if frame.fault == "truncated" else content)
    return [_look(job, frame, shapes) for frame in job.frames]


def _split(folder: Path, groups: Iterable[Group]) -> list[ShotJob]:
    counts = dict.fromkeys(range(len(CLASSES)), 0)
    jobs = []
    for group in groups:
        label = group.actors[0].label
        name = "Angry" if CLASSES[label] == "Anger" and folder.name == "train" else CLASSES[label]
        (folder / name).mkdir(parents=True, exist_ok=True)
        names = [f"{name}/{counts[label] + i:04d}.png" for i in range(1, len(group.actors) + 1)]
        counts[label] += len(names)
        jobs.append(_shot(folder, group, names))
    return jobs


def _shot(folder: Path, group: Group, names: list[str]) -> ShotJob:
    rng = np.random.default_rng([group.seed, 3])
    width = int(rng.integers(46, 59))
    tall = card_height(width)
    left = -int(width * 0.25) if rng.random() < OFF_FRAME else int(rng.integers(2, WIDTH - width - 1))
    home = moved((0, 0, width, tall), left, int(rng.integers(2, HEIGHT - tall - 1)))
    frames = []
    for name, actor in zip(names, group.actors, strict=True):
        x, y = (int(v) for v in rng.integers(-1, 2, 2))
        camera = (int(rng.integers(2 * PAN + 1)), int(rng.integers(2 * PAN + 1)))
        frames.append(Frame(name, actor, moved(home, x, y), camera))
    kind = list(EMOTION_SCENES.values())[group.scene]
    return ShotJob(folder, kind, group.seed, tuple(_bystanders(rng, home)), tuple(frames))


def _bystanders(rng: np.random.Generator, subject: Box) -> Iterable[tuple[Actor, Box]]:
    """People beside the subject who show whatever they like, in scene pixels; none where there is no room."""
    table = prototypes(EMOTIONS)
    for start, end in ((PAN, subject[0] - PAN), (subject[2] + 3 * PAN, WIDTH)):
        width = int(rng.integers(28, 37))
        if rng.random() < 0.3 and end - start > width:
            left = int(rng.integers(start, end - width))
            top = int(rng.integers(HEIGHT // 3, HEIGHT + PAN - card_height(width)))
            label = int(rng.integers(len(table)))
            shown = tuple(map(float, table[label] + rng.normal(0, 0.15, table.shape[1])))
            card = (left, top, left + width, top + card_height(width))
            yield Actor(label, shown, int(rng.integers(2**31))), card


def _spoiled(jobs: list[ShotJob], rng: np.random.Generator) -> list[ShotJob]:
    """Give each fault a frame; a duplicate repeats the frame before it in its shot."""
    jobs = list(jobs)
    able = [i for i, job in enumerate(jobs) if len(job.frames) > 1]
    for i, fault in zip(rng.permutation(able)[: len(FAULTS)], FAULTS, strict=True):
        first, second, *rest = jobs[i].frames
        changed = replace(first, name=second.name) if fault == "duplicate" else replace(second, fault=fault)
        jobs[i] = replace(jobs[i], frames=(first, changed, *rest))
    return jobs


def _look(job: ShotJob, frame: Frame, shapes: Iterable[Extent]) -> Findings:
    x, y = frame.camera
    people = [moved(card, -x, -y) for _, card in job.bystanders] + [frame.card]
    seen = [(x1 - x, y1 - y, x2 - x, y2 - y) for x1, y1, x2, y2 in shapes]
    root = job.folder.parent
    key = image_key(root, job.folder / frame.name)
    return look(root, key, people, seen, (WIDTH, HEIGHT), frame.fault != "truncated")


def _listed(jobs: Iterable[ShotJob]) -> list[Listed]:
    return [
        Listed(
            f"{job.folder.name}/{frame.name}",
            frame.card,
            frame.subject.expression,
            (WIDTH, HEIGHT),
            readable=frame.fault != "truncated",
            face=frame.fault not in ("no_face", "no_row"),
        )
        for job in jobs
        for frame in job.frames
    ]


def _write_boxes(jobs: list[ShotJob]) -> None:
    faces, persons = [], []
    for job in jobs:
        for frame in job.frames:
            if frame.fault == "no_row":
                continue
            path = f"{job.folder.name}/{frame.name}" if frame.fault == "prefix" else frame.name
            face = face_box(frame.card, frame.subject.expression) if frame.fault != "no_face" else (0, 0, 0, 0)
            faces.append(_row(path, frame.subject.label, face))
            persons.append(_row(path, frame.subject.label, frame.card))
    split = jobs[0].folder
    split.with_name(f"{split.name}.txt").write_text("".join(faces), encoding="utf-8")
    split.with_name(f"{split.name}_person.txt").write_text("".join(persons), encoding="utf-8")


def _row(path: str, label: int, box: Box) -> str:
    return f"{path},{label},{','.join(map(str, box))}\n"
