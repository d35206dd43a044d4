"""Writes shots in the layout of CAER-S, with the faults that copies of it have.

Sizes are (width, height), as in Pillow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from clef.cues.files import image_key
from clef.demo.cues import ImageCues, ListedPerson, find_image_cues, write_person_cues
from clef.demo.figure import card_height, draw_person, face_box, shift_box
from clef.demo.scenes import draw_scene
from clef.demo.world import EMOTION_SCENES, EMOTIONS, Actor, Group, prototypes, random_stream, sample_shots
from clef.geometry import Box, PixelBox

WIDTH, HEIGHT = 192, 108
MAX_PAN = 5
"""How far a shot's camera moves, in pixels; the scene is drawn that much larger on each side."""
DEFAULT_PEOPLE = 2800
CLASSES = tuple(EMOTIONS)
TRAIN_FAULTS = ("truncated", "duplicate", "duplicate", "no_face", "no_face", "no_row", "prefix", "prefix")
"""The faults in train, each in a frame of its own."""
OFF_FRAME = 0.03
"""The share of shots whose subject is cut by the frame's left edge: their boxes begin at negative coordinates."""


@dataclass(frozen=True)
class ShotFrame:
    """One image of a shot."""

    name: str
    """Class folder and file."""
    subject: Actor
    card: PixelBox
    """Where the subject's card is in the frame."""
    camera: tuple[int, int]
    """x and y of the frame in the drawn scene."""
    fault: str = ""


@dataclass(frozen=True)
class ShotJob:
    """Everything that is needed to draw one shot. The cards of bystanders are in pixels of the scene."""

    folder: Path
    scene: str
    seed: int
    bystanders: tuple[tuple[Actor, PixelBox], ...]
    frames: tuple[ShotFrame, ...]


def plan(root: Path, seed: int, strength: float, people: int) -> list[ShotJob]:
    """Lay out both roots, and write everything but the images and their cues. Returns the jobs for `draw`."""
    per_class = max(1, round(people / len(CLASSES)))
    per_class_test = max(1, round(0.3 * per_class))
    train = _add_faults(
        _plan_split(root / "main/train", sample_shots(seed, "train", per_class, strength)),
        random_stream(seed, "faults"),
    )
    test = _plan_split(root / "main/test", sample_shots(seed, "test", per_class_test, strength))
    # The layout has a train; the shifted root needs none, so one frame of each class stands for it.
    placeholder = _plan_split(root / "shift/train", sample_shots(seed, "shift/train", 1, 0.0))
    shifted = _plan_split(root / "shift/test", sample_shots(seed, "shift/test", per_class_test, 0.0))
    for jobs in (train, test, placeholder, shifted):
        _write_box_lists(jobs)
    for name, jobs in {"main": train + test, "shift": placeholder + shifted}.items():
        write_person_cues(root / name, _list_people(jobs), random_stream(seed, "cues", name))
    for stray in ("train/.DS_Store", "train/Sad/Thumbs.db", "test/Happy/.DS_Store"):
        (root / "main" / stray).write_bytes(b"\0\0\0\1Bud1")
    return train + test + placeholder + shifted


def draw(job: ShotJob) -> list[ImageCues]:
    """Draw and save a shot's frames, and return their cues. The scene is drawn once."""
    scene = draw_scene(job.scene, WIDTH + 2 * MAX_PAN, HEIGHT + 2 * MAX_PAN, job.seed)
    shapes = tuple(scene.shapes)
    for actor, card in job.bystanders:
        draw_person(scene, card, actor.expression, actor.look)
    for frame in job.frames:
        view = scene.window(*frame.camera, WIDTH, HEIGHT)
        draw_person(view, frame.card, frame.subject.expression, frame.subject.look)
        png = BytesIO()
        view.finish().save(png, "PNG", compress_level=4)
        content = png.getvalue()
        (job.folder / frame.name).write_bytes(content[: len(content) // 2] if frame.fault == "truncated" else content)
    return [_find_frame_cues(job, frame, shapes) for frame in job.frames]


def _plan_split(folder: Path, groups: Iterable[Group]) -> list[ShotJob]:
    """Make the class folders of a split, number its frames within each class, and return its shots."""
    counts = dict.fromkeys(range(len(CLASSES)), 0)
    jobs = []
    for group in groups:
        label = group.actors[0].label
        name = "Angry" if CLASSES[label] == "Anger" and folder.name == "train" else CLASSES[label]
        (folder / name).mkdir(parents=True, exist_ok=True)
        names = [f"{name}/{counts[label] + i:04d}.png" for i in range(1, len(group.actors) + 1)]
        counts[label] += len(names)
        jobs.append(_plan_shot(folder, group, names))
    return jobs


def _plan_shot(folder: Path, group: Group, names: list[str]) -> ShotJob:
    """Place the subject, the camera and the bystanders of a shot whose frames have these names."""
    rng = np.random.default_rng([group.seed, 3])
    width = int(rng.integers(46, 59))
    height = card_height(width)
    left = -int(width * 0.25) if rng.random() < OFF_FRAME else int(rng.integers(2, WIDTH - width - 1))
    home = shift_box((0, 0, width, height), left, int(rng.integers(2, HEIGHT - height - 1)))
    frames = []
    for name, actor in zip(names, group.actors, strict=True):
        x, y = (int(v) for v in rng.integers(-1, 2, 2))
        camera = (int(rng.integers(2 * MAX_PAN + 1)), int(rng.integers(2 * MAX_PAN + 1)))
        frames.append(ShotFrame(name, actor, shift_box(home, x, y), camera))
    kind = list(EMOTION_SCENES.values())[group.scene]
    return ShotJob(folder, kind, group.seed, tuple(_place_bystanders(rng, home)), tuple(frames))


def _place_bystanders(rng: np.random.Generator, subject: PixelBox) -> Iterable[tuple[Actor, PixelBox]]:
    """Yield people beside the subject who show any expression, in scene pixels; none where there is no room."""
    table = prototypes(EMOTIONS)
    for start, end in ((MAX_PAN, subject[0] - MAX_PAN), (subject[2] + 3 * MAX_PAN, WIDTH)):
        width = int(rng.integers(28, 37))
        if rng.random() < 0.3 and end - start > width:
            left = int(rng.integers(start, end - width))
            top = int(rng.integers(HEIGHT // 3, HEIGHT + MAX_PAN - card_height(width)))
            label = int(rng.integers(len(table)))
            shown = tuple(map(float, table[label] + rng.normal(0, 0.15, table.shape[1])))
            card = (left, top, left + width, top + card_height(width))
            yield Actor(label, shown, int(rng.integers(2**31))), card


def _add_faults(jobs: list[ShotJob], rng: np.random.Generator) -> list[ShotJob]:
    """Give each fault a frame of its own; a duplicate repeats the frame before it in its shot."""
    jobs = list(jobs)
    with_two = [i for i, job in enumerate(jobs) if len(job.frames) > 1]
    for i, fault in zip(rng.permutation(with_two)[: len(TRAIN_FAULTS)], TRAIN_FAULTS, strict=True):
        first, second, *rest = jobs[i].frames
        changed = replace(first, name=second.name) if fault == "duplicate" else replace(second, fault=fault)
        jobs[i] = replace(jobs[i], frames=(first, changed, *rest))
    return jobs


def _find_frame_cues(job: ShotJob, frame: ShotFrame, shapes: Iterable[Box]) -> ImageCues:
    """Return the cues of a frame. `shapes` are in pixels of the scene."""
    x, y = frame.camera
    people = [shift_box(card, -x, -y) for _, card in job.bystanders] + [frame.card]
    shifted = [(x1 - x, y1 - y, x2 - x, y2 - y) for x1, y1, x2, y2 in shapes]
    root = job.folder.parent
    key = image_key(root, job.folder / frame.name)
    return find_image_cues(root, key, people, shifted, (WIDTH, HEIGHT), frame.fault != "truncated")


def _list_people(jobs: Iterable[ShotJob]) -> list[ListedPerson]:
    """Return the subject of each frame."""
    return [
        ListedPerson(
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


def _write_box_lists(jobs: list[ShotJob]) -> None:
    """Write a split's list of face boxes and its list of person boxes."""
    faces, persons = [], []
    for job in jobs:
        for frame in job.frames:
            if frame.fault == "no_row":
                continue
            path = f"{job.folder.name}/{frame.name}" if frame.fault == "prefix" else frame.name
            face = face_box(frame.card, frame.subject.expression) if frame.fault != "no_face" else (0, 0, 0, 0)
            faces.append(_box_row(path, frame.subject.label, face))
            persons.append(_box_row(path, frame.subject.label, frame.card))
    split = jobs[0].folder
    split.with_name(f"{split.name}.txt").write_text("".join(faces), encoding="utf-8")
    split.with_name(f"{split.name}_person.txt").write_text("".join(persons), encoding="utf-8")


def _box_row(path: str, label: int, box: PixelBox) -> str:
    return f"{path},{label},{','.join(map(str, box))}\n"
