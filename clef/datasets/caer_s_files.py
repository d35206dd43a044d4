"""Where the parts of CAER-S lie below the source: the folders of images, the box files, the lists of the splits."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from clef.cards import Card
from clef.config import Strict
from clef.datasets import caer_s_boxes, caer_s_frames
from clef.datasets.caer_s_boxes import BoxRow, Key
from clef.datasets.caer_s_frames import Frame
from clef.datasets.person import Reading
from clef.errors import DataError

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
        twins = caer_s_frames.frames(other, self.card, Reading()).keys() & frames.keys()
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
