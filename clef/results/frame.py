"""The numbers of a grid as pandas DataFrames, in memory (`GridResults`) and as files in `results/<grid>/`.

`Row`, `Interval`, `CurvePoint` and `AuditNumber` declare the columns of the four tables, a field a column. Tables and
figures are made from these files alone, so they can be made again where the cells are not. Imports no torch.
"""

import json
import math
import statistics
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from clef import io
from clef.cells.plan_file import PlannedRun
from clef.datasets.cards import LEAK_FREE, Card
from clef.errors import CellError, raise_if_system_error
from clef.results.data_quality import CellData
from clef.results.formats import DASH, UNTRAINED


@dataclass(frozen=True)
class Row:
    """One number of one cell on one split: a line of the long form."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    seed: int
    split: str
    metric: str
    part: str
    """What was scored: `score` (what the method ranks by), a part of it (factual, Y_e, Y_c), or `vad`."""
    class_name: str
    """Empty for a number about all classes; else a class, two of them (confusion), a bin, or one of VAD."""
    value: float
    chance: float | None
    positives: int | None
    """How many of the samples the number is about, where not all."""
    samples: int
    listed: int
    """People whom the source lists for the split: `samples` plus `left_out`."""
    left_out: int
    samples_seen: int | None
    """In training, counting every pass."""
    signature: str
    commit: str | None
    dirty: bool | None
    content: str
    """A hash of the content hashes of everything that the cell read."""
    dtype: str
    ranks: int
    random_init: str


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval of a mean over seeds; with `base`, of its difference to that method, seed by seed."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    base: str
    split: str
    over: str
    """What was resampled: `images` or `seeds`."""
    seeds: int
    groups: int | None
    """How many groups of samples were drawn from: the split's images, or blocks of them."""
    resamples: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CurvePoint:
    """The metric on val after an epoch, in percent."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    seed: int
    epoch: float
    step: int
    value: float
    signature: str = ""


@dataclass(frozen=True)
class AuditNumber:
    """One number of a cell's `audit.json` (docs/audit.md)."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    seed: int
    split: str
    name: str
    class_name: str
    """Empty for a number about all classes."""
    value: float
    samples: int
    signature: str
    draws: int
    """How often contexts were swapped."""
    draws_seed: int
    commit: str | None
    """The code that audited."""


FILES = {"rows": Row, "intervals": Interval, "curves": CurvePoint, "audits": AuditNumber}
"""The tables, each in a file `<name>.csv`, and their columns."""
CELLS = "cells.json"
FILE_NAMES = (*(f"{name}.csv" for name in FILES), CELLS)


def to_frame(kind: type, records: Iterable[Any] = ()) -> pd.DataFrame:
    """Return records of a kind of `FILES` as a DataFrame with the columns and types of that kind."""
    frame = pd.DataFrame([vars(record) for record in records], columns=[column.name for column in fields(kind)])
    return frame.astype(_dtypes(kind))


def to_csv(frame: pd.DataFrame) -> str:
    """Return a table as CSV. `read_csv` gives floats back to the last bit; what is missing is an empty field."""
    return str(frame.to_csv(index=False, lineterminator="\n"))


def concatenate(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of several tables of one kind as one table."""
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def read_csv(kind: type, path: Path | Any) -> pd.DataFrame:
    """Read what `to_csv` wrote, from a path or a file. Raises ValueError where it holds something else."""
    dtypes, required = _dtypes(kind), _required(kind)
    floats = [name for name, dtype in dtypes.items() if dtype == "float64"]
    others = [name for name in dtypes if name not in floats]
    frame = pd.read_csv(
        path,
        dtype={name: dtypes[name] for name in others},
        keep_default_na=False,
        na_values={name: [""] for name in others if name not in required},
        converters={name: float if name in required else _optional_float for name in floats},  # exact, unlike pandas'
        lineterminator="\n",
        encoding="utf-8",
    )
    if list(frame.columns) != list(dtypes):
        raise ValueError(f"columns {','.join(dtypes)} are expected")
    if frame[required].isna().any(axis=None):
        raise ValueError("a line is incomplete")
    return frame.astype(dict.fromkeys(floats, "float64"))  # converters leave an empty column untyped


def _optional_float(text: str) -> float:
    return float(text) if text else math.nan


def _dtypes(kind: type) -> dict[str, Any]:
    """Return the pandas type of each column, by the annotation of its field."""
    named = {
        str: str, int: "int64", float: "float64",
        str | None: "string", int | None: "Int64", float | None: "float64", bool | None: "boolean",
    }  # fmt: skip
    return {name: named[hint] for name, hint in typing.get_type_hints(kind).items()}


def _required(kind: type) -> list[str]:
    """Return the columns that are never empty."""
    hints = typing.get_type_hints(kind)
    return [name for name, hint in hints.items() if not isinstance(hint, types.UnionType)]


@dataclass(frozen=True, eq=False)
class GridResults:
    """All numbers of a grid, or of one dataset and protocol of it, and the cells that gave none, with the reason."""

    grid: str
    runs: list[PlannedRun]
    rows: pd.DataFrame = field(default_factory=lambda: to_frame(Row))
    """The long form; the columns are those of `Row`."""
    intervals: pd.DataFrame = field(default_factory=lambda: to_frame(Interval))
    curves: pd.DataFrame = field(default_factory=lambda: to_frame(CurvePoint))
    audits: pd.DataFrame = field(default_factory=lambda: to_frame(AuditNumber))
    missing: dict[str, str] = field(default_factory=dict)
    """Why a cell gave no number, by the cell's name."""
    data: dict[str, CellData] = field(default_factory=dict)
    """What was done to the data of each cell with numbers, by the cell's name."""
    cards: dict[tuple[str, str], Card] = field(default_factory=dict)
    """The card of each dataset and protocol, as it was when the grid was gathered."""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return the planned backbones and methods, in the plan's order."""
        return list(dict.fromkeys((run.backbone, run.method) for run in self.runs))

    @property
    def backbones(self) -> list[str]:
        """Return the planned backbones, in the plan's order."""
        return list(dict.fromkeys(run.backbone for run in self.runs))

    @property
    def methods(self) -> list[str]:
        """Return the planned methods, in the plan's order."""
        return list(dict.fromkeys(run.method for run in self.runs))

    @property
    def names(self) -> str:
        """Return all names that pictures show, one after the other: whatever letters they have."""
        cards = [(card.title, *card.classes, *card.test_splits) for card in self.cards.values()]
        return " ".join((*self.backbones, *self.methods, *(name for names in cards for name in names)))

    @property
    def clef_presets(self) -> list[str]:
        """Return the planned presets of CLEF, in the plan's order."""
        return list(dict.fromkeys(run.method for run in self.runs if run.preset_of and run.is_clef))

    @cached_property
    def values(self) -> "SeedValues":
        """Return the values of the rows by seed; for one dataset and protocol only."""
        return SeedValues(self.rows)

    @cached_property
    def bounds(self) -> dict[tuple[str, ...], tuple[float, float]]:
        """Return low and high of each interval, by over, backbone, method, base and split; for one dataset only."""
        names = ["over", "backbone", "method", "base", "split", "low", "high"]
        return {tuple(key): (low, high) for *key, low, high in self.intervals[names].itertuples(index=False, name=None)}

    def select(self, dataset: str, protocol: str) -> "GridResults":
        """Return what was gathered of one dataset and protocol."""
        runs = [run for run in self.runs if (run.dataset, run.protocol) == (dataset, protocol)]
        frames: dict[str, pd.DataFrame] = {name: getattr(self, name) for name in FILES}
        chosen: dict[str, Any] = {
            name: frame[(frame["dataset"] == dataset) & (frame["protocol"] == protocol)]
            for name, frame in frames.items()
        }
        missing = {run.name: self.missing[run.name] for run in runs if run.name in self.missing}
        data = {run.name: self.data[run.name] for run in runs if run.name in self.data}
        return GridResults(self.grid, runs, missing=missing, data=data, cards=self.cards, **chosen)


def parts_of(gathered: GridResults) -> list[tuple[GridResults, Card, str]]:
    """Return each dataset and protocol of a grid: what was gathered, the card, and the name that tables give it."""
    several = len({run.protocol for run in gathered.runs}) > 1
    titles = Counter(title for title, _ in {(card.title, card.name) for card in gathered.cards.values()})
    parts = []
    for (dataset, protocol), card in gathered.cards.items():
        title = card.title if titles[card.title] == 1 else f"{card.title} ({card.name})"
        name = f"{title}, protocol {protocol}" if several or protocol != LEAK_FREE else title
        parts.append((gathered.select(dataset, protocol), card, name))
    return parts


def headlines(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of a metric that are about all classes together."""
    return rows[(rows["metric"] == metric) & (rows["class_name"] == "")]


class SeedValues:
    """The values of one dataset and protocol, looked up by backbone, method and metric; one value a seed."""

    KEYS = ("backbone", "method", "split", "metric", "part", "class_name")

    def __init__(self, rows: pd.DataFrame) -> None:
        by_seed = rows.pivot_table(index=list(self.KEYS), columns="seed", values="value", aggfunc="last", sort=False)
        self._values = dict(zip(by_seed.index, by_seed.to_dict("records"), strict=True))
        random = rows[rows["random_init"] != ""]
        self.untrained = set(zip(random["backbone"], random["method"], strict=True))
        """Backbones and methods in which something was initialized at random although weights could have been named."""

    def by_seed(
        self, backbone: str, method: str, split: str, metric: str, part: str = "score", class_name: str = ""
    ) -> dict[int, float]:
        """Return the value of each seed that has one."""
        values: Mapping[Any, float] = self._values.get((backbone, method, split, metric, part, class_name), {})
        return {seed: value for seed, value in values.items() if not math.isnan(value)}

    def mean(
        self, backbone: str, method: str, split: str, metric: str, part: str = "score", class_name: str = ""
    ) -> float | None:
        """Return the mean over seeds; None where there is none."""
        values = self.by_seed(backbone, method, split, metric, part, class_name)
        return statistics.fmean(values.values()) if values else None

    def differences(self, backbone: str, pair: tuple[str, str], split: str, metric: str) -> list[float]:
        """Return the first method minus the second, for each seed that both have, in the order of the seeds."""
        first, second = (self.by_seed(backbone, method, split, metric) for method in pair)
        return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]

    def mean_difference(self, backbone: str, pair: tuple[str, str], split: str, metric: str) -> float | None:
        """Return the mean of `differences`; None where no seed has both methods."""
        values = self.differences(backbone, pair, split, metric)
        return statistics.fmean(values) if values else None

    def mark(self, backbone: str, method: str, text: str) -> str:
        """Return `text` (a number or a column's head), marked where something in the method started at random."""
        return text + UNTRAINED if (backbone, method) in self.untrained and text != DASH else text


def format_spread(values: Iterable[float], sign: str = "", digits: int = 2) -> str:
    """Return the mean, and ± the standard deviation where there are several; `sign="+"` shows the mean's sign."""
    numbers = list(values)
    if not numbers:
        return DASH
    deviation = f" ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{statistics.fmean(numbers):{sign}.{digits}f}{deviation}"


def subtract(first: float | None, second: float | None) -> float | None:
    """Return the difference; None where either is missing."""
    return None if first is None or second is None else first - second


def check_folder(folder: Path, names: Iterable[str] = FILE_NAMES) -> None:
    """Refuse to write files of these names over what was not gathered. Raises CellError."""
    if not (folder / CELLS).exists() and (foreign := [name for name in names if (folder / name).exists()]):
        raise CellError(
            f"{folder}: holds {', '.join(foreign)}, but no gathered grid ({CELLS}); move that elsewhere, or name "
            "another folder with --results"
        )


def write(folder: Path, gathered: GridResults) -> bool:
    """Write the tables and `cells.json` into `folder`. Return whether that changed any of the files."""
    check_folder(folder)
    cells = {
        "grid": gathered.grid,
        "cells": [asdict(run) for run in gathered.runs],
        "missing": gathered.missing,
        "data": {name: data.model_dump(mode="json") for name, data in gathered.data.items()},
        "cards": [
            {"dataset": dataset, "card": card.model_dump(mode="json")} for (dataset, _), card in gathered.cards.items()
        ],
    }
    contents = {f"{name}.csv": to_csv(getattr(gathered, name)) for name in FILES}
    contents[CELLS] = io.to_json(cells) + "\n"
    changed = {name: text.encode() for name, text in contents.items() if _bytes(folder / name) != text.encode()}
    for name, content in changed.items():
        io.write(folder / name, content)
    return bool(changed)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def load(folder: str | Path) -> GridResults:
    """Return what `write` wrote into `folder`. Raises CellError where it isn't there, or isn't that."""
    folder = Path(folder)
    try:
        cells = json.loads((folder / CELLS).read_text(encoding="utf-8"))
        frames: dict[str, Any] = {name: read_csv(kind, folder / f"{name}.csv") for name, kind in FILES.items()}
        runs = [PlannedRun(**cell) for cell in cells["cells"]]
        data = {name: CellData.model_validate(facts) for name, facts in cells["data"].items()}
        cards = [(entry["dataset"], Card.model_validate(entry["card"])) for entry in cells["cards"]]
        by_name = {(dataset, card.protocol): card for dataset, card in cards}
        return GridResults(cells["grid"], runs, missing=cells["missing"], data=data, cards=by_name, **frames)
    except FileNotFoundError as error:
        raise CellError(f"{error.filename}: no such file; gather the grid first (python -m clef.report)") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ValidationError) as error:
        raise_if_system_error(error, folder)
        raise CellError(f"{folder}: not a gathered grid ({type(error).__name__}: {error}); gather it again") from None
