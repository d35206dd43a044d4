"""Runs an extractor over the people or images of one root of a dataset.

A cue file as it grows: lines are only ever added, so that a run that was killed goes on where it was.
"""

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
from clef.cues.files import CueName, ambiguous, joined
from clef.cues.view import Unreadable, read
from clef.datasets.person import Box, Person
from clef.errors import DataError


class Journal:
    """The findings so far: `values` by key, and `add` for more."""

    def __init__(self, file: IO[str], values: dict[str, Any]) -> None:
        self._file, self.values = file, values

    def add(self, findings: Mapping[str, Any]) -> None:
        """Append findings, a line each, in one write."""
        self._file.write("".join(cue_files.line(key, value) for key, value in findings.items()))
        self._file.flush()
        self.values.update(findings)


@contextmanager
def opened(path: Path, cue: CueName, extractor: str, version: str) -> Iterator[Journal]:
    """The cue file at `path`, new or to be continued.

    What a kill left of a last line is dropped. DataError when another extractor or version began the file, when a
    line is damaged, or while another process writes it.
    """
    busy = DataError(f"{path}: another process is writing it; let it end, or stop it")
    with io.lock(path.with_name(f".{path.name}.lock"), lambda: busy):
        if not _has_head(path):
            io.write(path, cue_files.head(cue, extractor, version))
        known = cue_files.read(path)
        if (known.extractor, known.version) != (extractor, version):
            raise DataError(
                f"{path}: made by {known.made_by}, this is {f'{extractor} {version}'.strip()}; a file has one maker. "
                f"Go on with that one, or remove the file and start again"
            )
        with path.open("a", encoding="utf-8") as file:
            yield Journal(file, known.values)
            os.fsync(file.fileno())


def _has_head(path: Path) -> bool:
    """Cut off a last line without an end; False when nothing is left, or there was nothing."""
    if not path.is_file():
        return False
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        whole = end - len(_last_line(file, end))
        if whole < end:
            file.truncate(whole)
    return whole > 0


def _last_line(file: IO[bytes], end: int, block: int = 1 << 20) -> bytes:
    """What stands behind the last line break."""
    tail = b""
    while end > 0 and b"\n" not in tail:
        start = max(0, end - block)
        file.seek(start)
        tail = file.read(end - start) + tail
        end = start
    return tail.rpartition(b"\n")[2]


Progress = Callable[[int, int], None]
"""Called with the keys done and the keys in all."""
SAME = 0.6
"""Two findings of one image that overlap by more are one and the same face or body."""


@dataclass
class Tally:
    """What became of the keys of a root."""

    keys: int = 0
    found: int = 0
    """With a value, those of earlier runs included."""
    not_found: int = 0
    left: int = 0
    """Not looked at: the limit came first."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Images that could not be read, and why; they have no line, and are tried again next time."""
    notes: Counter[str] = field(default_factory=Counter)


def extract(
    extractor: Extractor,
    people: Sequence[Person],
    source: Path,
    out: Path,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Tally:
    """Write `out`/cues/<cue>.jsonl for the people of `source`, or go on with it; at most about `limit` keys more.

    Face boxes that have been extracted before (into `out`) are given to the extractor as the dataset's own are.
    """
    tally = Tally()
    path = cue_files.path_of(out, extractor.cue)
    work = _by_image(extractor, people, source, out, tally)
    tally.keys = sum(map(len, work.values()))
    done = 0
    with opened(path, extractor.cue, extractor.name, extractor.version) as journal:
        fresh = 0
        for image, subjects in work.items():
            missing = {key: person for key, person in subjects.items() if key not in journal.values}
            if missing and (limit is None or fresh < limit):
                fresh += _extract_image(extractor, image, missing, subjects, journal, path.parent, tally)
            done += len(subjects)
            if progress:
                progress(done, tally.keys)
        _count(tally, work, journal)
    return tally


def _by_image(
    extractor: Extractor, people: Sequence[Person], source: Path, out: Path, tally: Tally
) -> dict[Path, dict[str, Person]]:
    """For each image, the keys to be looked for, and whose they are (for an image's cue: anyone in it)."""
    if extractor.scope == "image":
        return {person.image: {cue_files.image_key(source, person.image): person} for person in people}
    shared = ambiguous(people)
    if shared:
        tally.notes["ids that several subjects share, left out"] = len(shared)
    faces = cue_files.path_of(out, "face")
    if extractor.cue != "face" and faces.is_file():
        people = joined(people, source, [cue_files.read(faces)])
    work: dict[Path, dict[str, Person]] = {}
    for person in people:
        if person.id not in shared:
            work.setdefault(person.image, {})[person.id] = person
    return work


def _extract_image(
    extractor: Extractor,
    image: Path,
    missing: dict[str, Person],
    subjects: dict[str, Person],
    journal: Journal,
    folder: Path,
    tally: Tally,
) -> int:
    try:
        frame = read(image)
    except Unreadable as reason:
        tally.unreadable[str(image)] = str(reason)
        return 0
    found = {key: _find(extractor, frame, person) for key, person in missing.items()}
    if extractor.cue == "depth":
        found = {key: _saved(value, key, folder) for key, value in found.items()}
    elif extractor.scope == "person":
        known = {key: journal.values[key] for key in subjects if journal.values.get(key) is not None}
        tally.notes["findings that were another subject's, dropped"] += _drop_doubles(found, known, subjects, frame)
    journal.add({key: _checked(extractor, value) for key, value in found.items()})
    return len(found)


def _find(extractor: Extractor, frame: np.ndarray, person: Person) -> Any:
    height, width = frame.shape[:2]
    box = geometry.inside(person.box if extractor.scope == "person" else None, width, height)
    face = geometry.inside(person.face, width, height) if person.face and extractor.scope == "person" else None
    return extractor.find(frame, box, face) if box else None


def _drop_doubles(found: dict[str, Any], known: dict[str, Any], subjects: dict[str, Person], frame: np.ndarray) -> int:
    """Two subjects can't have one face: it stays with the one it fits best. Returns how many lost it."""
    dropped = 0
    values = known | {key: value for key, value in found.items() if value is not None}
    places = {key: _place(value) for key, value in values.items()}
    for key in [key for key, value in found.items() if value is not None]:
        rivals = [
            other
            for other, place in places.items()
            if other != key and subjects[other].box != subjects[key].box and geometry.iou(place, places[key]) > SAME
        ]
        fits = {name: (_fit(places[name], subjects[name], frame), name) for name in [key, *rivals]}
        if rivals and (any(name in known for name in rivals) or min(fits, key=lambda name: fits[name]) != key):
            found[key] = None
            dropped += 1
    return dropped


def _place(value: Any) -> Box:
    """The box of a finding: its own, or that around its points (of a pose: those that were seen)."""
    if not isinstance(value[0], (tuple, list)):
        return tuple(value)
    seen = [point for point in value if len(point) == 2 or point[2] >= 0.5]
    return geometry.around(seen or value)


def _fit(place: Box, subject: Person, frame: np.ndarray) -> float:
    """How far off the middle of its subject's box a finding lies from side to side, in widths of the box."""
    box = geometry.inside(subject.box, frame.shape[1], frame.shape[0])
    return abs(geometry.centre(place)[0] - geometry.centre(box)[0]) / (box[2] - box[0]) if box else float("inf")


def _checked(extractor: Extractor, value: Any) -> Any:
    """The value in plain numbers, or DataError for an extractor that finds what its cue is not."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    try:
        return cue_files.checked(extractor.cue, _rounded(plain))
    except ValueError as error:
        raise DataError(f"the extractor {extractor.name} gave {error}") from None


def _rounded(value: Any) -> Any:
    """Numbers to a thousandth of a pixel."""
    if isinstance(value, (list, tuple)):
        return tuple(_rounded(v) for v in value)
    return value if value is None or isinstance(value, str) else round(float(value), 3)


def _saved(depth: np.ndarray | None, key: str, folder: Path) -> str | None:
    """Write a depth map as a PNG below `folder`. Returns its path there."""
    if depth is None:
        return None
    parts = [part for part in Path(key).parts if part not in ("/", "..")]
    name = "/".join(["depth", *parts]) + ".png"
    with io.atomic(folder / name) as file:
        Image.fromarray(depth).save(file, "PNG")
    return name


def _count(tally: Tally, work: dict[Path, dict[str, Person]], journal: Journal) -> None:
    keys = [(key, str(image)) for image, subjects in work.items() for key in subjects]
    tally.found = sum(journal.values.get(key) is not None for key, _ in keys)
    tally.not_found = sum(key in journal.values for key, _ in keys) - tally.found
    tally.left = sum(key not in journal.values and image not in tally.unreadable for key, image in keys)
    tally.notes = +tally.notes
