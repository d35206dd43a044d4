"""Long form first: one row for each number of a grid, and the plan that says which cells it has. Imports no torch.

What `python -m clef.audit` has found of the cells of a grid (docs/audit.md), in long form. Imports no torch.

The validation metric of each cell over its epochs, as its log has it. Imports no torch.

Looks numbers of a grid up, and means over seeds. Imports no torch.

A gathered grid in parts: each of its datasets as each protocol has it. Imports no torch.

A gathered grid as files, and back: `cells.json` and its long form, one CSV a kind. Imports no torch.

Tables and figures are made of these alone, so they can be made again where the cells are not.
"""

import csv
import json
import statistics
import types
import typing
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from clef import io
from clef.audit import records
from clef.cells.records import LOG, checked, write_json
from clef.datasets.cards import LEAK_FREE, Card
from clef.errors import CellError
from clef.results.data_quality import CellData
from clef.results.formats import DASH, UNTRAINED
from clef.results.intervals import BASE, Interval


@dataclass(frozen=True)
class Finding:
    """One number of a cell's `audit.json`."""

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
    """How often contexts were swapped, and, below, the seed of those draws."""
    draws_seed: int
    commit: str | None
    """The code that audited."""


def findings(
    folder: Path, result: dict[str, Any], dataset: str, protocol: str, backbone: str, method: str, seed: int
) -> Iterator[Finding]:
    """All numbers of the audit in a cell's folder; none without an audit of the weights that its result is of."""
    audit, weights = records.read(folder), result.get("run", {}).get("checkpoint", {}).get("sha256")
    if audit is None or weights is None or audit.facts.get("weights") != weights:
        return
    facts, cell = audit.facts, (dataset, protocol, backbone, method, seed)
    how = result["signature"], facts["draws"], facts["draws_seed"], facts["code"]["commit"]
    for row in audit.rows:
        yield Finding(*cell, row.split, row.name, row.label or "", row.value, row.samples, *how)


def differences(found: Iterable[Finding]) -> list[str]:
    """In what the audits of one table differ, though their numbers stand side by side; nothing where in nothing."""
    drawn = sorted({(one.draws, one.draws_seed) for one in found})
    if len(drawn) < 2:
        return []
    return [f"audits differ in their draws: {' or '.join(f'{draws} of seed {seed}' for draws, seed in drawn)}"]


@dataclass(frozen=True)
class Point:
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
    """Of the cell."""


def points(folder: Path, dataset: str, protocol: str, backbone: str, method: str, seed: int) -> Iterator[Point]:
    """What the log of a cell says so far. A line that was cut short, as by a full disk, is passed over."""
    try:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    cell, signature = (dataset, protocol, backbone, method, seed), folder.name.rpartition("-")[2]
    for line in lines:
        try:
            record = json.loads(line)
            if "val" in record:
                at = float(record["epoch"]), int(record["step"]), float(record["val"])
                yield Point(*cell, *at, signature)
        except (ValueError, TypeError, KeyError):
            continue


HEADLINES = ("mAP", "accuracy")


@dataclass(frozen=True)
class PlannedRun:
    """A cell of a plan, as `plan.json` lists it."""

    name: str
    dataset: str
    backbone: str
    method: str
    seed: int
    folder: str | None
    """Its folder, beside the plan; None where shards or weights were missing when the grid was planned."""
    reason: str | None = None
    parent: str | None = None
    """The folder of the cell that it starts from."""
    protocol: str = LEAK_FREE
    """How its dataset is cut and counted. Plans of older versions don't say: they knew but the usual one."""
    against: str | None = BASE
    """The method that it is compared with; None: with none."""


@dataclass(frozen=True)
class Row:
    """One number. `part` is `score` (what the method ranks by) or a part of it: factual, Y_e, Y_c; `vad` beside it."""

    dataset: str
    protocol: str
    backbone: str
    method: str
    seed: int
    split: str
    metric: str
    part: str
    class_name: str
    """Empty for a number about all classes; else a class, two of them (confusion), a bin, or one of VAD."""
    value: float
    chance: float | None
    positives: int | None
    """How many of the samples the number is about, where not all."""
    samples: int
    listed: int
    """People whom the source lists for the split: `samples`, and those left out."""
    left_out: int
    samples_seen: int | None
    """In training, every pass counted."""
    signature: str
    commit: str | None
    dirty: bool | None
    content: str
    """A hash of the content hashes of all that the cell read."""
    dtype: str
    ranks: int
    random_init: str

    @property
    def is_headline(self) -> bool:
        """Whether it is a headline metric, of all classes."""
        return not self.class_name and self.metric in HEADLINES


@dataclass(frozen=True)
class Gathered:
    """All numbers of a grid, and the cells that gave none, with the reason."""

    grid: str
    rows: list[Row]
    missing: dict[str, str]
    runs: list[PlannedRun]
    data: dict[str, CellData]
    """What the data of each cell with numbers went through, by the cell's name."""
    intervals: list[Interval] = field(default_factory=list)
    curves: list[Point] = field(default_factory=list)
    audits: list[Finding] = field(default_factory=list)
    cards: dict[tuple[str, str], Card] = field(default_factory=dict)
    """Of each dataset and protocol its card, as it was when the grid was gathered."""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The backbones and methods that are planned, in the plan's order."""
        return list(dict.fromkeys((run.backbone, run.method) for run in self.runs))

    @property
    def backbones(self) -> list[str]:
        """Those that are planned, in the plan's order."""
        return list(dict.fromkeys(run.backbone for run in self.runs))

    @property
    def methods(self) -> list[str]:
        """Likewise."""
        return list(dict.fromkeys(run.method for run in self.runs))


def plan_path(out: Path, grid: str) -> Path:
    """Where the plan of a grid lies."""
    return out / grid / "plan.json"


def write_plan(out: Path, grid: str, runs: list[PlannedRun]) -> Path:
    """Record which cells make up the grid, for the gatherer."""
    path = plan_path(out, grid)
    write_json(path, {"grid": grid, "cells": [asdict(run) for run in runs]})
    return path


def read_plan(path: Path) -> tuple[str, list[PlannedRun]]:
    """The grid that a plan is of, and its cells. CellError when there is no plan."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content["grid"]), checked(list[PlannedRun], content["cells"])
    except FileNotFoundError:
        raise CellError(f"{path}: no plan here; run the grid first (launch/grid.py --grid ...)") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CellError(f"{path}: not a plan ({why}); remove it and run the grid again") from None


def headlines(rows: Iterable[Row]) -> list[Row]:
    """The rows of the headline metric, of all classes together."""
    return [row for row in rows if row.is_headline]


Key = tuple[str, str, str, str, str, str]


class Numbers:
    """The values of one dataset as one protocol has it, a value a seed."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._values: dict[Key, dict[int, float]] = {}
        self.untrained: set[tuple[str, str]] = set()
        """Backbones and methods of which something started at random although weights could have been named."""
        for row in rows:
            self.untrained |= {(row.backbone, row.method)} if row.random_init else set()
            key = (row.backbone, row.method, row.split, row.metric, row.part, row.class_name)
            self._values.setdefault(key, {})[row.seed] = row.value

    def marked(self, backbone: str, method: str, text: str) -> str:
        """`text` (a head, or a number of the method), marked where something of it started at random."""
        return text + UNTRAINED if (backbone, method) in self.untrained and text != DASH else text

    def by_seed(
        self, backbone: str, method: str, split: str, metric: str, part: str = "score", class_name: str = ""
    ) -> dict[int, float]:
        """The value of each seed that has one."""
        return self._values.get((backbone, method, split, metric, part, class_name), {})

    def mean(
        self, backbone: str, method: str, split: str, metric: str, part: str = "score", class_name: str = ""
    ) -> float | None:
        """The mean over seeds; None without any."""
        values = self.by_seed(backbone, method, split, metric, part, class_name)
        return statistics.fmean(values.values()) if values else None

    def paired(self, backbone: str, pair: tuple[str, str], split: str, metric: str) -> float | None:
        """The first method less the second: the mean over the seeds that both have."""
        one, other = (self.by_seed(backbone, method, split, metric) for method in pair)
        seeds = sorted(one.keys() & other.keys())
        return statistics.fmean(one[seed] - other[seed] for seed in seeds) if seeds else None


def spread(values: Iterable[float], sign: str = "", digits: int = 2) -> str:
    """The mean, and ± the standard deviation where there are several; `sign="+"` shows its sign."""
    known = list(values)
    if not known:
        return DASH
    deviation = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):{sign}.{digits}f}{deviation}"


def minus(one: float | None, other: float | None) -> float | None:
    """The difference, where both are known."""
    return None if one is None or other is None else one - other


def parts_of(gathered: Gathered) -> list[tuple[Gathered, Card, str]]:
    """What was gathered of each dataset as each protocol has it, the card, and how tables call it."""
    several = len({run.protocol for run in gathered.runs}) > 1
    titles = Counter(title for title, _ in {(card.title, card.name) for card in gathered.cards.values()})
    made = []
    for (dataset, protocol), card in gathered.cards.items():
        called = card.title if titles[card.title] == 1 else f"{card.title} ({card.name})"
        named = several or protocol != LEAK_FREE
        name = f"{called}, protocol {protocol}" if named else called
        made.append((part_of(gathered, dataset, protocol), card, name))
    return made


def part_of(gathered: Gathered, dataset: str, protocol: str) -> Gathered:
    """What was gathered of one dataset as one protocol has it."""
    wanted = (dataset, protocol)
    runs = [run for run in gathered.runs if (run.dataset, run.protocol) == wanted]
    rows = [row for row in gathered.rows if (row.dataset, row.protocol) == wanted]
    missing = {run.name: gathered.missing[run.name] for run in runs if run.name in gathered.missing}
    data = {run.name: gathered.data[run.name] for run in runs if run.name in gathered.data}
    found = [interval for interval in gathered.intervals if (interval.dataset, interval.protocol) == wanted]
    curves = [point for point in gathered.curves if (point.dataset, point.protocol) == wanted]
    audits = [finding for finding in gathered.audits if (finding.dataset, finding.protocol) == wanted]
    return Gathered(gathered.grid, rows, missing, runs, data, found, curves, audits, gathered.cards)


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
        io.write(folder / name, text)
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
    text = StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def from_csv(kind: type[R], text: str) -> list[R]:
    """The rows again. ValueError or TypeError where the text is something else."""
    readers = {field.name: _reader(kind, field.name) for field in fields(kind)}
    lines = csv.DictReader(StringIO(text))
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
