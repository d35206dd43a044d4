"""EMOTIC's `Annotations.mat` (MATLAB v5 or v7): struct arrays `train`, `val` and `test`, one element an image.

Squeezing turns an array of one into its element, and a cell of one name into a bare string: both are undone here.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clef.datasets.person import Box, Reading, parse_box, parse_path
from clef.errors import DataError

_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Record:
    """One person as annotated, in any form of the annotations."""

    where: str
    """The file and the place in it, for errors."""
    image: str
    """`folder/filename`."""
    box: Box
    """As written: [x1 y1 x2 y2], 1-based and inclusive. NaN when there is none."""
    categories: tuple[str, ...]
    vad: tuple[float, float, float]
    judged: bool = True
    """Whether there are labels by annotator, where there should be."""


def image_path(folder: str, filename: str, where: str) -> str:
    """`folder/filename`, below the folder of the databases in any case."""
    above = folder.strip().replace("\\", "/").strip("/")
    return parse_path(f"{above}/{filename}" if above else filename.lstrip(" /\\"), where)


class MatFile:
    """The annotations in a `.mat` file. Only the split that is asked for is read: the whole is large."""

    people = ""
    """What precedes a person's number in their id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.splits = _variables(path)

    def records(self, split: str, reading: Reading) -> Iterator[Record]:
        """The people of a split, in the order of the file; images that list nobody are noted."""
        if split not in self.splits:
            raise DataError(f"{self.path}: no struct array {split!r} in it; is this EMOTIC's Annotations.mat?")
        for image in _listed(_load(self.path, split)):
            name = self._name(image)
            if not hasattr(image, "person"):
                raise DataError(f"{self.path}: {name}: no field `person`; is this EMOTIC's Annotations.mat?")
            people = _listed(image.person)
            if not people:
                reading.notes["images that list nobody"] += 1
            for number, person in enumerate(people):
                yield _record(person, name, number, split != "train", f"{self.path}: {split}")

    def _name(self, image: Any) -> str:
        try:
            folder, filename = image.folder, image.filename
        except AttributeError:
            raise DataError(f"{self.path}: an image without `folder` or `filename`: {image!r:.80}") from None
        return image_path(_text(folder), _text(filename), f"{self.path}: an image")


def _record(person: Any, image: str, number: int, held: bool, where: str) -> Record:
    """A person of val or test (`held`) was judged by several annotators: what these say together counts."""
    who = f"{where}: person {image}#{number}"
    try:
        names = person.combined_categories if held else _field(person.annotations_categories, "categories")
        said = person.combined_continuous if held else person.annotations_continuous
        categories = tuple(_text(name) for name in _listed(names))
        v, a, d = (_number(_field(said, name)) for name in ("valence", "arousal", "dominance"))
        box = _listed(person.body_bbox)
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{who}: not EMOTIC's fields: {error}") from None
    judged = not held or bool(_listed(getattr(person, "annotations_categories", [])))
    return Record(where, image, parse_box(box or [math.nan] * 4, who), categories, (v, a, d), judged)


def _listed(value: Any) -> list[Any]:
    """A struct array or cell as a list: squeezing turns one element into a scalar, and none into an empty array."""
    if isinstance(value, list):
        return value
    if getattr(value, "shape", None) is None or value.shape == ():
        return [value]
    return list(value.ravel())


def _field(struct: Any, name: str) -> Any:
    """A field of one struct; nothing, as an empty list, where an empty array stands in the struct's place."""
    structs = _listed(struct)
    if len(structs) > 1:
        raise ValueError(f"{len(structs)} structs where one with `{name}` is expected")
    return getattr(structs[0], name) if structs else []


def _number(value: Any) -> float:
    """NaN for an empty array."""
    return math.nan if getattr(value, "size", 1) == 0 or value == [] else float(value)


def _text(value: Any) -> str:
    """A char array as text; an empty one comes as an empty array."""
    return "" if getattr(value, "size", 1) == 0 else str(value)


def _variables(path: Path) -> set[str]:
    from scipy.io import whosmat  # slow to import

    try:
        with path.open("rb") as file:
            if _HDF5 in file.read(1024):
                raise DataError(f"{path}: saved by MATLAB as v7.3 (HDF5); load it there and save it again with -v7")
        return {name for name, _, _ in whosmat(path)}
    except DataError:
        raise
    except Exception as error:  # scipy raises half a dozen kinds for a file that is no .mat
        raise DataError(f"{path}: can't be read as a MATLAB v5 file: {error}") from None


def _load(path: Path, split: str) -> Any:
    from scipy.io import loadmat

    try:
        return loadmat(path, squeeze_me=True, struct_as_record=False, variable_names=[split])[split]
    except Exception as error:  # likewise
        raise DataError(f"{path}: {split}: can't be read as a MATLAB v5 file: {error}") from None
