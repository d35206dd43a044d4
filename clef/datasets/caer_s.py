"""CAER-S in its official layout: `{train,test}/<Class>/NNNN.png`, with the boxes in circulation beside it.

Classes go by name, never by directory order: the train folder is `Angry`, the test folder `Anger`.
"""

from math import ceil
from pathlib import Path
from statistics import median

from clef.cards import Card
from clef.config.base import unknown, validate
from clef.datasets import caer_s_boxes, caer_s_frames
from clef.datasets.caer_s_boxes import BoxRow, Key
from clef.datasets.caer_s_files import SPLITS, Files, Options
from clef.datasets.caer_s_frames import Frame
from clef.datasets.person import Box, Person, Reading
from clef.errors import DataError
from clef.geometry import area, inside

Boxes = dict[Key, BoxRow]
"""What box files say of each image."""
_SAMPLE = 200
"""Images whose size is read to tell faces from people."""
_FACE = 0.25
"""The part of the frame above which the median box is no face."""


class CaerS:
    """Reads train, test, and a val: cut from the end of every class of train, or as lists have it.

    Frames that follow each other come from one shot, so val is a contiguous block, `val_gap` frames away from train.
    """

    def __init__(self, root: Path, card: Card) -> None:
        self.card = card
        self.options = validate(Options, card.reader_options, f"card {card.name}: reader_options")
        self.files = Files(root, card, self.options)
        if not all(self.files.images(split).is_dir() for split in ("train", "test")):
            raise DataError(
                f"{root}: {card.title} not found. Expected, with <source> = {root}:\n"
                f"{card.layout.rstrip()}\nRequest the set at {card.request}."
            )

    def read(self, split: str) -> Reading:
        """The subjects of a split, class by class in the card's order, frames by name."""
        if split not in SPLITS:
            raise DataError(unknown(f"card {self.card.name}: splits: split {split!r}", split, SPLITS))
        reading = Reading(policies=self.card.policies)
        folder = self.files.folder(split)
        # What concerns a folder as a whole is counted with one of the splits that it holds.
        whole = reading if split == self.files.home(folder) else Reading(policies=self.card.policies)
        frames = caer_s_frames.frames(self.files.images(folder), self.card, whole)
        listed = self._collected(self.files.list_rows(split), reading) if self.options.lists else None
        faces = self._faces(split, frames, listed, reading, whole)
        found = self.files.person_rows(split, frames, reading)
        persons = None if found is None else self._collected(found, whole)
        reading.box_kind = "face" if persons is None else "person"
        _count_unmatched([faces if faces is not listed else {}, persons or {}], frames, whole)
        for frame in self._members(split, frames, listed, reading, whole):
            face = faces[frame.key].box if frame.key in faces else None
            if face or reading.keeps("face_missing", str(frame.path)):
                reading.people.append(self._person(frame, folder, face, persons, reading))
        reading.images = reading.listed if listed is None else len(listed)
        _check_faces(reading)
        return reading

    def _collected(self, rows: list[BoxRow], reading: Reading) -> Boxes:
        return caer_s_boxes.collect(rows, self.card, reading)

    def _faces(
        self, split: str, frames: dict[Key, Frame], listed: Boxes | None, reading: Reading, whole: Reading
    ) -> Boxes:
        """The face boxes: those of the split's list, unless others are stated or there is none."""
        if listed is None or self.options.boxes is not None:
            return self._collected(self.files.face_rows(split, frames, reading), whole)
        reading.notes[f"face boxes from the list of {split}"] += len(listed)
        return listed

    def _members(
        self, split: str, frames: dict[Key, Frame], listed: Boxes | None, reading: Reading, whole: Reading
    ) -> list[Frame]:
        """The frames of a split. Those of its folder that no split gets are left out."""
        if listed is None:
            found = list(frames.values())
            if split == "test":
                return found
            return caer_s_frames.cut(found, split, self.options.val_fraction, self.options.val_gap, reading)
        for key, row in listed.items():
            if key not in frames:
                reading.keeps("image_missing", row.where)
        if in_none := frames.keys() - listed.keys() - self.files.listed_elsewhere(split):
            whole.left_out["in none of the lists"] += len(in_none)
        return [frame for key, frame in frames.items() if key in listed]

    def _person(self, frame: Frame, folder: str, face: Box | None, persons: Boxes | None, reading: Reading) -> Person:
        box = persons[frame.key].box if persons and frame.key in persons else None
        if persons is not None and box is None and face:
            reading.notes["no person box: the face is the subject"] += 1
        box = box or face
        if box is None and self.card.policies.face_missing == "center":
            box = _center(frame.path)
        flags = ("face_missing",) if face is None else ()
        name = f"{folder}/{frame.path.parent.name}/{frame.path.name}"
        return Person(name, frame.path, box, (frame.label,), face, flags=flags)


def _count_unmatched(files: list[Boxes], frames: dict[Key, Frame], reading: Reading) -> None:
    """Rows that name no image; those of a split's list are people whose image is missing, and not among these."""
    for rows in files:
        for key, row in rows.items():
            if key not in frames:
                reading.keeps("box_unmatched", row.where)


def _check_faces(reading: Reading) -> None:
    """A list of people's boxes circulates as one of faces: look how much of the frame they take, in a sample."""
    faced = [person for person in reading.people if person.face]
    sample = faced[:: ceil(len(faced) / _SAMPLE) or 1]
    shares = [share for person in sample if (share := _share(person)) is not None]
    if shares and median(shares) > _FACE:
        reading.keeps("face_is_person", f"{faced[0].image.parent.parent}", len(faced))


def _share(person: Person) -> float | None:
    """The part of the frame that the face takes; None when the image can't be read."""
    size = _size(person.image)
    part = inside(person.face, *size) if size else None
    return area(part) / (size[0] * size[1]) if size and part else None


def _center(path: Path) -> Box | None:
    """The middle half of the frame, both ways; None, the whole frame, where its size can't be read."""
    size = _size(path)
    return (size[0] / 4, size[1] / 4, size[0] * 3 / 4, size[1] * 3 / 4) if size else None


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height, from the image's header."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # nothing is decoded here
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError):
        return None
