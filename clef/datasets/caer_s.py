"""CAER-S in its official layout, `{train,test}/<Class>/NNNN.png`, with box files beside it.

Classes go by the folder's name, never by the order of folders: the train folder is `Angry`, the test folder `Anger`.
CAER-S has neither boxes nor a validation split. Boxes come from files in one of several forms
(`clef.datasets.caer_s_boxes`). Val is the end of each class of train, or what a list states.
"""

from math import ceil
from pathlib import Path
from statistics import median

from clef.datasets.caer_s_boxes import BoxRow, Key, collect_boxes
from clef.datasets.caer_s_layout import SPLITS, CaerSLayout, CaerSOptions, FrameFile, Frames, list_frames
from clef.datasets.cards import Card
from clef.datasets.orientation import read_size
from clef.datasets.person import Person, Reading
from clef.errors import DataError
from clef.geometry import Box, Size, area, clip
from clef.yaml_config import unknown, validate

_SAMPLE = 200
"""How many images are opened to tell whether face boxes are really faces."""
_MAX_FACE_SHARE = 0.25
"""A median box that takes a larger share of the frame is taken for a person, not a face."""

Boxes = dict[Key, BoxRow]
"""What box files state about each image."""


class CaerS:
    """Reads train, val and test.

    Consecutive frames come from one shot. That is why val is a block at the end of each class of train, `val_gap`
    frames away from what remains in train.
    """

    def __init__(self, root: Path, card: Card) -> None:
        self.card = card
        self.options = validate(CaerSOptions, card.reader_options, f"card {card.name}: reader_options")
        self.layout = CaerSLayout(root, card, self.options)

    def read(self, split: str) -> Reading:
        """Return the people of a split: class by class in the card's order, frames by name. Raises DataError."""
        if split not in SPLITS:
            raise DataError(unknown(f"card {self.card.name}: splits: split {split!r}", split, SPLITS))
        reading = Reading(policies=self.card.policies)
        folder = self.layout.folder_of(split)
        # What concerns a folder as a whole must be counted once, so with only one of the splits in it.
        counts_folder = split == self.layout.counting_split(folder)
        folder_reading = reading if counts_folder else Reading(policies=self.card.policies)
        frames = list_frames(self.layout.image_folder(folder), self.card, folder_reading)
        listed = self._collect(self.layout.list_rows(split), reading) if self.options.lists else None
        faces = self._read_faces(split, frames, listed, reading, folder_reading)
        person_rows = self.layout.person_rows(split, frames, reading)
        persons = None if person_rows is None else self._collect(person_rows, folder_reading)
        reading.box_kind = "face" if persons is None else "person"
        if self.layout.nested:
            reading.notes[f"the dataset is in {self.layout.nested}"] += len(frames)
        _count_unmatched([faces if faces is not listed else {}, persons or {}], frames, folder_reading)
        for frame in self._frames_of_split(split, frames, listed, reading, folder_reading):
            face = faces[frame.key].box if frame.key in faces else None
            if face or reading.keeps("face_missing", str(frame.path)):
                reading.people.append(self._make_person(frame, folder, face, persons, reading))
        reading.images = reading.listed if listed is None else len(listed)
        _check_face_sizes(reading)
        return reading

    def _collect(self, rows: list[BoxRow], reading: Reading) -> Boxes:
        return collect_boxes(rows, self.card, reading)

    def _read_faces(
        self, split: str, frames: Frames, listed: Boxes | None, reading: Reading, folder_reading: Reading
    ) -> Boxes:
        """Return the face boxes: those of the split's list, unless the options state others or there are no lists."""
        if listed is None or self.options.boxes is not None:
            return self._collect(self.layout.face_rows(split, frames, reading), folder_reading)
        reading.notes[f"face boxes from the list of {split}"] += len(listed)
        return listed

    def _frames_of_split(
        self, split: str, frames: Frames, listed: Boxes | None, reading: Reading, folder_reading: Reading
    ) -> list[FrameFile]:
        """Return the frames of a split; count those of its folder that are in no split as left out."""
        if listed is None:
            if split == "test":
                return list(frames.values())
            return cut_frames(frames, split, self.options.val_fraction, self.options.val_gap, reading)
        for key, row in listed.items():
            if key not in frames:
                reading.keeps("image_missing", row.where)
        if unlisted := frames.keys() - listed.keys() - self.layout.listed_elsewhere(split):
            folder_reading.left_out["in none of the lists"] += len(unlisted)
        return [frame for key, frame in frames.items() if key in listed]

    def _make_person(
        self, frame: FrameFile, folder: str, face: Box | None, persons: Boxes | None, reading: Reading
    ) -> Person:
        box = persons[frame.key].box if persons and frame.key in persons else None
        if persons is not None and box is None and face:
            reading.notes["no person box: the face is the subject"] += 1
        box, size = box or face, None
        if box is None and self.card.policies.face_missing == "center":
            size = read_size(frame.path)  # of the image as stored, in whose pixels this box is
            box = _center_box(size)
        flags = ("face_missing",) if face is None else ()
        person_id = f"{folder}/{frame.path.parent.name}/{frame.path.name}"
        return Person(person_id, frame.path, box, (frame.label,), face, flags=flags, image_size=size)


def cut_frames(frames: Frames, split: str, fraction: float, gap: int, reading: Reading) -> list[FrameFile]:
    """Return train's or val's part of the frames of the train folder.

    Of every class, val gets the last `fraction`, and `gap` frames before these are left out.
    """
    by_class: dict[str, list[FrameFile]] = {}
    for frame in frames.values():
        by_class.setdefault(frame.label, []).append(frame)
    part = []
    for of_class in by_class.values():
        first_of_val = len(of_class) - round(len(of_class) * fraction)
        if split == "val":
            part += of_class[first_of_val:]
        elif between := min(gap, first_of_val):
            reading.left_out["the gap between train and val"] += between
        if split == "train":
            part += of_class[: max(0, first_of_val - gap)]
    return part


# Checks of boxes


def _count_unmatched(files: list[Boxes], frames: Frames, reading: Reading) -> None:
    """Count rows that name no image. Rows of a split's list aren't among them: those are people without their image."""
    for rows in files:
        for key, row in rows.items():
            if key not in frames:
                reading.keeps("box_unmatched", row.where)


def _check_face_sizes(reading: Reading) -> None:
    """Apply the rule `face_is_person`, judged by a sample: a list that circulates as one of faces boxes people."""
    with_face = [person for person in reading.people if person.face]
    sample = with_face[:: ceil(len(with_face) / _SAMPLE) or 1]
    shares = [share for person in sample if (share := _face_share(person)) is not None]
    if shares and median(shares) > _MAX_FACE_SHARE:
        reading.keeps("face_is_person", f"{with_face[0].image.parent.parent}", len(with_face))


def _face_share(person: Person) -> float | None:
    """Return the share of the frame that the face takes, 0-1; None when the image can't be read."""
    size = read_size(person.image)
    face = clip(person.face, size) if size else None
    return area(face) / (size[0] * size[1]) if size and face else None


def _center_box(size: Size | None) -> Box | None:
    """Return the middle half of a frame in both directions; None when its size can't be read."""
    if size is None:
        return None
    height, width = size
    return width / 4, height / 4, width * 3 / 4, height * 3 / 4
