"""EMOTIC in its official layout: `Annotations/Annotations.mat` beside `emotic/<database>/images`."""

import csv
import math
from pathlib import Path
from typing import Any

from clef.cards import Card
from clef.datasets.person import Box, Person, Reading, parse_box
from clef.errors import DataError

_ANNOTATIONS = ("Annotations/Annotations.mat", "Annotations.mat", "CVPR17_Annotations.mat")
_IMAGE_ROOTS = ("emotic", ".", "emotic/emotic")
_DATABASES = ("mscoco", "framesdb", "emodb_small", "ade20k")


class Emotic:
    """Reads train, val and test, as the official splits have them."""

    def __init__(self, root: Path, card: Card) -> None:
        self.root, self.card = root, card
        self.annotations = _first(root, _ANNOTATIONS)
        found = [root / base for base in _IMAGE_ROOTS if any((root / base / db).is_dir() for db in _DATABASES)]
        if self.annotations is None or not found:
            missing = "Annotations.mat" if self.annotations is None else "image folders"
            raise DataError(
                f"{root}: {card.title} not found ({missing} missing). Expected, with <source> = {root}:\n"
                f"{card.layout.rstrip()}\nRequest the set at {card.request}."
            )
        self.images = found[0]
        self.faces = _read_faces(root / "faces.csv")
        self._mat = _load_mat(self.annotations)

    def read(self, split: str) -> Reading:
        """The people of a split, in the order of the annotation file."""
        images = self._images(split)
        origin = f"{self.annotations}: {split}: person "
        reading = Reading(policies=self.card.policies, images=len(images), origin=origin)
        for image in images:
            for number, person in enumerate(self._persons(image)):
                found = self._person(image, number, person, split, reading)
                reading.people += [found] if found else []
        return reading

    def _images(self, split: str) -> list[Any]:
        if split not in self._mat:
            raise DataError(f"{self.annotations}: no struct array {split!r} in it; is this EMOTIC's Annotations.mat?")
        return _listed(self._mat[split])

    def _persons(self, image: Any) -> list[Any]:
        if not hasattr(image, "person"):
            raise DataError(f"{self.annotations}: {_name(image)}: no field `person`; is this EMOTIC's Annotations.mat?")
        return _listed(image.person)

    def _person(self, image: Any, number: int, person: Any, split: str, reading: Reading) -> Person | None:
        """One person, or None if the policies leave them out."""
        name = f"{_name(image)}#{number}"
        try:
            labels = self._labels(person, split, name, reading)
            x1, y1, x2, y2 = (float(v) for v in person.body_bbox)
            vad = _vad(person.annotations_continuous if split == "train" else person.combined_continuous)
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(f"{reading.origin}{name}: not EMOTIC's fields: {error}") from None
        if labels is None or not _stays(reading, name, labels, vad):
            return None
        # 1-based and inclusive becomes 0-based and half-open: the official loader's columns max(1,x1)-1 up to x2.
        box: Box = (x1 - 1, y1 - 1, x2, y2)
        return Person(name, self.images / _name(image), box, labels, self.faces.get(name), vad)

    def _labels(self, person: Any, split: str, name: str, reading: Reading) -> tuple[str, ...] | None:
        """The person's classes; None where an unknown one leaves them out."""
        raw = person.annotations_categories.categories if split == "train" else person.combined_categories
        found = []
        for spelling in _listed(raw):
            label = self.card.canonical(str(spelling))
            if label is None:
                known = f"known: {', '.join(self.card.classes)} (add a spelling to `aliases` in the card)"
                where = f"{name}: unknown category {str(spelling)!r}; {known}"
                reading.keeps("label_unknown", where, found=str(spelling))
                return None
            if label != spelling:
                reading.keeps("label_alias", f"{name}: {spelling}", found=str(spelling))
            found.append(label)
        return tuple(dict.fromkeys(found))


def _stays(reading: Reading, name: str, labels: tuple[str, ...], vad: tuple[float, ...]) -> bool:
    """Whether a person with these labels and VAD stays."""
    if not labels and not reading.keeps("label_missing", name):
        return False
    if any(map(math.isnan, vad)):
        return reading.keeps("vad_unknown", name)
    return all(1 <= value <= 10 for value in vad) or reading.keeps("vad_outside", name)


def _load_mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat  # slow to import

    try:
        content: dict[str, Any] = loadmat(path, squeeze_me=True, struct_as_record=False)
    except Exception as error:  # scipy raises half a dozen kinds for a file that is no .mat
        raise DataError(f"{path}: can't be read as a MATLAB v5 file: {error}") from None
    return content


def _listed(value: Any) -> list[Any]:
    """A struct array or cell as a list: squeezing turns one element into a scalar, and none into an empty array."""
    if getattr(value, "shape", None) is None or value.shape == ():
        return [value]
    return list(value.ravel())


def _name(image: Any) -> str:
    try:
        return f"{image.folder}/{image.filename}"
    except AttributeError:
        raise DataError(f"Annotations.mat: an image without `folder` or `filename`: {image!r:.80}") from None


def _vad(value: Any) -> tuple[float, float, float]:
    v, a, d = (float(getattr(value, name)) for name in ("valence", "arousal", "dominance"))
    return v, a, d


def _read_faces(path: Path) -> dict[str, Box]:
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if not {"id", "x1", "y1", "x2", "y2"} <= set(rows.fieldnames or ()):
                raise DataError(f"{path}: the header id,x1,y1,x2,y2 is expected, not {rows.fieldnames}")
            return {row["id"]: parse_box(row, f"{path}:{rows.line_num}") for row in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: a CSV in UTF-8 is expected: {error}") from None


def _first(root: Path, candidates: tuple[str, ...]) -> Path | None:
    return next((root / name for name in candidates if (root / name).is_file()), None)
