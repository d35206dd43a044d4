"""CAER-S in its official layout: `{train,test}/<Class>/NNNN.png`, with the boxes in circulation beside it.

Classes go by name, never by directory order: the train folder is `Angry`, the test folder `Anger`.

Where the parts of CAER-S lie below the source: the folders of images, the box files, the lists of the splits.

The images of CAER-S as they lie in the folders of the classes, and their cut into train and val.
"""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median
from typing import Annotated

from pydantic import Field

from clef.config import Strict
from clef.config.base import unknown, validate
from clef.datasets import caer_s_boxes
from clef.datasets.caer_s_boxes import BoxRow, Key, key_of
from clef.datasets.cards import Card
from clef.datasets.person import Box, Person, Reading
from clef.errors import DataError
from clef.geometry import area, inside

_IMAGES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Frame:
    """One image."""

    key: Key
    label: str
    path: Path


def list_frames(folder: Path, card: Card, reading: Reading) -> dict[Key, Frame]:
    """All images, class by class in the card's order, by name. Files that are none are counted in `reading`."""
    by_class = _by_class(folder, card, reading)
    found: dict[Key, Frame] = {}
    for name in card.classes:
        if not by_class.get(name):
            raise DataError(f"{folder}: no images of class {name}; expected: {', '.join(card.classes)}")
        for path in by_class[name]:
            frame = Frame(key_of(card, name, path.name), name, path)
            other = found.setdefault(frame.key, frame)
            if other is not frame:
                raise DataError(f"{path}: called like {other.path}; boxes can't tell the two apart")
    return found


def cut(found: list[Frame], split: str, fraction: float, gap: int, reading: Reading) -> list[Frame]:
    """Of every class, train's frames or val's: val gets the last ones, and neither those in a gap before these."""
    by_class: dict[str, list[Frame]] = {}
    for frame in found:
        by_class.setdefault(frame.label, []).append(frame)
    kept = []
    for frames in by_class.values():
        first = len(frames) - round(len(frames) * fraction)
        if split == "val":
            kept += frames[first:]
        elif between := min(gap, first):
            reading.left_out["the gap between train and val"] += between
        if split == "train":
            kept += frames[: max(0, first - gap)]
    return kept


def _by_class(root: Path, card: Card, reading: Reading) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for folder in sorted(root.iterdir()):
        if not folder.is_dir():
            reading.keeps("file_stray", str(folder))
            continue
        name = card.canonical(folder.name)
        if name is None:
            raise DataError(f"{folder}: unknown class; known: {', '.join(card.classes)}")
        files = sorted(folder.iterdir())
        images = [file for file in files if file.suffix.lower() in _IMAGES and not file.name.startswith(".")]
        for stray in sorted(set(files) - set(images)):
            reading.keeps("file_stray", str(stray))
        found.setdefault(name, []).extend(images)
    return found


SPLITS = ("train", "val", "test")
_OTHER = {"train": "test", "test": "train"}
_FACES = ("{split}.txt", "{split}.json", "crop/{split}", "crop")
_PERSONS = ("{split}_person.txt", "{split}_person.json", "crop_person/{split}", "crop_person")
"""Where boxes are looked for: the first that is there is read."""
Names = str | list[str] | dict[str, str | list[str]]
"""Files or folders below the source, `{split}` standing for train or test; or those of each of the two."""


class Options(Strict):
    """What a card may say in `reader_options`."""

    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Of train: the last frames of each class are val."""
    val_gap: Annotated[int, Field(ge=0)] = 10
    """Frames that neither gets, between the two."""
    lists: str | None = None
    """Such as `{split}.txt`: what train, val and test hold, by lists. Their val lies in the test folder."""
    images: str = "{split}"
    """The folders of train's and test's images, below the source."""
    boxes: Names | None = None
    """The face boxes. Unless stated: those in the lists, or else they are looked for."""
    person_boxes: Names | None = None
    """Likewise."""


class Files:
    """The files of one source."""

    def __init__(self, root: Path, card: Card, options: Options) -> None:
        self.root, self.card, self.options = root, card, options

    def folder(self, split: str) -> str:
        """`train` or `test`: where the images of a split lie."""
        return split if split != "val" else "test" if self.options.lists else "train"

    def images(self, folder: str) -> Path:
        """The folder itself."""
        return self.root / self.options.images.replace("{split}", folder)

    def home(self, folder: str) -> str:
        """The split with which all that concerns a folder as a whole is counted, and counted once."""
        return "train" if self.images(folder) == self.images("train") else "test"

    def list_rows(self, split: str) -> list[BoxRow]:
        """The rows of a split's list."""
        rows = caer_s_boxes.read(self._list(split), self.card, bare=True)
        here = self.images(self.folder(split))
        if astray := [row for row in rows if row.folder and self.images(row.folder) != here]:
            raise DataError(f"{astray[0].where}: an image of {astray[0].folder}, where those of {split} lie in {here}")
        return rows

    def listed_elsewhere(self, split: str) -> set[Key]:
        """The images of this split's folder that the lists of other splits hold."""
        here = self.images(self.folder(split))
        others = [s for s in SPLITS if s != split and self.images(self.folder(s)) == here and self._list(s).is_file()]
        return {row.key for other in others for row in self.list_rows(other)}

    def face_rows(self, split: str, frames: dict[Key, Frame], reading: Reading) -> list[BoxRow]:
        """The rows of the face boxes; `reading` notes where they come from. DataError when there are none."""
        rows = self._rows("face", self.options.boxes, _FACES, split, frames, reading)
        if rows is None:
            known = ", ".join(_named(list(_FACES), self.folder(split)))
            raise DataError(
                f"{self.root}: no face boxes of {self.folder(split)}. CAER-S comes without any; looked for: {known}. "
                "Rows of Class/file.png,label,x1,y1,x2,y2 are one form (no face: 0,0,0,0); docs/datasets.md has all"
            )
        return rows

    def person_rows(self, split: str, frames: dict[Key, Frame], reading: Reading) -> list[BoxRow] | None:
        """The rows of the person boxes, likewise; None when there are none."""
        return self._rows("person", self.options.person_boxes, _PERSONS, split, frames, reading)

    def _rows(
        self,
        kind: str,
        stated: Names | None,
        known: tuple[str, ...],
        split: str,
        frames: dict[Key, Frame],
        reading: Reading,
    ) -> list[BoxRow] | None:
        folder = self.folder(split)
        names = list(known) if stated is None else stated
        chosen = _named(names, folder)
        others: list[str] = []
        if stated is None:
            found = [name for name in chosen if _holds_boxes(self.root / name)]
            chosen, others = found[:1], found[1:]
        if not chosen:
            return None
        rows = []
        for name in chosen:
            read = caer_s_boxes.read(self.root / name, self.card)
            if name in _named(names, _OTHER[folder]):
                self._tell_apart(read, self.root / name, folder, frames)
            rows += [row for row in read if row.folder in (None, folder)]
        instead = f", not from {', '.join(others)}" if others else ""
        reading.notes[f"{kind} boxes from {', '.join(chosen)}{instead}"] += len(rows)
        return rows

    def _tell_apart(self, rows: list[BoxRow], path: Path, folder: str, frames: dict[Key, Frame]) -> None:
        """Rows that serve both folders must say which they mean, where both have an image of that name."""
        other = self.images(_OTHER[folder])
        if other == self.images(folder):
            return
        twins = list_frames(other, self.card, Reading()).keys() & frames.keys()
        if unclear := [row for row in rows if row.folder is None and row.key in twins]:
            raise DataError(
                f"{unclear[0].where}: train and test each have an image of that name; let the path begin with the "
                f"split, or keep the boxes of the two apart, as {path.name}/train and {path.name}/test"
            )

    def _list(self, split: str) -> Path:
        return self.root / str(self.options.lists).replace("{split}", split)


def _named(names: Names, folder: str) -> list[str]:
    """The files that `names` gives for train or test."""
    chosen = names.get(folder, []) if isinstance(names, dict) else names
    return [name.replace("{split}", folder) for name in ([chosen] if isinstance(chosen, str) else chosen)]


def _holds_boxes(path: Path) -> bool:
    """Whether there is a file, or a folder by class; one that has a folder for each split is none."""
    return path.is_file() or (path.is_dir() and not any((path / folder).is_dir() for folder in _OTHER))


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
        frames = list_frames(self.files.images(folder), self.card, whole)
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
            return cut(found, split, self.options.val_fraction, self.options.val_gap, reading)
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
