"""From an image to a batch that a cell can read: who is in it, their cues, and the samples as shards would hold them.

Boxes and cues are given by the user or found by the extractors (docs/cues.md). The samples are rendered as for shards,
but kept in memory, and read from there as a cell reads a split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import clef
from clef.config import CellConfig, InputName
from clef.console import err
from clef.cues.detectors import FasterRcnnPerson
from clef.cues.extractor import EXTRACTORS, Extractor, ExtractorSettings, find_extractor
from clef.cues.files import PERSON_CUES, CueFile, CueName, cue_key, with_cues
from clef.cues.own_images import person_id
from clef.cues.run import as_stored
from clef.cues.view import UnreadableImage, read_turned
from clef.data.dataset import evaluated_dataset
from clef.data.loader import Batch, BatchLoader
from clef.data.manifest import FORMAT, Manifest
from clef.data.shards import SplitShards
from clef.datasets.cards import Card
from clef.datasets.orientation import turn_person
from clef.datasets.person import Person
from clef.datasets.policies import describe
from clef.errors import ConfigError, DataError, SetupError
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
class CueSources:
    """Where cues come from that the user doesn't leave to the usual extractors."""

    files: tuple[CueFile, ...] = ()
    """Cue files, which go before extractors."""
    extractors: Mapping[CueName, str] = field(default_factory=dict)
    """The extractor of a cue, as `--extractor` names it; by default the cue's first."""
    weights: Mapping[CueName, Path] = field(default_factory=dict)
    """The weights file of a cue's extractor; by default the usual one."""


class PersonFinder:
    """Finds the people of images and their cues, with the extractors that a cell needs.

    Args:
        config: the cell's config.
        given: all people whose boxes the user gives; nobody: those whom the detector finds are the subjects.
        sources: cue files and extractors that the user names.
        root: the folder from which the keys of cue files count.
        device: auto (a GPU where there is one) or cpu.

    Raises SetupError, before anything is computed, if an extractor lacks its package or weights, and ConfigError for
    cue files of people who are only found later.
    """

    def __init__(
        self,
        config: CellConfig,
        given: Sequence[Person],
        sources: CueSources = CueSources(),
        root: Path = Path(),
        device: str = "cpu",
    ) -> None:
        needed = dict.fromkeys(cue for name, cue in _CUE_OF_INPUT.items() if name in config.inputs.present)
        self.root = root
        self.files = [file for file in sources.files if file.cue in needed]
        if not given and any(file.cue in PERSON_CUES for file in self.files):
            raise ConfigError("--cues: say with --box (or --boxes) to whom they belong")
        for cue in [file.cue for file in self.files]:
            del needed[cue]
        if given and all(person.face for person in given):
            needed.pop("face", None)
        usual = ExtractorSettings(device=device)
        detects = not given or ("agents" in config.inputs.present and _detector_is_ready(usual))
        classes = {cue: find_extractor(cue, sources.extractors.get(cue)) for cue in needed}
        settings = {cue: ExtractorSettings(sources.weights.get(cue), device) for cue in needed}
        _check_requirements(classes, settings, detects)
        self.detector = FasterRcnnPerson(usual) if detects else None
        self.extractors: dict[CueName, Extractor] = {cue: classes[cue](settings[cue]) for cue in needed}

    def find_people(self, image: Path, given: Sequence[Person], folder: Path) -> list[Person]:
        """Return the people given for an image with their cues, or everyone in it whom the detector finds.

        A depth map is written into `folder`, which must be another for each image. Raises DataError for an image that
        can't be read or shows nobody, and for a person of whom a cue file has no line.
        """
        try:
            frame, orientation = read_turned(image)
        except UnreadableImage as reason:
            raise DataError(f"{image}: {reason}") from None
        detected = self.detector.find_people(frame) if self.detector else []
        subjects = given or [Person(person_id(image.name, box), image, box, ()) for box in detected]
        if not subjects:
            raise DataError(f"{image}: no person found; say where one is with --box x1,y1,x2,y2")
        bystanders = _bystanders(given, detected) if given else []
        people = []
        for person in with_cues(subjects, self.root, self.files):
            others = [*(other.box for other in subjects if other.box and other.box != person.box), *bystanders]
            self._check_lines(person)
            person = replace(person, cues=replace(person.cues, others=tuple(others)))
            people.append(self._find_cues(person, frame, orientation, folder))
        return people

    def _check_lines(self, person: Person) -> None:
        """Raise DataError for a person of whom a cue file has no line: nobody looked for their cue."""
        for file in self.files:
            key = cue_key(file, person, self.root)
            if key not in file.values:
                some = next(iter(file.values), "nothing")
                raise DataError(f"{person.image}: {file.path} has no line of {key!r}; one that it has is {some!r}")

    def _find_cues(self, person: Person, frame: np.ndarray, orientation: int, folder: Path) -> Person:
        """Return the person with the cues that the extractors find, in pixels of the stored image as in cue files."""
        turned = turn_person(person, orientation, frame.shape[:2], "turned")
        assert turned.box
        face, found = turned.face, dict[str, Any]()
        for cue, extractor in self.extractors.items():
            value = extractor.find(frame, self._search_box(frame, turned.box, extractor), face)
            if cue == "face":
                face = face or value
            else:
                found[cue] = as_stored(cue, value, orientation, frame)
        if found.get("depth") is not None:
            Image.fromarray(found["depth"]).save(folder / "depth.png")
            found["depth"] = folder / "depth.png"
        return replace(person, face=person.face or face, cues=replace(person.cues, **found))

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


def _bystanders(given: Sequence[Person], detected: Sequence[Box]) -> list[Box]:
    """Return the detected people who are none of those whose boxes are given."""
    subjects = [best_person(detected, person.box, person.face) for person in given if person.box]
    return [box for box in detected if box not in subjects]


def _check_requirements(
    classes: Mapping[CueName, type[Extractor]], settings: Mapping[CueName, ExtractorSettings], detects: bool
) -> None:
    """Raise SetupError if extractors can't be used: it names everything that is missing, and what to do instead."""
    missing = {cue: (classes[cue].name, fault) for cue in classes if (fault := classes[cue].missing(settings[cue]))}
    lines = [f"{cue} by {name}: {fault}; {_instead(cue, name)}" for cue, (name, fault) in missing.items()]
    if detects and (fault := FasterRcnnPerson.missing()):
        lines.append(f"person by {FasterRcnnPerson.name}: {fault}; or give it with --box x1,y1,x2,y2")
    if lines:
        raise SetupError("\n".join(lines))


def _instead(cue: CueName, name: str) -> str:
    """Return what to do where an extractor can't be used."""
    others = [other for other in EXTRACTORS[cue] if other != name]
    ways = [f"choose another with --extractor {cue}={'|'.join(others)}"] if others else []
    ways += ["give it with --face x1,y1,x2,y2"] if cue == "face" else []
    return f"or {', or '.join([*ways, 'give it in a cue file with --cues (docs/cues.md#images-of-your-own)'])}"


def make_batch(people: Sequence[Person], config: CellConfig) -> Batch:
    """Return the people as one batch of the cell, in order. Raises DataError where a box or image can't be used.

    Their boxes are in pixels of the image as every viewer shows it, turned as its EXIF data says.
    """
    policies = config.card.policies.model_copy(update={"image_rotated": "turned"})
    card = config.card.model_copy(update={"policies": policies})
    # Nobody's label is known, and the loader wants one.
    labeled = [replace(person, labels=card.classes[:1]) for person in people]
    shards = InMemorySplit(card, [_render_sample(person, card) for person in labeled])
    dataset = evaluated_dataset(config, shards)
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
