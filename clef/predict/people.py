"""From an image to a batch that a cell can read: who is in it, their cues, and the samples as shards would hold them.

Boxes and cues are given by the user or found by the extractors (docs/cues.md). The samples are rendered as for shards,
but kept in memory, and read from there as a cell reads a split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import clef
from clef.config import CellConfig, InputName
from clef.console import err
from clef.cues.detectors import FasterRcnnPerson
from clef.cues.extractor import Extractor, ExtractorSettings, find_extractor
from clef.cues.files import CueName
from clef.cues.run import as_stored
from clef.cues.view import UnreadableImage, read_turned
from clef.data.dataset import CellDataset
from clef.data.loader import Batch, BatchLoader
from clef.data.manifest import FORMAT, Manifest
from clef.data.shards import SplitShards
from clef.datasets.cards import Card
from clef.datasets.person import Cues, Person
from clef.datasets.policies import describe
from clef.errors import DataError, SetupError
from clef.geometry import Box, best_person, clip
from clef.sharding.box_policy import Unusable
from clef.sharding.render import Sample, render

_CUE_OF_INPUT: dict[InputName, CueName] = {
    "face": "face",
    "scene_without_face": "face",
    "scene_without_extended_face": "face",
    "landmarks": "landmarks",
    "pose": "pose",
    "regions": "regions",
    "depth": "depth",
    "scene_without_person": "person",
}
"""The cue that an input needs. The face comes first because it guides landmarks and pose."""


@dataclass(frozen=True)
class GivenBoxes:
    """The boxes of the subject and of its face that the user gives, in pixels of the image; None: to be found."""

    box: Box | None = None
    face: Box | None = None


class PersonFinder:
    """Finds the people of an image and their cues, with the extractors that a cell needs.

    Raises SetupError when it is constructed, before anything is computed, if an extractor lacks its package or weights.
    """

    def __init__(self, config: CellConfig, given: GivenBoxes, device: str = "cpu") -> None:
        needed = dict.fromkeys(cue for name, cue in _CUE_OF_INPUT.items() if name in config.inputs.present)
        if given.face:
            needed.pop("face", None)
        settings = ExtractorSettings(device=device)
        detects = not given.box or ("agents" in config.inputs.present and _detector_is_ready(settings))
        classes = {cue: find_extractor(cue) for cue in needed} | ({"person": FasterRcnnPerson} if detects else {})
        _check_requirements(classes, settings)
        self.given = given
        self.detector = FasterRcnnPerson(settings) if detects else None
        self.extractors: dict[CueName, Extractor] = {cue: classes[cue](settings) for cue in needed}

    def find_people(self, image: Path, label: str, folder: Path) -> list[Person]:
        """Return everyone in the image, or the one whose box is given. A depth map is written into `folder`.

        Nobody's label is known, so `label` stands for it. Raises DataError for an image that can't be read or shows
        nobody.
        """
        try:
            frame, orientation = read_turned(image)
        except UnreadableImage as reason:
            raise DataError(f"{image}: {reason}") from None
        detected = self.detector.find_people(frame) if self.detector else []
        boxes = [self.given.box, *_others_than_subject(self.given, detected)] if self.given.box else detected
        if not boxes:
            raise DataError(f"{image}: no person found; say where one is with --box x1,y1,x2,y2")
        subjects = 1 if self.given.box else len(boxes)
        people = [self._person(frame, image, boxes, index, label) for index in range(subjects)]
        return [_with_stored_cues(person, orientation, frame, folder) for person in people]

    def _person(self, frame: np.ndarray, image: Path, boxes: Sequence[Box], index: int, label: str) -> Person:
        """Return the person at `index` of the boxes, with the cues that the extractors find."""
        box, face = boxes[index], self.given.face
        values: dict[str, Any] = {}
        for cue, extractor in self.extractors.items():
            values[cue] = extractor.find(frame, self._search_box(frame, box, extractor), face)
            face = face or values.get("face")
        values.pop("face", None)  # it is the person's own, not a cue
        others = tuple(boxes[:index]) + tuple(boxes[index + 1 :])
        return Person(f"{image}#{index}", image, box, (label,), face, cues=Cues(others=others, **values))

    @staticmethod
    def _search_box(frame: np.ndarray, box: Box, extractor: Extractor) -> Box:
        """Return where an extractor looks: in the part of the box inside the frame, or in the whole frame."""
        height, width = frame.shape[:2]
        whole = (0.0, 0.0, float(width), float(height))
        return (clip(box, (height, width)) or whole) if extractor.scope == "person" else whole


def _detector_is_ready(settings: ExtractorSettings) -> bool:
    """Return whether the detector can be used; if not, print that the other people of the image can't be found."""
    if fault := FasterRcnnPerson.missing(settings):
        note = f"note: this cell also reads the other people in the image, but they can't be found: {fault}"
        err.print(note, markup=False, soft_wrap=True)
    return not fault


def _others_than_subject(given: GivenBoxes, detected: Sequence[Box]) -> list[Box]:
    """Return the detected people except for the subject, whose box is given."""
    subject = best_person(detected, given.box, given.face) if given.box else None
    return [box for box in detected if box != subject]


def _check_requirements(classes: Mapping[CueName, type[Extractor]], settings: ExtractorSettings) -> None:
    """Raise SetupError if extractors can't be used: it names everything that is missing, and what to do instead."""
    missing = {cue: fault for cue, extractor in classes.items() if (fault := extractor.missing(settings))}
    if missing:
        given = {"person": "--box x1,y1,x2,y2", "face": "--face x1,y1,x2,y2"}
        lines = [f"{cue} by {classes[cue].name}: {fault}" for cue, fault in missing.items()]
        instead = [f"; or give it with {given[cue]}" if cue in given else "" for cue in missing]
        raise SetupError("\n".join(line + end for line, end in zip(lines, instead, strict=True)))


def _with_stored_cues(person: Person, orientation: int, frame: np.ndarray, folder: Path) -> Person:
    """Return the person with cues as cue files have them: in pixels of the stored image, depth as a file."""
    names: tuple[CueName, ...] = ("person", "landmarks", "pose", "regions", "depth")
    found: dict[str, Any] = {name: as_stored(name, getattr(person.cues, name), orientation, frame) for name in names}
    if found["depth"] is not None:
        Image.fromarray(found["depth"]).save(folder / "depth.png")
        found["depth"] = folder / "depth.png"
    return replace(person, cues=replace(person.cues, **found))


def make_batch(people: Sequence[Person], card: Card, config: CellConfig) -> Batch:
    """Return the people as one batch of the cell, in order. Raises DataError where a box or image can't be used.

    Their boxes are in pixels of the image as every viewer shows it, turned as its EXIF data says.
    """
    policies = card.policies.model_copy(update={"image_rotated": "turned"})
    card = card.model_copy(update={"policies": policies})
    shards = InMemorySplit(card, [_render_sample(person, card) for person in people])
    dataset = CellDataset(shards, config.inputs.present, config.seed, augment=False)
    (batch,) = BatchLoader(dataset, [[(0, index) for index in range(len(shards))]], 0)
    return batch


def _render_sample(person: Person, card: Card) -> Sample:
    try:
        return render(person, card, "predict")
    except Unusable as rule:
        raise DataError(f"{person.image}: {describe(str(rule))}") from None


class InMemorySplit(SplitShards):
    """A split whose samples are in memory, with the interface of one in files."""

    def __init__(self, card: Card, samples: Sequence[Sample]) -> None:
        self.root, self.name, self.samples = Path(card.name), "predict", samples
        self.manifest = Manifest(
            format=FORMAT, dataset=card.name, task=card.task, classes=list(card.classes), vad=card.vad, source="",
            protocol=card.protocol, policies=card.policies.model_dump(), samples_per_shard=len(samples),
            tool=f"clef {clef.__version__}", splits={},
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int, kind: str) -> bytes | None:
        """Return the bytes of a sample's member, or None when it has no such member."""
        return self.samples[index].members.get(kind)

    def key(self, index: int) -> str:
        """Return the sample's number as its key."""
        return str(index)
