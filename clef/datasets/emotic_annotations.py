"""EMOTIC's annotations in their two forms: the `.mat` file as it is distributed, and the CSV files of common ports."""

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clef.datasets.parsing import CsvRow, column_names, read_csv
from clef.datasets.person import Reading, parse_box, parse_path
from clef.errors import DataError, raise_if_system_error
from clef.geometry import Box, Size


@dataclass(frozen=True)
class Annotation:
    """One person as annotated, in either form of the annotations."""

    where: str
    """The file and the place in it, for errors."""
    image: str
    """`folder/filename`."""
    box: Box
    """As written: [x1 y1 x2 y2], 1-based and inclusive; NaN when there is none."""
    categories: tuple[str, ...]
    vad: tuple[float, float, float]
    has_annotators: bool = True
    """Whether there are labels by annotator, in a split where there should be."""
    image_size: Size | None = None
    """Height and width of the image, where they are stated."""


def _join_image_path(folder: str, filename: str, where: str) -> str:
    """Return `folder/filename`, relative to the folder of the databases even where it is written as absolute."""
    folder = folder.strip().replace("\\", "/").strip("/")
    return parse_path(f"{folder}/{filename}" if folder else filename.lstrip(" /\\"), where)


# The `.mat` file. SciPy squeezes it while loading: an array of one becomes its element, and a cell of one name becomes
# a bare string. The helpers below undo that.

_HDF5 = b"\x89HDF\r\n\x1a\n"


class MatAnnotations:
    """The annotations in a `.mat` file. Only the split that is asked for is loaded, because the file is large."""

    id_prefix = ""
    """What precedes a person's number in their id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.splits = _read_variable_names(path)

    def has(self, split: str) -> bool:
        """Return whether the split is there."""
        return split in self.splits

    def read(self, split: str, reading: Reading) -> Iterator[Annotation]:
        """Yield the people of a split, in the order of the file; count images without people in `reading.notes`."""
        if split not in self.splits:
            raise DataError(f"{self.path}: no struct array {split!r} in it; is this EMOTIC's Annotations.mat?")
        for image in _as_list(_load_split(self.path, split)):
            path = self._image_path(image)
            if not hasattr(image, "person"):
                raise DataError(f"{self.path}: {path}: no field `person`; is this EMOTIC's Annotations.mat?")
            people = _as_list(image.person)
            if not people:
                reading.notes["images that list nobody"] += 1
            for number, person in enumerate(people):
                yield replace(_mat_annotation(person, path, number, split, self.path), image_size=_mat_size(image))

    def _image_path(self, image: Any) -> str:
        try:
            folder, filename = image.folder, image.filename
        except AttributeError:
            raise DataError(f"{self.path}: an image without `folder` or `filename`: {image!r:.80}") from None
        return _join_image_path(_mat_text(folder), _mat_text(filename), f"{self.path}: an image")


def _mat_annotation(person: Any, image: str, number: int, split: str, path: Path) -> Annotation:
    where = f"{path}: {split}"
    who = f"{where}: person {image}#{number}"
    combined = split != "train"  # several annotators judged val and test: what they say together counts
    try:
        names = person.combined_categories if combined else _mat_field(person.annotations_categories, "categories")
        vad = person.combined_continuous if combined else person.annotations_continuous
        categories = tuple(_mat_text(name) for name in _as_list(names))
        v, a, d = (_mat_number(_mat_field(vad, name)) for name in ("valence", "arousal", "dominance"))
        box = _as_list(person.body_bbox)
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{who}: not EMOTIC's fields: {error}") from None
    has_annotators = not combined or bool(_as_list(getattr(person, "annotations_categories", [])))
    return Annotation(where, image, parse_box(box or [math.nan] * 4, who), categories, (v, a, d), has_annotators)


def _mat_size(image: Any) -> Size | None:
    """Return height and width from the field `image_size`; None where it has no numbers."""
    try:
        height, width = (_mat_number(_mat_field(image.image_size, name)) for name in ("n_row", "n_col"))
        return int(height), int(width)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None


def _as_list(value: Any) -> list[Any]:
    """Return a struct array or cell as a list, whatever squeezing made of one element (a scalar) or of none."""
    if isinstance(value, list):
        return value
    if getattr(value, "shape", None) is None or value.shape == ():
        return [value]
    return list(value.ravel())


def _mat_field(struct: Any, name: str) -> Any:
    """Return a field of one struct, or an empty list where an empty array stands in the struct's place."""
    structs = _as_list(struct)
    if len(structs) > 1:
        raise ValueError(f"{len(structs)} structs where one with `{name}` is expected")
    return getattr(structs[0], name) if structs else []


def _mat_number(value: Any) -> float:
    """Return a number; NaN for an empty array."""
    return math.nan if getattr(value, "size", 1) == 0 or value == [] else float(value)


def _mat_text(value: Any) -> str:
    """Return a char array as text; an empty text comes as an empty array."""
    return "" if getattr(value, "size", 1) == 0 else str(value)


def _read_variable_names(path: Path) -> set[str]:
    from scipy.io import whosmat  # slow to import

    try:
        with path.open("rb") as file:
            if _HDF5 in file.read(1024):
                raise DataError(f"{path}: saved by MATLAB as v7.3 (HDF5); load it there and save it again with -v7")
        return {name for name, _, _ in whosmat(path)}
    except DataError:
        raise
    except Exception as error:  # SciPy raises many types of errors for a file that isn't a `.mat` file
        raise_if_system_error(error, path)
        raise DataError(f"{path}: can't be read as a MATLAB v5 file: {error}") from None


def _load_split(path: Path, split: str) -> Any:
    from scipy.io import loadmat

    try:
        return loadmat(path, squeeze_me=True, struct_as_record=False, variable_names=[split])[split]
    except Exception as error:  # see above
        raise_if_system_error(error, path)
        raise DataError(f"{path}: {split}: can't be read as a MATLAB v5 file: {error}") from None


# The CSV files. Lists in their fields are Python literals.

_COLUMNS = ("folder", "filename", "bbox", "categoricallabels", "continuouslabels")
_SIZE_COLUMN = "imagesize"
_MAX_LITERAL = 2000
"""Characters of a literal. All 26 categories take under 400; Python may fail to parse a much longer one."""


class CsvAnnotations:
    """The annotations in a folder of CSV files."""

    id_prefix = "csv"
    """The ports number the people whom they kept, so these ids must differ from those of the `.mat` file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, split: str) -> bool:
        """Return whether the split is there."""
        return (self.path / f"{split}.csv").is_file()

    def read(self, split: str, reading: Reading) -> Iterator[Annotation]:
        """Yield the people of a split, in the order of its file."""
        path = self.path / f"{split}.csv"
        table = read_csv(path)
        columns = {_plain_column_name(name): name for name in table.header}
        if missing := [name for name in _COLUMNS if name not in columns]:
            raise DataError(
                f"{path}: no column {' or '.join(missing)}; Index, Folder, Filename, Image Size, BBox, "
                f"Categorical_Labels, Continuous_Labels, Gender, Age are expected, not {column_names(table.header)}"
            )
        for row in table.rows:
            names = {name: row.values[column] for name, column in columns.items() if name in (*_COLUMNS, _SIZE_COLUMN)}
            yield _csv_annotation(CsvRow(row.where, names))


def _csv_annotation(row: CsvRow) -> Annotation:
    box = _csv_numbers(row, "bbox", 4)
    v, a, d = _csv_numbers(row, "continuouslabels", 3)
    categories = tuple(_csv_list(row, "categoricallabels", str))
    image = _join_image_path(row.values["folder"], row.values["filename"], row.where)
    return Annotation(row.where, image, parse_box(box, row.where), categories, (v, a, d), image_size=_csv_size(row))


def _csv_size(row: CsvRow) -> Size | None:
    """Return height and width from the optional column of sizes, which the ports write as [width, height]."""
    try:
        width, height = _csv_numbers(row, _SIZE_COLUMN, 2)
        return int(height), int(width)
    except (KeyError, DataError, ValueError, OverflowError):
        return None


def _csv_numbers(row: CsvRow, column: str, length: int) -> list[float]:
    """Return the numbers in a field, which may include `nan`; an empty list stands for `length` times NaN."""
    values = _csv_list(row, column, (int, float, type(None))) or [None] * length
    try:
        if len(values) == length:
            return [math.nan if value is None else float(value) for value in values]
    except OverflowError:
        pass
    raise DataError(f"{row.where}: {column}: {length} numbers are expected, not {row.values[column]!r:.80}")


def _csv_list(row: CsvRow, column: str, types: type | tuple[type, ...]) -> list[Any]:
    """Return the list in a field, whose items must be of `types`. In a list of numbers, `nan` is read as None."""
    text = row.values[column].strip()
    try:
        if len(text) > _MAX_LITERAL:
            raise ValueError
        items = ast.literal_eval(text if types is str else re.sub(r"\bnan\b", "None", text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        items = None
    if not isinstance(items, (list, tuple)) or not all(isinstance(v, types) and type(v) is not bool for v in items):
        raise DataError(f"{row.where}: {column}: a list as Python prints it is expected, not {text!r:.80}")
    return list(items)


def _plain_column_name(name: str) -> str:
    """Return a column's name without what differs between copies: case, blanks, underscores, hyphens."""
    return re.sub(r"[\s_-]", "", name).lower()
