"""EMOTIC in every layout in circulation: annotations as `.mat` or CSV, beside or above `<database>/images`."""

from collections import Counter
from pathlib import Path
from typing import Literal

from clef.cards import Card
from clef.config import Strict
from clef.config.base import validate
from clef.datasets import faults
from clef.datasets.emotic_csv import SPLITS, CsvFiles
from clef.datasets.emotic_mat import MatFile, Record
from clef.datasets.faults import Faults, LeftOut
from clef.datasets.person import Box, Person, Reading, parse_box
from clef.datasets.rows import column_names, read_rows
from clef.errors import DataError

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
        labels = faults.labels(self.card, record.categories, met)
        vad = faults.vad(record.vad, met)
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
