"""A gathered grid as files, and back: `cells.json` and its long form, one CSV a kind. Imports no torch.

Tables and figures are made of these alone, so they can be made again where the cells are not.
"""

import csv
import io
import json
import types
import typing
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from clef import io as files
from clef.cards import Card
from clef.errors import CellError
from clef.results.audits import Finding
from clef.results.curves import Point
from clef.results.data import CellData
from clef.results.intervals import Interval
from clef.results.rows import Gathered, PlannedRun, Row

ROWS, INTERVALS, CURVES, AUDITS, CELLS = "rows.csv", "intervals.csv", "curves.csv", "audits.csv", "cells.json"
FILES = (ROWS, INTERVALS, CURVES, AUDITS, CELLS)
R = TypeVar("R", Row, Interval, Point, Finding)


def write(folder: Path, gathered: Gathered) -> bool:
    """Write all of it into `folder`. Whether that is other than what was there."""
    content = {
        "grid": gathered.grid,
        "cells": [asdict(run) for run in gathered.runs],
        "missing": gathered.missing,
        "data": {name: data.model_dump(mode="json") for name, data in gathered.data.items()},
        "cards": [
            {"dataset": dataset, "card": card.model_dump(mode="json")} for (dataset, _), card in gathered.cards.items()
        ],
    }
    made = {
        ROWS: to_csv(Row, gathered.rows),
        INTERVALS: to_csv(Interval, gathered.intervals),
        CURVES: to_csv(Point, gathered.curves),
        AUDITS: to_csv(Finding, gathered.audits),
        CELLS: json.dumps(content, indent=1, ensure_ascii=False) + "\n",
    }
    changed = {name: text.encode() for name, text in made.items() if _bytes(folder / name) != text.encode()}
    for name, text in changed.items():
        files.write(folder / name, text)
    return bool(changed)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def read(folder: Path) -> Gathered:
    """What `write` has written. CellError where it isn't there, or something else."""
    try:
        content = json.loads((folder / CELLS).read_text(encoding="utf-8"))
        data = {name: CellData.model_validate(facts) for name, facts in content["data"].items()}
        runs = [PlannedRun(**cell) for cell in content["cells"]]
        known = [(one["dataset"], Card.model_validate(one["card"])) for one in content["cards"]]
        cards = {(dataset, card.protocol): card for dataset, card in known}
        return Gathered(
            content["grid"], _rows(folder / ROWS, Row), content["missing"], runs, data,
            _rows(folder / INTERVALS, Interval), _rows(folder / CURVES, Point), _rows(folder / AUDITS, Finding), cards,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise CellError(f"{error.filename}: no such file; gather the grid first (python -m clef.report)") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ValidationError) as error:
        raise CellError(f"{folder}: not a gathered grid ({type(error).__name__}: {error}); gather it again") from None


def _rows(path: Path, kind: type[R]) -> list[R]:
    return from_csv(kind, path.read_text("utf-8"))


def to_csv(kind: type[R], rows: Iterable[R]) -> str:
    """Rows as CSV text, a column a field. Floats come back to the last bit; None is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def from_csv(kind: type[R], text: str) -> list[R]:
    """The rows again. ValueError or TypeError where the text is something else."""
    readers = {field.name: _reader(kind, field.name) for field in fields(kind)}
    lines = csv.DictReader(io.StringIO(text))
    if lines.fieldnames != list(readers):
        raise ValueError(f"columns {','.join(readers)} are expected")
    return [kind(**{name: readers[name](value) for name, value in line.items()}) for line in lines]


def _reader(kind: type, name: str) -> Any:
    """Reads a field as its type is."""
    stated = typing.get_type_hints(kind)[name]
    if not isinstance(stated, types.UnionType):
        return stated
    [inner] = [one for one in typing.get_args(stated) if one is not type(None)]
    known = {"True": True, "False": False}.__getitem__ if inner is bool else inner
    return lambda value: None if value == "" else known(value)
