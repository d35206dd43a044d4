"""Any set of people in images as one CSV, or one a split: `path, x1, y1, x2, y2, labels, split` and more.

docs/datasets.md shows the columns, and how a card alone reads a table that calls them otherwise.
"""

import hashlib
from collections import Counter
from pathlib import Path

from clef.cards import Card
from clef.config.base import unknown, validate
from clef.datasets import faults, table_columns
from clef.datasets.faults import Faults, LeftOut
from clef.datasets.person import Box, Person, Reading, parse_box, parse_path
from clef.datasets.rows import Row
from clef.datasets.table_columns import BOX, FACE, VAD, Options
from clef.errors import DataError


class TableReader:
    """Reads the people of a table. An empty box stands for the whole frame, an empty face box for none."""

    def __init__(self, root: Path, card: Card) -> None:
        where = f"card {card.name}: reader_options"
        self.root, self.card = root, card
        self.options = validate(Options, card.reader_options, where)
        self.splits = {part.split for part in card.splits.values()} | set(self.options.ignore_splits)
        """All that the table may call a split."""
        table_columns.check(self.options, self.splits, where)
        self.places: dict[str, Path] = {}

    def read(self, split: str) -> Reading:
        """The people of a split, in the order of the table."""
        reading = Reading(policies=self.card.policies)
        path = self._path(split)
        seen: set[str] = set()
        images: set[str] = set()
        numbers = Counter[str]()
        for row in table_columns.read(path, self.options, self.card.vad):
            image = parse_path(row.values["path"], row.where)
            name = row.values.get("id", "").strip() or f"{image}#{numbers[image]}"
            numbers[image] += 1
            if name in seen:
                raise DataError(f"{row.where}: the id {name!r:.80} stands further up")
            seen.add(name)
            if self._split(row, image, split) == split:
                self._add(row, name, self._locate(image, path), reading)
                images.add(image)
        reading.images = len(images)
        return reading

    def _path(self, split: str) -> Path:
        path = self.root / self.options.file.replace("{split}", split)
        if not path.is_file():
            raise DataError(
                f"{path}: {self.card.title} not found. Expected, with <source> = {self.root}:\n"
                f"{self.card.layout.rstrip()}\nRequest the set at {self.card.request}."
            )
        return path

    def _split(self, row: Row, image: str, asked: str) -> str:
        """The split of a row, by the table's names."""
        if self.options.parts:
            return _part(image, self.options.parts)
        if not self.options.by_column:
            return asked
        split = row.values["split"].strip()
        if split not in self.splits:
            told = unknown(f"{row.where}: split {split!r:.80}", split, self.splits)
            raise DataError(f"{told} (or reader_options.ignore_splits names it)")
        return split

    def _add(self, row: Row, name: str, image: Path, reading: Reading) -> None:
        """The person of a row, unless the policies leave them out."""
        met = Faults(reading, f"{row.where}: {name}")
        spellings = [text.strip() for text in row.values["labels"].replace("|", ";").split(";")]
        box, face = self._box(row, BOX), self._box(row, FACE)
        numbers = [_number(row, part) for part in VAD] if self.card.vad else None
        try:
            labels = faults.labels(self.card, [text for text in spellings if text], met)
            vad = faults.vad(numbers, met) if numbers else None
        except LeftOut:
            return
        reading.people.append(Person(name, image, box, labels, face, vad, met.flags()))

    def _box(self, row: Row, names: tuple[str, ...]) -> Box | None:
        texts = [row.values.get(name, "").strip() for name in names]
        if not any(texts):
            return None
        x1, y1, x2, y2 = parse_box(texts, row.where)
        first = self.options.box_origin
        return x1 - first, y1 - first, x2, y2

    def _locate(self, image: str, table: Path) -> Path:
        if image not in self.places:
            usual, beside = self.root / self.options.images / image, table.parent / image
            self.places[image] = beside if not usual.is_file() and beside.is_file() else usual
        return self.places[image]


def _part(image: str, parts: dict[str, float]) -> str:
    """The part that an image falls into: always the same, whatever else the table holds."""
    place = int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big") / 2**64
    for name, share in parts.items():
        place -= share
        if place < 0:
            return name
    return name  # the shares add up to 1 but for rounding


def _number(row: Row, column: str) -> float:
    text = row.values[column].strip()
    try:
        return float(text or "nan")
    except ValueError:
        raise DataError(f"{row.where}: {column}: a number is expected, not {text!r:.80}") from None
