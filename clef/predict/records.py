"""The predictions for many people as records, and their files: JSON, or CSV with a row for each person."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from clef import io
from clef.datasets.person import Person
from clef.predict.images import PredictedPerson

Record = dict[str, Any]
"""`image`, `id`, `box`, `without` (the inputs that were not found) and, by class, each kind of number; or `error`."""


def make_records(image: str, predicted: Iterable[PredictedPerson]) -> list[Record]:
    """Return the records of an image's people. Boxes are in pixels of the image turned as its EXIF data says."""
    return [
        {
            **_describe(image, one.person),
            "without": list(one.without),
            **{
                kind: _by_class(one.prediction.classes, values)
                for kind, values in (one.prediction.scores | one.prediction.probabilities).items()
            },
        }
        for one in predicted
    ]


def make_error_records(image: str, given: Sequence[Person], reason: str) -> list[Record]:
    """Return a record for each person given for an image that could not be predicted; one where nobody was given."""
    return [{**_describe(image, person), "error": reason} for person in given] or [{"image": image, "error": reason}]


def write(path: Path, records: Sequence[Record]) -> None:
    """Write the records as JSON or as CSV, as the file's name says."""
    if path.suffix.lower() == ".json":
        io.write(path, io.to_json(list(records)) + "\n")
        return
    rows = [_flatten(record) for record in records]
    columns = list(dict.fromkeys(column for row in rows for column in row if column != "error"))
    text = StringIO(newline="")
    writer = csv.DictWriter(text, [*columns, "error"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    io.write(path, text.getvalue().encode("utf-8-sig"))  # Excel takes it for UTF-8 only with this mark


def _describe(image: str, person: Person) -> Record:
    return {"image": image, "id": person.id, "box": list(person.box or ())}


def _by_class(classes: Sequence[str], values: np.ndarray) -> dict[str, float]:
    """Return the numbers by class, to six digits: they are computed in float32."""
    return {name: float(f"{value:.6g}") for name, value in zip(classes, values.tolist(), strict=True)}


def _flatten(record: Record) -> Record:
    """Return a record as columns: x1 to y2 of the box, and each number by its kind and class, such as `score Fear`."""
    row: Record = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            row |= {f"{key} {name}": number for name, number in value.items()}
        elif key == "box":
            row |= dict(zip(("x1", "y1", "x2", "y2"), value, strict=False))
        else:
            row[key] = "; ".join(value) if isinstance(value, list) else value
    return row
