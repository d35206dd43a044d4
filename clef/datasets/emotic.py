"""EMOTIC in every layout in circulation: annotations as `.mat` or CSV, beside or above `<database>/images`.

EMOTIC's annotations as common ports convert them: `train.csv`, `val.csv`, `test.csv`, a row a person.

Lists are Python literals. The ports drop people of unknown VAD, and cut boxes to the frame without making them 0-based.

EMOTIC's `Annotations.mat` (MATLAB v5 or v7): struct arrays `train`, `val` and `test`, one element an image.

Squeezing turns an array of one into its element, and a cell of one name into a bare string: both are undone here.
"""

import ast
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clef.config import Strict
from clef.config.base import validate
from clef.datasets import parsing
from clef.datasets.cards import Card
from clef.datasets.parsing import Faults, LeftOut, Row, column_names, read_rows
from clef.datasets.person import Box, Person, Reading, parse_box, parse_path
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
                yield _mat_record(person, name, number, split != "train", f"{self.path}: {split}")

    def _name(self, image: Any) -> str:
        try:
            folder, filename = image.folder, image.filename
        except AttributeError:
            raise DataError(f"{self.path}: an image without `folder` or `filename`: {image!r:.80}") from None
        return image_path(_text(folder), _text(filename), f"{self.path}: an image")


def _mat_record(person: Any, image: str, number: int, held: bool, where: str) -> Record:
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


SPLITS = ("train", "val", "test")
_COLUMNS = ("folder", "filename", "bbox", "categoricallabels", "continuouslabels")
_LONGEST = 2000
"""Characters of a literal. All 26 categories take under 400; what is much longer may not even be parsed."""


class CsvFiles:
    """The annotations in a folder of CSV files."""

    people = "csv"
    """People are numbered within what the port left, not as in the `.mat`: their ids must not be taken for its."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self, split: str, reading: Reading) -> Iterator[Record]:
        """The people of a split, in the order of its file."""
        path = self.path / f"{split}.csv"
        table = read_rows(path)
        columns = {_plain(name): name for name in table.header}
        if lacking := [name for name in _COLUMNS if name not in columns]:
            raise DataError(
                f"{path}: no column {' or '.join(lacking)}; Index, Folder, Filename, Image Size, BBox, "
                f"Categorical_Labels, Continuous_Labels, Gender, Age are expected, not {column_names(table.header)}"
            )
        for row in table.rows:
            yield _record(Row(row.where, {name: row.values[columns[name]] for name in _COLUMNS}))


def _record(row: Row) -> Record:
    box = _numbers(row, "bbox", 4)
    v, a, d = _numbers(row, "continuouslabels", 3)
    categories = tuple(_literal(row, "categoricallabels", str))
    image = image_path(row.values["folder"], row.values["filename"], row.where)
    return Record(row.where, image, parse_box(box, row.where), categories, (v, a, d))


def _numbers(row: Row, column: str, length: int) -> list[float]:
    """So many numbers, `nan` among them; an empty list is as many NaN."""
    values = _literal(row, column, (int, float, type(None))) or [None] * length
    try:
        if len(values) == length:
            return [math.nan if value is None else float(value) for value in values]
    except OverflowError:
        pass
    raise DataError(f"{row.where}: {column}: {length} numbers are expected, not {row.values[column]!r:.80}")


def _literal(row: Row, column: str, kinds: type | tuple[type, ...]) -> list[Any]:
    """The list in a field. Where it isn't one of names, `nan` may stand for a number: None."""
    text = row.values[column].strip()
    try:
        if len(text) > _LONGEST:
            raise ValueError
        value = ast.literal_eval(text if kinds is str else re.sub(r"\bnan\b", "None", text))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, kinds) and type(v) is not bool for v in value):
        raise DataError(f"{row.where}: {column}: a list as Python prints it is expected, not {text!r:.80}")
    return list(value)


def _plain(name: str) -> str:
    """A column's name without what differs between copies: case, blanks, underscores."""
    return re.sub(r"[\s_-]", "", name).lower()


_DATABASES = ("mscoco", "framesdb", "emodb_small", "ade20k")
_FOLDERS = ("emotic", ".", "emotic/emotic", "PAMI", "PAMI/emotic", "PAMI/emotic/emotic", "cvpr_emotic")
"""Where the databases or the annotations may lie: the zip nests itself, and some keep both releases apart."""
_MAT_FILES = ("Annotations.mat", "CVPR17_Annotations.mat")
"""The release of 2019 goes before that of 2017."""
_CSV_FOLDERS = (".", "Annotations", "emotic_pre")


class Options(Strict):
    """What a card may say in `reader_options`."""

    annotations: str | None = None
    """The `.mat` file, or the folder of the CSV files, below the source. Unless stated, it is looked for."""
    form: Literal["mat", "csv"] | None = None
    """Which of the two is looked for. Unless stated, the `.mat` goes first."""
    box_origin: Literal[0, 1] = 1
    """Whether the boxes count pixels from 0 and are half-open, or from 1 and are inclusive, as EMOTIC's are."""


class Emotic:
    """Reads train, val and test, as the official splits have them."""

    def __init__(self, root: Path, card: Card) -> None:
        self.root, self.card = root, card
        self.options = validate(Options, card.reader_options, f"card {card.name}: reader_options")
        self.images = [root / base for base in _FOLDERS if any((root / base / db).is_dir() for db in _DATABASES)]
        candidates = self._candidates()
        if not candidates or not self.images:
            missing = (
                "image folders" if candidates else "train.csv" if self.options.form == "csv" else "Annotations.mat"
            )
            raise DataError(
                f"{root}: {card.title} not found ({missing} missing). Expected, with <source> = {root}:\n"
                f"{card.layout.rstrip()}\nRequest the set at {card.request}."
            )
        chosen, *others = candidates
        self.annotations = CsvFiles(chosen) if chosen.is_dir() else MatFile(chosen)
        self.told = f"annotations from {self._shown(chosen)}"
        self.told += f", not from {', '.join(map(self._shown, others))}" if others else ""
        self.faces = _read_faces(root / "faces.csv")

    def read(self, split: str) -> Reading:
        """The people of a split, in the order of the annotation file."""
        reading = Reading(policies=self.card.policies)
        numbers = Counter[str]()
        for record in self.annotations.records(split, reading):
            name = f"{record.image}#{self.annotations.people}{numbers[record.image]}"
            numbers[record.image] += 1
            try:
                reading.people.append(self._person(record, name, Faults(reading, f"{record.where}: person {name}")))
            except LeftOut:
                continue
        reading.images = len(numbers)
        reading.notes[self.told] += reading.listed
        return reading

    def _person(self, record: Record, name: str, met: Faults) -> Person:
        if not record.judged:
            met.add("annotators_missing")
        labels = parsing.labels(self.card, record.categories, met)
        vad = parsing.vad(record.vad, met)
        x1, y1, x2, y2 = record.box
        # 1-based and inclusive becomes 0-based and half-open: the official loader's columns max(1,x1)-1 up to x2.
        first = self.options.box_origin
        box: Box = (x1 - first, y1 - first, x2, y2)
        return Person(name, self._locate(record.image), box, labels, self.faces.get(name), vad, met.flags())

    def _locate(self, image: str) -> Path:
        """Where an image lies: in the first of several folders that has it."""
        first, *others = (folder / image for folder in self.images)
        return next((place for place in (first, *others) if place.is_file()), first) if others else first

    def _candidates(self) -> list[Path]:
        """All annotations of the form that is asked for, the ones to be read first."""
        if stated := self.options.annotations:
            if not (self.root / stated).exists():
                raise DataError(f"{self.root / stated}: not there; reader_options.annotations names it")
            return [self.root / stated]
        mats = [
            self.root / base / folder / name
            for name in _MAT_FILES
            for base in (".", *_FOLDERS)
            for folder in ("Annotations", ".")
        ]
        csvs = [self.root / base / folder for base in (".", *_FOLDERS) for folder in _CSV_FOLDERS]
        found = [path for path in mats if self._is("mat") and path.is_file()]
        found += [path for path in csvs if self._is("csv") and any((path / f"{s}.csv").is_file() for s in SPLITS)]
        return list(dict.fromkeys(found))

    def _is(self, form: str) -> bool:
        return self.options.form in (None, form)

    def _shown(self, path: Path) -> str:
        name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        return f"{{train,val,test}}.csv in {name}" if path.is_dir() else name


def _read_faces(path: Path) -> dict[str, Box]:
    """Face boxes by person's id, from a file that is optional."""
    if not path.is_file():
        return {}
    table = read_rows(path)
    if not {"id", "x1", "y1", "x2", "y2"} <= set(table.header):
        raise DataError(f"{path}: the header id,x1,y1,x2,y2 is expected, not {column_names(table.header)}")
    faces: dict[str, Box] = {}
    for row in table.rows:
        box = parse_box(row.values, row.where)
        if faces.setdefault(row.values["id"], box) != box:
            raise DataError(f"{row.where}: another face of {row.values['id']!r:.80} stands further up")
    return faces
