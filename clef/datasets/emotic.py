"""EMOTIC in every layout in which it circulates: the annotations as a `.mat` file or as CSV files, and the images.

The official annotations are `Annotations.mat` (MATLAB v5 or v7): struct arrays `train`, `val` and `test`, one element
for each image. Common ports convert them to `train.csv`, `val.csv` and `test.csv`, one row for each person. The ports
drop people whose VAD is unknown, and cut boxes to the frame without making them 0-based.
"""

from collections import Counter
from pathlib import Path
from typing import Literal

from clef.datasets.cards import Card
from clef.datasets.emotic_annotations import Annotation, CsvAnnotations, MatAnnotations
from clef.datasets.parsing import (
    Faults,
    LeftOut,
    column_names,
    look_rescaled,
    parse_labels,
    parse_vad,
    read_csv,
    require_pixels,
)
from clef.datasets.person import Person, Reading, parse_box
from clef.errors import DataError
from clef.geometry import Box
from clef.yaml_config import Strict, validate

SPLITS = ("train", "val", "test")
_DATABASES = ("mscoco", "framesdb", "emodb_small", "ade20k")
_FOLDERS = ("emotic", ".", "emotic/emotic", "PAMI", "PAMI/emotic", "PAMI/emotic/emotic", "cvpr_emotic")
"""Where the databases or the annotations may lie: the zip nests itself, and some keep both releases apart."""
_MAT_FILES = ("Annotations.mat", "CVPR17_Annotations.mat")
"""The release of 2019 is preferred to that of 2017."""
_CSV_FOLDERS = (".", "Annotations", "emotic_pre")


class EmoticOptions(Strict):
    """What a card may state in `reader_options`."""

    annotations: str | None = None
    """The `.mat` file, or the folder of the CSV files, below the source. Unless stated, it is looked for."""
    form: Literal["mat", "csv"] | None = None
    """Which of the two is looked for. Unless stated, a `.mat` file is preferred."""
    box_origin: Literal[0, 1] = 1
    """Whether boxes count pixels from 0 and are half-open, or from 1 and are inclusive, as EMOTIC's are."""


class Emotic:
    """Reads train, val and test, as the official splits have them."""

    def __init__(self, root: Path, card: Card) -> None:
        self.root, self.card = root, card
        self.options = validate(EmoticOptions, card.reader_options, f"card {card.name}: reader_options")
        self.image_folders = [root / base for base in _FOLDERS if any((root / base / db).is_dir() for db in _DATABASES)]
        candidates = self._find_annotations()
        if not candidates or not self.image_folders:
            missing = (
                "image folders" if candidates else "train.csv" if self.options.form == "csv" else "Annotations.mat"
            )
            raise DataError(
                f"{root}: {card.title} not found ({missing} missing). Expected, with <source> = {root}:\n"
                f"{card.layout.rstrip()}\nRequest the set at {card.request}."
            )
        chosen, *others = candidates
        self.annotations = CsvAnnotations(chosen) if chosen.is_dir() else MatAnnotations(chosen)
        self.note = f"annotations from {self._relative(chosen)}"
        self.note += f", not from {', '.join(map(self._relative, others))}" if others else ""
        self.faces = _read_faces(root / "faces.csv")
        self.faces_counted = False
        self.lists: dict[str, tuple[dict[str, Annotation], Counter[str]]] = {}

    def read(self, split: str) -> Reading:
        """Return the people of a split, in the order of the annotation file. Raises DataError."""
        reading = Reading(policies=self.card.policies)
        self._count_unmatched_faces(reading)
        listed, notes = self._list_people(split)
        reading.notes += notes
        for person_id, annotation in listed.items():
            faults = Faults(reading, f"{annotation.where}: person {person_id}")
            try:
                reading.people.append(self._make_person(annotation, person_id, faults))
            except LeftOut:
                continue
        require_pixels([person.box for person in reading.people if person.box], f"{self.annotations.path}: {split}")
        if look_rescaled(value for person in reading.people for value in person.vad or ()):
            raise DataError(
                f"{self.annotations.path}: {split}: valence, arousal and dominance lie between -1 and 1; EMOTIC's are "
                "1 to 10: multiply or shift them back"
            )
        reading.images = len({annotation.image for annotation in listed.values()})
        reading.notes[self.note] += reading.listed
        return reading

    def _list_people(self, split: str) -> tuple[dict[str, Annotation], Counter[str]]:
        """Return the annotations of a split by the person's id, in order, and notes about them. They are read once."""
        if split not in self.lists:
            people_of, scratch = Counter[str](), Reading()
            people: dict[str, Annotation] = {}
            for annotation in self.annotations.read(split, scratch):
                people[f"{annotation.image}#{self.annotations.id_prefix}{people_of[annotation.image]}"] = annotation
                people_of[annotation.image] += 1
            self.lists[split] = people, scratch.notes
        return self.lists[split]

    def _count_unmatched_faces(self, reading: Reading) -> None:
        """Count the rows of the face file that match nobody in any split, once: with the first split that is read."""
        unmatched = {} if self.faces_counted else {name: where for name, (_, where) in self.faces.items()}
        self.faces_counted = True
        for split in SPLITS if unmatched else ():
            for name in self._list_people(split)[0] if self.annotations.has(split) else ():
                unmatched.pop(name, None)
        for where in unmatched.values():
            reading.keeps("box_unmatched", where)

    def _make_person(self, annotation: Annotation, person_id: str, faults: Faults) -> Person:
        if not annotation.has_annotators:
            faults.add("annotators_missing")
        labels = parse_labels(self.card, annotation.categories, faults)
        vad = parse_vad(annotation.vad, faults)
        x1, y1, x2, y2 = annotation.box
        # 1-based and inclusive becomes 0-based and half-open: the official loader takes columns max(1,x1)-1 up to x2.
        origin = self.options.box_origin
        box: Box = (x1 - origin, y1 - origin, x2, y2)
        image = self._locate(annotation.image)
        face, _ = self.faces.get(person_id, (None, ""))
        size = annotation.image_size
        return Person(person_id, image, box, labels, face, vad, faults.count(), image_size=size)

    def _locate(self, image: str) -> Path:
        """Return where an image lies: in the first of the image folders that has it."""
        first, *others = (folder / image for folder in self.image_folders)
        return next((path for path in (first, *others) if path.is_file()), first) if others else first

    def _find_annotations(self) -> list[Path]:
        """Return all annotations of the form that is asked for, the preferred ones first."""
        if stated := self.options.annotations:
            if not (self.root / stated).exists():
                raise DataError(f"{self.root / stated}: no such file or folder; reader_options.annotations names it")
            return [self.root / stated]
        mats = [
            self.root / base / folder / name
            for name in _MAT_FILES
            for base in (".", *_FOLDERS)
            for folder in ("Annotations", ".")
        ]
        csvs = [self.root / base / folder for base in (".", *_FOLDERS) for folder in _CSV_FOLDERS]
        paths: list[Path] = []
        if self.options.form != "csv":
            paths += [path for path in mats if path.is_file()]
        if self.options.form != "mat":
            paths += [path for path in csvs if any((path / f"{split}.csv").is_file() for split in SPLITS)]
        return list(dict.fromkeys(paths))

    def _relative(self, path: Path) -> str:
        """Return the annotations' path below the source, for notes."""
        name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
        return f"{{train,val,test}}.csv in {name}" if path.is_dir() else name


def _read_faces(path: Path) -> dict[str, tuple[Box, str]]:
    """Return face boxes and where they are stated by a person's id, from an optional CSV of id, x1, y1, x2, y2."""
    if not path.is_file():
        return {}
    table = read_csv(path)
    if not {"id", "x1", "y1", "x2", "y2"} <= set(table.header):
        raise DataError(f"{path}: the header id,x1,y1,x2,y2 is expected, not {column_names(table.header)}")
    faces: dict[str, tuple[Box, str]] = {}
    for row in table.rows:
        box, name = parse_box(row.values, row.where), row.values["id"].strip().replace("\\", "/")
        if faces.setdefault(name, (box, row.where))[0] != box:
            raise DataError(f"{row.where}: another face of {name!r:.80} is in an earlier row")
    require_pixels([box for box, _ in faces.values()], str(path))
    return faces
