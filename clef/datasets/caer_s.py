"""CAER-S in its official layout: `{train,test}/<Class>/NNNN.png`, with the face boxes in circulation beside it.

Classes go by name, never by directory order: the train folder is `Angry`, the test folder `Anger`.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import Field

from clef.cards import Card
from clef.config import Strict
from clef.datasets.person import Box, Person, Reading, parse_box
from clef.errors import DataError
from clef.overrides import validate

_IMAGES = (".png", ".jpg", ".jpeg")


class Options(Strict):
    """What a card may say in `reader_options`."""

    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Of train: the last frames of each class are val."""
    val_gap: Annotated[int, Field(ge=0)] = 10
    """Frames that neither gets, between the two."""


class CaerS:
    """Reads train, test, and a val that is cut from the end of every class of train.

    Frames that follow each other come from one shot, so val is a contiguous block, `val_gap` frames away from train.
    """

    def __init__(self, root: Path, card: Card) -> None:
        self.root, self.card = root, card
        self.options = validate(Options, card.reader_options, f"card {card.name}: reader_options")
        if not all((root / split).is_dir() for split in ("train", "test")):
            raise DataError(
                f"{root}: {card.title} not found. Expected, with <source> = {root}:\n"
                f"{card.layout.rstrip()}\nRequest the set at {card.request}."
            )

    def read(self, split: str) -> Reading:
        """The subjects of a split, class by class in the card's order, frames by name."""
        official = "test" if split == "test" else "train"
        faces = self._boxes(self.root / f"{official}.txt")
        persons = self._boxes(self.root / f"{official}_person.txt") if self._has_persons(official) else None
        if faces is None:
            raise DataError(
                f"{self.root / official}.txt: no face boxes. CAER-S comes without any; rows of "
                "Class/file.png,label,x1,y1,x2,y2 are expected there (no face: 0,0,0,0)"
            )
        reading = Reading(policies=self.card.policies, box_kind="person" if persons else "face")
        for label, path in self._frames(official, split, reading):
            key = f"{path.parent.name}/{path.name}"
            if faces.get(key) or reading.keeps("face_missing", str(path)):
                reading.people.append(self._person(key, path, label, faces.get(key), persons))
        reading.images = reading.listed
        return reading

    def _person(
        self,
        key: str,
        path: Path,
        label: str,
        face: Box | None,
        persons: dict[str, Box | None] | None,
    ) -> Person:
        box = (persons.get(key) if persons else None) or face
        flags = ("face_missing",) if face is None else ()
        if box is None and self.card.policies.face_missing == "center":
            box = _center(path)
        return Person(f"{path.parent.parent.name}/{key}", path, box, (label,), face, flags=flags)

    def _frames(self, official: str, split: str, reading: Reading) -> list[tuple[str, Path]]:
        by_class = self._by_class(official, reading)
        frames = []
        for name in self.card.classes:
            files = by_class.get(name)
            if not files:
                raise DataError(
                    f"{self.root / official}: no images of class {name}; expected: {', '.join(self.card.classes)}"
                )
            if official == "train":
                files = self._part(files, split, reading.left_out)
            frames += [(name, file) for file in files]
        return frames

    def _part(self, files: list[Path], split: str, left_out: Counter[str]) -> list[Path]:
        """Train, or val: the last frames of a class, with a gap between the two that neither gets."""
        held = round(len(files) * self.options.val_fraction)
        cut = len(files) - held
        if split == "val":
            return files[cut:]
        gap = min(self.options.val_gap, cut)
        if gap:
            left_out["the gap between train and val"] += gap
        return files[: cut - gap]

    def _by_class(self, official: str, reading: Reading) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for folder in sorted((self.root / official).iterdir()):
            if not folder.is_dir():
                reading.keeps("file_stray", str(folder))
                continue
            name = self.card.canonical(folder.name)
            if name is None:
                raise DataError(f"{folder}: unknown class; known: {', '.join(self.card.classes)}")
            files = sorted(folder.iterdir())
            images = [file for file in files if file.suffix.lower() in _IMAGES and not file.name.startswith(".")]
            for stray in sorted(set(files) - set(images)):
                reading.keeps("file_stray", str(stray))
            found.setdefault(name, []).extend(images)
        return found

    def _has_persons(self, official: str) -> bool:
        return (self.root / f"{official}_person.txt").is_file()

    def _boxes(self, path: Path) -> dict[str, Box | None] | None:
        """Box by `Folder/file`, None for 0,0,0,0; None when there is no such file."""
        if not path.is_file():
            return None
        boxes: dict[str, Box | None] = {}
        for number, line in enumerate(_text(path).splitlines(), 1):
            if not line.strip():
                continue
            name, *values = line.split(",")
            if len(values) != 5:
                raise DataError(f"{path}:{number}: Class/file.png,label,x1,y1,x2,y2 is expected, not {line!r}")
            box = parse_box(values[1:], f"{path}:{number}")
            key = "/".join(name.strip().split("/")[-2:])  # some lists begin with the split
            boxes[key] = box if any(box) else None
        return boxes


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: text in UTF-8 is expected: {error}") from None


def _center(path: Path) -> Box:
    """The middle half of the frame, both ways."""
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
    return width / 4, height / 4, width * 3 / 4, height * 3 / 4
