"""Where CAER-S's images, lists and box files lie in a source, and what its folders of images hold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from clef.datasets import folders
from clef.datasets.caer_s_boxes import BoxRow, Key, frame_key, read_boxes
from clef.datasets.cards import Card
from clef.datasets.person import Reading
from clef.errors import DataError
from clef.yaml_config import Strict

SPLITS = ("train", "val", "test")
_OTHER_FOLDER = {"train": "test", "test": "train"}
_FACE_FILES = ("{split}.txt", "{split}.json", "crop/{split}", "crop")
_PERSON_FILES = ("{split}_person.txt", "{split}_person.json", "crop_person/{split}", "crop_person")
"""Where boxes are looked for; the first that exists is read."""

Names = str | list[str] | dict[str, str | list[str]]
"""Files or folders below the source, with `{split}` for train or test; or, by `train` and `test`, those of each."""


class CaerSOptions(Strict):
    """What a card may state in `reader_options`."""

    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of each class of train, its last frames, that becomes val."""
    val_gap: Annotated[int, Field(ge=0)] = 10
    """How many frames between train and val are left out."""
    lists: str | None = None
    """Such as `{split}.txt`: lists that state the images of train, val and test. Val's lie in the test folder."""
    images: str | dict[Literal["train", "test"], str] = "{split}"
    """The folders of train's and test's images, below the source: `{test: valid}` if only test has another name."""
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


class CaerSLayout:
    """The folders of images, the lists of the splits and the box files of one source."""

    def __init__(self, root: Path, card: Card, options: CaerSOptions) -> None:
        self.root, self.card, self.options = root, card, options
        dataset = folders.find_nested(root, self._has_images)
        if dataset is None:
            raise DataError(
                f"{root}: {card.title} not found. Expected, with <source> = {root}:\n"
                f"{card.layout.rstrip()}\nRequest the set at {card.request}. "
                "If a folder has another name: reader_options.images, such as {test: valid}"
            )
        self.dataset = dataset
        """The folder of the images: the source, or one below it where the zip file nests itself."""
        self._image_folders = {name: self._images_below(dataset, name) for name in _OTHER_FOLDER}

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
        images = self.options.images
        if isinstance(images, str):
            return folders.find(folder, images.replace("{split}", name))
        return folders.find(folder, next((stated for key, stated in images.items() if key == name), name))

    def _find(self, name: str) -> Path:
        """Return the path of a box file or list: below the source, or else in the folder of the dataset."""
        path = folders.find(self.root, name)
        return path if path.exists() else folders.find(self.dataset, name)

    def folder_of(self, split: str) -> str:
        """Return `train` or `test`: the folder with the images of a split."""
        return split if split != "val" else "test" if self.options.lists else "train"

    def image_folder(self, folder: str) -> Path:
        """Return the path of the folder `train` or `test`. The two may be one."""
        return self._image_folders[folder]

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
