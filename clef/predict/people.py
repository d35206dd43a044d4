"""Who is in an image, and the cues of each that a cell reads: given, or found by the extractors (docs/cues.md).

People stored as shards store them, but in memory, and read from there as a cell reads a split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import clef
from clef.config import CellConfig, InputName
from clef.console import err
from clef.cues.detectors import FasterRcnnPerson
from clef.cues.extractor import Extractor, Settings, find_class
from clef.cues.files import CueName
from clef.cues.view import Unreadable, read
from clef.data.dataset import CellDataset
from clef.data.loader import Batch, loader
from clef.data.manifest import FORMAT, Manifest
from clef.data.shards import SplitShards
from clef.datasets.cards import Card
from clef.datasets.person import Box, Cues, Person
from clef.datasets.policies import describe
from clef.errors import DataError, SetupError
from clef.geometry import best_person, inside
from clef.sharding.box_policy import Unusable
from clef.sharding.render import Sample, render

_CUE: dict[InputName, CueName] = {
    "face": "face",
    "scene_without_face": "face",
    "scene_without_extended_face": "face",
    "landmarks": "landmarks",
    "pose": "pose",
    "regions": "regions",
    "depth": "depth",
    "scene_without_person": "person",
}
"""What must be found for an input; the face first, which guides landmarks and pose."""


@dataclass(frozen=True)
class Given:
    """What the user says of the subjects, in pixels of the image."""

    box: Box | None = None
    face: Box | None = None


class Finder:
    """The extractors that a cell needs. SetupError, before anything is computed, where one lacks package or weights."""

    def __init__(self, config: CellConfig, given: Given, device: str = "cpu") -> None:
        needed = dict.fromkeys(cue for name, cue in _CUE.items() if name in config.inputs.present)
        if given.face:
            needed.pop("face", None)
        settings = Settings(device=device)
        detects = not given.box or ("agents" in config.inputs.present and _can_see_others(settings))
        classes = {cue: find_class(cue) for cue in needed} | ({"person": FasterRcnnPerson} if detects else {})
        _check(classes, settings)
        self.given = given
        self.detector = FasterRcnnPerson(settings) if detects else None
        self.extractors: dict[CueName, Extractor] = {cue: classes[cue](settings) for cue in needed}

    def people(self, image: Path, label: str, folder: Path) -> list[Person]:
        """Everyone, or the one whose box is given, called by number. A depth map is put into `folder`.

        `label` stands for the one that is not known. DataError for an image that can't be read or shows nobody.
        """
        try:
            frame = read(image)
        except Unreadable as fault:
            raise DataError(f"{image}: {fault}") from None
        found = self.detector.people(frame) if self.detector else []
        boxes = [self.given.box, *_without(self.given, found)] if self.given.box else found
        if not boxes:
            raise DataError(f"{image}: no person found; say where one is with --box x1,y1,x2,y2")
        subjects = 1 if self.given.box else len(boxes)
        return [self._person(frame, image, boxes, number, label, folder) for number in range(subjects)]

    def _person(
        self, frame: np.ndarray, image: Path, boxes: Sequence[Box], number: int, label: str, folder: Path
    ) -> Person:
        box, face = boxes[number], self.given.face
        values: dict[str, Any] = {}
        for cue, extractor in self.extractors.items():
            values[cue] = extractor.find(frame, self._looked_at(frame, box, extractor), face)
            face = face or values.get("face")
        if values.get("depth") is not None:
            values["depth"] = _saved(values["depth"], folder / "depth.png")
        values.pop("face", None)
        others = tuple(boxes[:number]) + tuple(boxes[number + 1 :])
        return Person(f"{image}#{number}", image, box, (label,), face, cues=Cues(others=others, **values))

    @staticmethod
    def _looked_at(frame: np.ndarray, box: Box, extractor: Extractor) -> Box:
        height, width = frame.shape[:2]
        whole = (0.0, 0.0, float(width), float(height))
        return (inside(box, width, height) or whole) if extractor.scope == "person" else whole


def _can_see_others(settings: Settings) -> bool:
    """Whether the detector is here. Where it isn't, it is said that the subject will be the graph's only agent."""
    if fault := FasterRcnnPerson.missing(settings):
        note = f"note: this cell reads the others in the image too, who can't be found: {fault}"
        err.print(note, markup=False, soft_wrap=True)
    return not fault


def _without(given: Given, found: Sequence[Box]) -> list[Box]:
    """The people found but for the subject."""
    subject = best_person(found, given.box, given.face) if given.box else None
    return [box for box in found if box != subject]


def _check(classes: Mapping[CueName, type[Extractor]], settings: Settings) -> None:
    """Name all that is missing at once, and what to do without it."""
    missing = {cue: fault for cue, one in classes.items() if (fault := one.missing(settings))}
    if missing:
        given = {"person": "--box x1,y1,x2,y2", "face": "--face x1,y1,x2,y2"}
        lines = [f"{cue} by {classes[cue].name}: {fault}" for cue, fault in missing.items()]
        instead = [f"; or give it with {given[cue]}" if cue in given else "" for cue in missing]
        raise SetupError("\n".join(line + end for line, end in zip(lines, instead, strict=True)))


def _saved(depth: np.ndarray, path: Path) -> Path:
    Image.fromarray(depth).save(path)
    return path


class Rendered(SplitShards):
    """A split of people that lies in no file."""

    def __init__(self, card: Card, samples: Sequence[Sample]) -> None:
        self.root, self.name, self.samples = Path(card.name), "predict", samples
        self.manifest = Manifest(
            format=FORMAT, dataset=card.name, task=card.task, classes=list(card.classes), vad=card.vad, source="",
            protocol=card.protocol, policies=card.policies.model_dump(), samples_per_shard=len(samples),
            tool=f"clef {clef.__version__}", splits={},
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, place: int, kind: str) -> bytes | None:
        """The bytes of a member, or None."""
        return self.samples[place].members.get(kind)

    def key(self, place: int) -> str:
        """Its number."""
        return str(place)


def batch_of(people: Sequence[Person], card: Card, config: CellConfig) -> Batch:
    """The people as a batch of the cell, in order. DataError where a box or image can't be used."""
    shards = Rendered(card, [_sample(person, card) for person in people])
    dataset = CellDataset(shards, config.inputs.present, config.seed, augment=False)
    (batch,) = loader(dataset, [[(0, place) for place in range(len(shards))]], 0)
    return batch


def _sample(person: Person, card: Card) -> Sample:
    try:
        return render(person, card, "predict")
    except Unusable as rule:
        raise DataError(f"{person.image}: {describe(str(rule))}") from None
