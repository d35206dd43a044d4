"""The images of CAER-S as they lie in the folders of the classes, and their cut into train and val."""

from dataclasses import dataclass
from pathlib import Path

from clef.cards import Card
from clef.datasets.caer_s_boxes import Key, key_of
from clef.datasets.person import Reading
from clef.errors import DataError

_IMAGES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Frame:
    """One image."""

    key: Key
    label: str
    path: Path


def frames(folder: Path, card: Card, reading: Reading) -> dict[Key, Frame]:
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
