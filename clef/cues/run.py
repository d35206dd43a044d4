"""Run an extractor over the people or images of one root of a dataset, and write the cue file.

Lines are only ever added to a cue file, so a run that was killed continues where it stopped.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from clef import geometry, io
from clef.cues import files as cue_files
from clef.cues.extractor import Extractor
from clef.cues.files import CueName, ambiguous_ids, with_cues
from clef.cues.view import UnreadableImage, read_turned
from clef.datasets.orientation import turn_image, turn_person, turn_value
from clef.datasets.person import Person
from clef.datasets.policies import Policies
from clef.errors import DataError
from clef.geometry import Box

ProgressCallback = Callable[[int, int], None]
"""Called with the number of keys that are done, and of all keys."""
DEFAULT_POLICIES = Policies()
SAME_SUBJECT_IOU = 0.6
"""Two findings of one image that overlap by more are taken for one and the same face or body."""


@dataclass
class ExtractionSummary:
    """How many keys of a root there are, and what became of them."""

    keys: int = 0
    found: int = 0
    """Keys with a value, those of earlier runs included."""
    not_found: int = 0
    not_tried: int = 0
    """Keys that were not looked at because the limit came first."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Images that could not be read, and why. Their keys get no line, and are tried again next time."""
    notes: Counter[str] = field(default_factory=Counter)


def extract_cue(
    extractor: Extractor,
    people: Sequence[Person],
    source: Path,
    out: Path,
    limit: int | None = None,
    progress: ProgressCallback | None = None,
    policies: Policies = DEFAULT_POLICIES,
) -> ExtractionSummary:
    """Write `out`/cues/<cue>.jsonl for the people of `source`, or continue it.

    No new image is begun once `limit` keys have been added. The extractor is given the face box that the dataset has,
    or else the one in `out`/cues/face.jsonl. It looks at images turned as EXIF says (`policies`: which of the two the
    people's boxes refer to), and what it finds is written in pixels of the image as stored.
    """
    summary = ExtractionSummary()
    path = cue_files.cue_path(out, extractor.cue)
    subjects_by_image = _group_by_image(extractor, people, source, out, summary)
    summary.keys = sum(map(len, subjects_by_image.values()))
    done = 0
    with open_journal(path, extractor.cue, extractor.name, extractor.version) as journal:
        added = 0
        for image, subjects in subjects_by_image.items():
            missing = {key: person for key, person in subjects.items() if key not in journal.values}
            if missing and (limit is None or added < limit):
                added += _extract_image(extractor, image, missing, subjects, journal, path.parent, summary, policies)
            done += len(subjects)
            if progress:
                progress(done, summary.keys)
        _count_outcomes(summary, subjects_by_image, journal)
    return summary


def _group_by_image(
    extractor: Extractor, people: Sequence[Person], source: Path, out: Path, summary: ExtractionSummary
) -> dict[Path, dict[str, Person]]:
    """Return for each image the keys to look for, and whose they are (of an image's cue: any person in it)."""
    if extractor.scope == "image":
        return {person.image: {cue_files.image_key(source, person.image): person} for person in people}
    ambiguous = ambiguous_ids(people)
    if ambiguous:
        summary.notes["ids that several subjects share, left out"] = len(ambiguous)
    faces = cue_files.cue_path(out, "face")
    if extractor.cue != "face" and faces.is_file():
        people = with_cues(people, source, [cue_files.read_cue_file(faces)])
    subjects_by_image: dict[Path, dict[str, Person]] = {}
    for person in people:
        if person.id not in ambiguous:
            subjects_by_image.setdefault(person.image, {})[person.id] = person
    return subjects_by_image


def _extract_image(
    extractor: Extractor,
    image: Path,
    missing: dict[str, Person],
    subjects: dict[str, Person],
    journal: Journal,
    folder: Path,
    summary: ExtractionSummary,
    policies: Policies,
) -> int:
    """Find the cue of the people `missing` in the file, among all `subjects` of the image. Returns the keys added."""
    try:
        frame, orientation = read_turned(image)
    except UnreadableImage as reason:
        summary.unreadable[str(image)] = str(reason)
        return 0
    if orientation != 1 and extractor.scope == "person":
        policies.check("image_rotated", str(image))
    turned = {
        key: turn_person(person, orientation, frame.shape[:2], policies.image_rotated)
        for key, person in subjects.items()
    }
    findings = {key: _find_in_frame(extractor, frame, turned[key]) for key in missing}
    if extractor.scope == "person":
        stored = geometry.turned_size(frame.shape[:2], orientation)
        earlier = {
            key: turn_value(journal.values[key], orientation, stored)
            for key in subjects
            if journal.values.get(key) is not None
        }
        dropped = _drop_duplicates(findings, earlier, turned, frame)
        summary.notes["findings that were another subject's, dropped"] += dropped
    findings = {key: as_stored(extractor.cue, value, orientation, frame) for key, value in findings.items()}
    if extractor.cue == "depth":
        findings = {key: _save_depth_map(value, key, folder) for key, value in findings.items()}
    journal.add({key: _check_found(extractor, value) for key, value in findings.items()})
    return len(findings)


def as_stored(cue: CueName, value: Any, orientation: int, frame: np.ndarray) -> Any:
    """Return what was found in a frame that was turned as it lies in the image as stored, which cue files refer to."""
    if value is None or orientation == 1:
        return value
    back = geometry.turn_back(orientation)
    if cue == "depth":
        return np.asarray(turn_image(Image.fromarray(value), back))
    return turn_value(value, back, frame.shape[:2])


def _find_in_frame(extractor: Extractor, frame: np.ndarray, person: Person) -> Any:
    """Return the extractor's value for a person, or for the frame of an image's cue; None if nothing is found."""
    size = frame.shape[:2]
    box = geometry.clip(person.box if extractor.scope == "person" else None, size)
    face = geometry.clip(person.face, size) if person.face and extractor.scope == "person" else None
    return extractor.find(frame, box, face) if box else None


def _drop_duplicates(
    findings: dict[str, Any], earlier: dict[str, Any], subjects: dict[str, Person], frame: np.ndarray
) -> int:
    """Set a finding to None where another subject has the same face or body and keeps it. Returns how many are dropped.

    A subject who has it from an earlier run keeps it. Otherwise, the one in whose box it lies nearest to the middle
    keeps it.
    """
    dropped = 0
    values = earlier | {key: value for key, value in findings.items() if value is not None}
    boxes = {key: _box_of_value(value) for key, value in values.items()}
    for key in [key for key, value in findings.items() if value is not None]:
        rivals = [
            other
            for other, box in boxes.items()
            if other != key
            and subjects[other].box != subjects[key].box
            and geometry.iou(box, boxes[key]) > SAME_SUBJECT_IOU
        ]
        distances = {name: (_distance_from_middle(boxes[name], subjects[name], frame), name) for name in [key, *rivals]}
        nearest = min(distances, key=lambda name: distances[name])
        if rivals and (any(name in earlier for name in rivals) or nearest != key):
            findings[key] = None
            dropped += 1
    return dropped


def _box_of_value(value: Any) -> Box:
    """Return a finding's box, or the box around its points (of a pose: around those that were seen)."""
    if not isinstance(value[0], (tuple, list)):
        return tuple(value)
    seen = [point for point in value if len(point) == 2 or point[2] >= 0.5]
    return geometry.bounding_box(seen or value)


def _distance_from_middle(box: Box, subject: Person, frame: np.ndarray) -> float:
    """Return how far from side to side a finding is off the middle of the subject's box, in widths of that box."""
    within = geometry.clip(subject.box, frame.shape[:2])
    if not within:
        return float("inf")
    return abs(geometry.center(box)[0] - geometry.center(within)[0]) / (within[2] - within[0])


def _check_found(extractor: Extractor, value: Any) -> Any:
    """Return an extractor's value in plain numbers. Raises DataError for what is not a value of its cue."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    try:
        return cue_files.check_value(extractor.cue, _round_numbers(plain))
    except ValueError as error:
        raise DataError(f"the extractor {extractor.name} gave {error}") from None


def _round_numbers(value: Any) -> Any:
    """Round all numbers of a value to a thousandth of a pixel."""
    if isinstance(value, (list, tuple)):
        return tuple(_round_numbers(v) for v in value)
    return value if value is None or isinstance(value, str) else round(float(value), 3)


def _save_depth_map(depth: np.ndarray | None, key: str, folder: Path) -> str | None:
    """Write a depth map as a PNG below `folder`. Returns its path there."""
    if depth is None:
        return None
    parts = [part for part in Path(key).parts if part not in ("/", "..")]
    name = "/".join(["depth", *parts]) + ".png"
    with io.atomic(folder / name) as file:
        Image.fromarray(depth).save(file, "PNG")
    return name


def _count_outcomes(
    summary: ExtractionSummary, subjects_by_image: dict[Path, dict[str, Person]], journal: Journal
) -> None:
    keys = [(key, str(image)) for image, subjects in subjects_by_image.items() for key in subjects]
    summary.found = sum(journal.values.get(key) is not None for key, _ in keys)
    summary.not_found = sum(key in journal.values for key, _ in keys) - summary.found
    summary.not_tried = sum(key not in journal.values and image not in summary.unreadable for key, image in keys)
    summary.notes = +summary.notes  # the plus drops zeros


class Journal:
    """An open cue file: its findings so far as `values` by key, and `add` for more."""

    def __init__(self, file: IO[str], values: dict[str, Any]) -> None:
        self._file, self.values = file, values

    def add(self, findings: Mapping[str, Any]) -> None:
        """Append findings, a line each, in one write."""
        self._file.write("".join(cue_files.finding_line(key, value) for key, value in findings.items()))
        self._file.flush()
        self.values.update(findings)


@contextmanager
def open_journal(path: Path, cue: CueName, extractor: str, version: str) -> Iterator[Journal]:
    """Open the cue file at `path`, new or to be continued.

    A last line that a kill cut short is dropped. Raises DataError when another extractor or version began the file,
    when a line is damaged, or while another process writes the file.
    """
    busy = DataError(f"{path}: another process is writing it; let it end, or stop it")
    with io.lock(path.with_name(f".{path.name}.lock"), lambda: busy):
        header = cue_files.header_line(cue, extractor, version)
        if path.is_file():
            _check_maker(path, extractor, version, header)  # first of all: nothing is cut off another's file
        if not _trim_to_whole_lines(path):
            io.write(path, header)
        existing = cue_files.read_cue_file(path)
        with path.open("a", encoding="utf-8") as file:
            yield Journal(file, existing.values)
            os.fsync(file.fileno())


def _check_maker(path: Path, extractor: str, version: str, header: str) -> None:
    with path.open("rb") as file:
        if header.encode().startswith(file.read(len(header))):  # all of it, or what a kill has left
            return
    head = cue_files.read_cue_file(path, head_only=True)
    if (head.extractor, head.version) != (extractor, version):
        raise DataError(
            f"{path}: made by {head.made_by}, this is {f'{extractor} {version}'.strip()}; "
            f"a file has one maker. Continue with that one, or write into another folder with --out"
        )


def _trim_to_whole_lines(path: Path) -> bool:
    """Cut off a last line that has no line break. Returns False if nothing is left, or there is no file."""
    if not path.is_file():
        return False
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        whole = end - len(_unfinished_line(file, end))
        if whole < end:
            file.truncate(whole)
    return whole > 0


def _unfinished_line(file: IO[bytes], end: int, block: int = 1 << 20) -> bytes:
    """Return what comes after the last line break of a file of `end` bytes, reading it from the end in blocks."""
    tail = b""
    while end > 0 and b"\n" not in tail:
        start = max(0, end - block)
        file.seek(start)
        tail = file.read(end - start) + tail
        end = start
    return tail.rpartition(b"\n")[2]
