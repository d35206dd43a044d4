"""Any dataset of people in images, as one CSV file or one for each split: `path, x1, y1, x2, y2, labels, split`, ...

docs/datasets.md shows the columns, and how a card alone reads a table that calls them otherwise.
"""

import hashlib
import math
import unicodedata
from collections import Counter
from pathlib import Path

from clef.datasets import folders
from clef.datasets.cards import Card
from clef.datasets.orientation import read_size
from clef.datasets.parsing import (
    CsvRow,
    Faults,
    LeftOut,
    look_relative,
    look_rescaled,
    look_sized,
    parse_labels,
    parse_vad,
)
from clef.datasets.person import Person, Reading, parse_box, parse_path
from clef.datasets.table_file import BOX, FACE, VAD, Table, TableOptions, check_options, is_set, read_table
from clef.errors import DataError
from clef.geometry import Box, Size
from clef.yaml_config import unknown, validate

_SWAP_DECIMALS = str.maketrans(",.", ".,")


class TableReader:
    """Reads the people of a table. An empty box is the whole frame; an empty face box means no face."""

    def __init__(self, root: Path, card: Card) -> None:
        where = f"card {card.name}: reader_options"
        self.card = card
        self.options = validate(TableOptions, card.reader_options, where)
        self.splits = {split.split for split in card.splits.values()} | set(self.options.ignore_splits)
        """The names of splits that the table may use."""
        check_options(self.options, self.splits, card, where)
        self.root = folders.find_nested(root, self._has_table) or root
        self.note = "" if self.root == root else f"the dataset is in {self.root.relative_to(root).as_posix()}"
        self.images = folders.find(self.root, self.options.images)
        self.paths: dict[str, Path] = {}
        """Where images lie, by path in the table: looked up once, because file systems can be slow."""
        self.sizes: dict[Path, Size | None] = {}
        """Height and width of images whose boxes are relative."""

    def read(self, split: str) -> Reading:
        """Return the people of a split, in the order of the table. Raises DataError."""
        reading = Reading(policies=self.card.policies)
        table = read_table(self._table_path(split), self.options, self.card)
        self._check_units(table)
        images = [parse_path(row.values["path"], row.where) for row in table.rows]
        ids, people_of, of_split = set[str](), Counter[str](), set[str]()
        for row, image, part in zip(table.rows, images, self._split_rows(table, images, split), strict=True):
            person_id = row.values.get("id", "").strip() or f"{image}#{people_of[image]}"
            people_of[image] += 1
            if person_id in ids:
                raise DataError(f"{row.where}: the id {person_id!r:.80} is in an earlier row, too")
            ids.add(person_id)
            if part == split:
                self._add_person(row, table, person_id, self._locate(image, table.path), reading)
                of_split.add(image)
        reading.images = len(of_split)
        for note in (self.note, self._describe_cut(table, split)):
            reading.notes += Counter({note: reading.listed} if note else {})
        return reading

    # The table and its splits

    def _has_table(self, folder: Path) -> bool:
        return any(folders.find(folder, self._file_of(split)).is_file() for split in self.splits)

    def _file_of(self, split: str) -> str:
        return self.options.file.replace("{split}", split)

    def _table_path(self, split: str) -> Path:
        path = folders.find(self.root, self._file_of(self._cut_from(split)))
        if not path.is_file():
            hint = " reader_options.val_fraction cuts a val from train." if split == self._val else ""
            raise DataError(
                f"{path}: {self.card.title} not found. Expected, with <source> = {self.root}:\n"
                f"{self.card.layout.rstrip()}\nRequest the set at {self.card.request}.{hint}"
            )
        return path

    @property
    def _val(self) -> str | None:
        """Return what the source calls val."""
        return self.card.splits["val"].split if "val" in self.card.splits else None

    def _cut_from(self, split: str) -> str:
        """Return the split of the table that has the people of a split of the card: train for a val that is cut."""
        return self.card.splits["train"].split if self.options.val_fraction and split == self._val else split

    def _split_rows(self, table: Table, images: list[str], requested: str) -> list[str]:
        """Return the split of each row, as the card's `splits` call it."""
        if self.options.parts:
            groups = _groups(table, images)
            return [_hash_to_part(_hash(group, self.options.seed), self.options.parts) for group in groups]
        stated = [self._stated_split(row, requested) for row in table.rows]
        if not self.options.val_fraction:
            if stated and requested not in stated:
                hint = "; reader_options.val_fraction cuts one from train" if requested == self._val else ""
                splits = ", ".join(dict.fromkeys(stated))
                raise DataError(f"{table.path}: no row is of split {requested!r}; there are: {splits}{hint}")
            return stated
        train, val = self._cut_from(str(self._val)), str(self._val)
        groups = _groups(table, images)
        of_train = {group for group, split in zip(groups, stated, strict=True) if split == train}
        ordered = sorted(of_train, key=lambda group: _hash(group, self.options.seed))
        held_out = set(ordered[: max(1, round(len(ordered) * self.options.val_fraction))])
        pairs = zip(groups, stated, strict=True)
        return [val if split == train and group in held_out else split for group, split in pairs]

    def _stated_split(self, row: CsvRow, requested: str) -> str:
        if not self.options.by_column:
            return self._cut_from(requested)
        split = row.values["split"].strip()
        if split not in self.splits:
            message = unknown(f"{row.where}: split {split!r:.80}", split, self.splits)
            raise DataError(f"{message} (or reader_options.ignore_splits names it)")
        if self.options.val_fraction and split == self._val:
            raise DataError(
                f"{row.where}: a row of {split!r}, which reader_options.val_fraction says is cut from train"
            )
        return split

    def _describe_cut(self, table: Table, split: str) -> str:
        """Return a note on how a split was cut; nothing where the source states it, or by image with the seed 0."""
        by = "subject" if table.rows and "subject" in table.rows[0].values else "image"
        if self.options.val_fraction and split == self._val:
            return f"cut from train by {by}: a share of {self.options.val_fraction:g}, seed {self.options.seed}"
        changed = self.options.parts and (by == "subject" or self.options.seed)
        return f"cut by {by}, seed {self.options.seed}" if changed else ""

    # The people

    def _add_person(self, row: CsvRow, table: Table, person_id: str, image: Path, reading: Reading) -> None:
        """Add the person of a row to the reading, unless the policies leave them out."""
        faults = Faults(reading, f"{row.where}: {person_id}")
        box, face = self._box(row, BOX, image), self._box(row, FACE, image)
        values = self._vad(row) if self.card.vad else None
        try:
            labels = parse_labels(self.card, self._spellings(row, table), faults)
            vad = parse_vad(values, faults) if values else None
        except LeftOut:
            return
        reading.people.append(Person(person_id, image, box, labels, face, vad, faults.count()))

    def _spellings(self, row: CsvRow, table: Table) -> list[str]:
        if table.classes:
            return [column for column in table.classes if is_set(row, column)]
        texts = row.values["labels"].replace("|", ";").split(";")
        return [text.strip() for text in texts if text.strip()]

    def _box(self, row: CsvRow, columns: tuple[str, ...], image: Path) -> Box | None:
        """Return a box in pixels."""
        box = self._stated_box(row, columns)
        if box is None:
            return None
        if self.options.boxes == "relative":
            return self._to_pixels(box, row, image)
        x1, y1, x2, y2 = box
        origin = self.options.box_origin  # an inclusive 1-based end is a half-open 0-based one
        return x1 - origin, y1 - origin, x2, y2

    def _stated_box(self, row: CsvRow, columns: tuple[str, ...]) -> Box | None:
        texts = [self._number_text(row, column) for column in columns]
        if not any(texts):
            return None
        x1, y1, x2, y2 = parse_box(texts, row.where)
        if self.options.box_form == "size":
            return x1, y1, x1 + x2 - self.options.box_origin, y1 + y2 - self.options.box_origin
        return x1, y1, x2, y2

    def _to_pixels(self, box: Box, row: CsvRow, image: Path) -> Box:
        """Return a box that is in shares of the frame in pixels; NaN where the image can't be read: it is left out."""
        if any(not -1 <= side <= 2 for side in box if not math.isnan(side)):
            raise DataError(
                f"{row.where}: a box between 0 and 1 is expected (reader_options.boxes: relative), not {box}"
            )
        if image not in self.sizes:
            self.sizes[image] = read_size(image, turned=self.card.policies.image_rotated == "turned")
        height, width = self.sizes[image] or (math.nan, math.nan)
        x1, y1, x2, y2 = box
        return x1 * width, y1 * height, x2 * width, y2 * height

    def _vad(self, row: CsvRow) -> list[float]:
        """Return valence, arousal and dominance, 1-10."""
        values = [_parse_number(self._number_text(row, column), row, column) for column in VAD]
        if self.options.vad_range is None:
            return values
        low, high = self.options.vad_range
        return [1 + (value - low) * 9 / (high - low) for value in values]

    def _number_text(self, row: CsvRow, column: str) -> str:
        """Return a number's text with a decimal point."""
        text = row.values.get(column, "").strip()
        if self.options.decimal == ",":
            return text.translate(_SWAP_DECIMALS)  # a point, which may separate thousands, is then no number
        if "," in text:
            hint = 'reader_options.decimal: "," reads decimal commas'
            raise DataError(f"{row.where}: {column}: a number is expected, not {text!r:.80}; {hint}")
        return text

    def _check_units(self, table: Table) -> None:
        """Raise DataError for boxes or VAD that seem to be in other units than usual, unless the card states which."""
        for columns, what in ((BOX, "boxes"), (FACE, "face boxes")):
            boxes = [box for row in table.rows if (box := self._stated_box(row, columns))]
            if self.options.boxes is None and look_relative(boxes):
                raise DataError(
                    f"{table.path}: all {what} lie between 0 and 1, so they seem to be shares of the frame. "
                    "State in the card which they are: reader_options.boxes: relative, or pixels"
                )
            if self.options.box_form is None and look_sized(boxes):
                raise DataError(
                    f"{table.path}: many {what} end before they begin, so {columns[2]}, {columns[3]} seem to be width "
                    "and height. State in the card which they are: reader_options.box_form: size, or corners"
                )
        asked = self.card.vad and self.options.vad_range is None
        if asked and look_rescaled(value for row in table.rows for value in self._vad(row)):
            raise DataError(
                f"{table.path}: {', '.join(VAD)} lie between -1 and 1, where 1 to 10 is usual. "
                "State in the card what they range over, such as reader_options.vad_range: [-1, 1], or [1, 10]"
            )

    def _locate(self, image: str, table: Path) -> Path:
        """Return where an image lies: below `images`, or else beside the table."""
        if image not in self.paths:
            # Names with accents may be in another form on disk than in the table, such as those from a Mac.
            names = dict.fromkeys((image, *(unicodedata.normalize(form, image) for form in ("NFC", "NFD"))))
            paths = [folder / name for name in names for folder in (self.images, table.parent)]
            self.paths[image] = next((path for path in paths if path.is_file()), paths[0])
        return self.paths[image]


def _groups(table: Table, images: list[str]) -> list[str]:
    """Return what must not be divided among splits, for each row: the subject where one is stated, else the image."""
    return [row.values.get("subject", "").strip() or image for row, image in zip(table.rows, images, strict=True)]


def _hash(group: str, seed: int) -> float:
    """Return a number, 0-1, that depends on the group's name, the seed and nothing else."""
    text = f"{seed} {group}" if seed else group
    return int.from_bytes(hashlib.sha256(text.encode(errors="backslashreplace")).digest()[:8], "big") / 2**64


def _hash_to_part(fraction: float, parts: dict[str, float]) -> str:
    """Return the part that a number, 0-1, falls into."""
    for name, share in parts.items():
        fraction -= share
        if fraction < 0:
            return name
    return name  # the shares add up to 1 only up to rounding


def _parse_number(text: str, row: CsvRow, column: str) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        raise DataError(f"{row.where}: {column}: a number is expected, not {text!r:.80}") from None
