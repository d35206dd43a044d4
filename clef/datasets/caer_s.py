"""CAER-S in its official layout, `{train,test}/<Class>/NNNN.png`, with box files beside it.

Classes go by the folder's name, never by the order of folders: the train folder is `Angry`, the test folder `Anger`.
CAER-S has neither boxes nor a validation split. Boxes come from files in one of several forms
(`clef.datasets.caer_s_boxes`). Val is the end of each class of train, or what a list states.
"""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median
from typing import Annotated

from pydantic import Field

from clef.datasets import folders
from clef.datasets.caer_s_boxes import BoxRow, Key, collect_boxes, frame_key, read_boxes
from clef.datasets.cards import Card
from clef.datasets.orientation import read_size
from clef.datasets.person import Person, Reading
from clef.errors import DataError
from clef.geometry import Box, Size, area, clip
from clef.yaml_config import Strict, unknown, validate

SPLITS = ("train", "val", "test")
_OTHER_FOLDER = {"train": "test", "test": "train"}
_FACE_FILES = ("{split}.txt", "{split}.json", "crop/{split}", "crop")
_PERSON_FILES = ("{split}_person.txt", "{split}_person.json", "crop_person/{split}", "crop_person")
"""Where boxes are looked for; the first that exists is read."""
_SAMPLE = 200
"""How many images are opened to tell whether face boxes are really faces."""
_MAX_FACE_SHARE = 0.25
"""A median box that takes a larger share of the frame is taken for a person, not a face."""

Names = str | list[str] | dict[str, str | list[str]]
"""Files or folders below the source, with `{split}` for train or test; or, by `train` and `test`, those of each."""
Boxes = dict[Key, BoxRow]
"""What box files state about each image."""


class CaerSOptions(Strict):
    """What a card may state in `reader_options`."""

    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of each class of train, its last frames, that becomes val."""
    val_gap: Annotated[int, Field(ge=0)] = 10
    """How many frames between train and val are left out."""
    lists: str | None = None
    """Such as `{split}.txt`: lists that state the images of train, val and test. Val's lie in the test folder."""
    images: str = "{split}"
    """The folders of train's and test's images, below the source."""
    boxes: Names | None = None
    """The face boxes. Unless stated: those in the lists, and without lists they are looked for."""
    person_boxes: Names | None = None
    """The person boxes. Unless stated, they are looked for."""


@dataclass(frozen=True)
class FrameFile:
    """One image of CAER-S, which is a frame of a video."""

    key: Key
    label: str
    path: Path


Frames = dict[Key, FrameFile]
"""The images of a folder."""


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


# The images


def list_frames(root: Path, card: Card, reading: Reading) -> Frames:
    """Return all images below a folder, class by class in the card's order, then by name.

    Other files are counted in `reading`. Raises DataError for an unknown class, or a class without images.
    """
    by_class = _list_images(root, card, reading)
    frames: Frames = {}
    for name in card.classes:
        if not by_class.get(name):
            raise DataError(f"{root}: no images of class {name}; expected: {', '.join(card.classes)}")
        for path in by_class[name]:
            frame = FrameFile(frame_key(card, name, path.name), name, path)
            other = frames.setdefault(frame.key, frame)
            if other is not frame:
                raise DataError(f"{path}: has the same name as {other.path}; boxes can't tell the two apart")
    return frames


def _list_images(root: Path, card: Card, reading: Reading) -> dict[str, list[Path]]:
    by_class: dict[str, list[Path]] = {}
    for folder in sorted(root.iterdir()):
        if folders.is_junk(folder.name) or not folder.is_dir():
            reading.keeps("file_stray", str(folder))
            continue
        name = card.canonical(folder.name)
        if name is None:
            raise DataError(f"{folder}: unknown class; known: {', '.join(card.classes)}")
        images, strays = folders.list_images(folder)
        for stray in strays:
            reading.keeps("file_stray", str(stray))
        by_class.setdefault(name, []).extend(images)
    return by_class


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


# Where images, lists and box files lie


class CaerSLayout:
    """The folders of images, the lists of the splits and the box files of one source."""

    def __init__(self, root: Path, card: Card, options: CaerSOptions) -> None:
        self.root, self.card, self.options = root, card, options
        dataset = folders.find_nested(root, self._has_images)
        if dataset is None:
            raise DataError(
                f"{root}: {card.title} not found. Expected, with <source> = {root}:\n"
                f"{card.layout.rstrip()}\nRequest the set at {card.request}."
            )
        self.dataset = dataset
        """The folder of the images: the source, or one below it where the zip file nests itself."""

    @property
    def nested(self) -> str:
        """Return the folder of the dataset below the source; empty where it is the source itself."""
        return "" if self.dataset == self.root else self.dataset.relative_to(self.root).as_posix()

    def _has_images(self, folder: Path) -> bool:
        """Return whether there are class folders with images; a folder of box files has the same tree without any."""
        return all(
            any(folders.list_images(of_class)[0] for of_class in folders.subfolders(self._images_below(folder, name)))
            for name in _OTHER_FOLDER
        )

    def _images_below(self, folder: Path, name: str) -> Path:
        return folders.find(folder, self.options.images.replace("{split}", name))

    def _find(self, name: str) -> Path:
        """Return the path of a box file or list: below the source, or else in the folder of the dataset."""
        path = folders.find(self.root, name)
        return path if path.exists() else folders.find(self.dataset, name)

    def folder_of(self, split: str) -> str:
        """Return `train` or `test`: the folder with the images of a split."""
        return split if split != "val" else "test" if self.options.lists else "train"

    def image_folder(self, folder: str) -> Path:
        """Return the path of the folder `train` or `test`. The two may be one."""
        return self._images_below(self.dataset, folder)

    def counting_split(self, folder: str) -> str:
        """Return the one split with which everything is counted that concerns a folder as a whole."""
        return "train" if self.image_folder(folder) == self.image_folder("train") else "test"

    def list_rows(self, split: str) -> list[BoxRow]:
        """Return the rows of a split's list. Raises DataError for images outside the split's folder."""
        rows = read_boxes(self._list_file(split), self.card, allow_no_box=True)
        folder = self.image_folder(self.folder_of(split))
        for row in rows:
            if row.folder and self.image_folder(row.folder) != folder:
                raise DataError(f"{row.where}: an image of {row.folder}, but the images of {split} are in {folder}")
        return rows

    def listed_elsewhere(self, split: str) -> set[Key]:
        """Return the images of this split's folder that the lists of other splits contain."""
        folder = self.image_folder(self.folder_of(split))
        others = [other for other in SPLITS if other != split and self.image_folder(self.folder_of(other)) == folder]
        return {row.key for other in others if self._list_file(other).is_file() for row in self.list_rows(other)}

    def face_rows(self, split: str, frames: Frames, reading: Reading) -> list[BoxRow]:
        """Return the rows of the face boxes; note in `reading` where they come from. Raises DataError without any."""
        rows = self._find_rows("face", self.options.boxes, _FACE_FILES, split, frames, reading)
        if rows is None:
            folder = self.folder_of(split)
            usual = ", ".join(_expand_names(list(_FACE_FILES), folder))
            raise DataError(
                f"{self.root}: no face boxes of {folder}. CAER-S comes without any; looked for: {usual}. "
                "Rows of Class/file.png,label,x1,y1,x2,y2 are one form (no face: 0,0,0,0); docs/datasets.md has all"
            )
        return rows

    def person_rows(self, split: str, frames: Frames, reading: Reading) -> list[BoxRow] | None:
        """Return the rows of the person boxes, noted in `reading`, or None without any."""
        return self._find_rows("person", self.options.person_boxes, _PERSON_FILES, split, frames, reading)

    def _find_rows(
        self,
        kind: str,
        stated: Names | None,
        usual: tuple[str, ...],
        split: str,
        frames: Frames,
        reading: Reading,
    ) -> list[BoxRow] | None:
        """Return the rows of all files that are stated, or of the first usual one that exists."""
        folder = self.folder_of(split)
        names = list(usual) if stated is None else stated
        chosen = _expand_names(names, folder)
        unread: list[str] = []
        if stated is None:
            existing = [name for name in chosen if _has_boxes(self._find(name))]
            chosen, unread = existing[:1], existing[1:]
        if not chosen:
            return None
        rows = []
        for name in chosen:
            file_rows = read_boxes(self._find(name), self.card)
            if name in _expand_names(names, _OTHER_FOLDER[folder]):
                self._check_unambiguous(file_rows, self._find(name), folder, frames)
            rows += [row for row in file_rows if row.folder in (None, folder)]
        instead = f", not from {', '.join(unread)}" if unread else ""
        reading.notes[f"{kind} boxes from {', '.join(chosen)}{instead}"] += len(rows)
        return rows

    def _check_unambiguous(self, rows: list[BoxRow], path: Path, folder: str, frames: Frames) -> None:
        """Check that rows of a file for both folders say which one they mean, where both have an image of that name."""
        other = self.image_folder(_OTHER_FOLDER[folder])
        if other == self.image_folder(folder):
            return
        in_both = list_frames(other, self.card, Reading()).keys() & frames.keys()
        for row in rows:
            if row.folder is None and row.key in in_both:
                raise DataError(
                    f"{row.where}: train and test each have an image of that name; let the path begin with the "
                    f"split, or keep the boxes of the two apart, as {path.name}/train and {path.name}/test"
                )

    def _list_file(self, split: str) -> Path:
        return self._find(str(self.options.lists).replace("{split}", split))


def _expand_names(names: Names, folder: str) -> list[str]:
    """Return the files that `names` states for `train` or `test`."""
    of_folder = names.get(folder, []) if isinstance(names, dict) else names
    return [name.replace("{split}", folder) for name in ([of_folder] if isinstance(of_folder, str) else of_folder)]


def _has_boxes(path: Path) -> bool:
    """Return whether this is a box file, or a folder of them by class (not by split)."""
    return path.is_file() or (path.is_dir() and not any(folders.find(path, name).is_dir() for name in _OTHER_FOLDER))


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
