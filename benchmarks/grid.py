"""`python -m benchmarks.grid`: how long a large grid takes to be planned and looked at, and the memory that it takes.

The cells are those of the demo grid with many seeds; their shards are stated, not made. Nothing is trained, and Slurm
is not asked: its answer lies in the grid's folder, as it does for every shell that looks shortly after another.
docs/benchmarks.md has figures.
"""

import io
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import common
from benchmarks.common import Spread, positive, spread
from clef.cells import records
from clef.config import base
from clef.config import grid as grids
from clef.config.grid import Grid
from clef.console import Progress, Steps, out
from clef.data import manifest as manifests
from clef.data.manifest import KINDS, Manifest, Split
from clef.datasets import cards
from clef.errors import argument_parser, run_command
from clef.results.frame import plan_path, write_plan
from launch import ledger, plan, plan_table, status, status_view
from launch.plan import Plan
from launch.slurm_commands import Job

NAME = "large"
JSON = Path("results/bench/grid.json")
BARS = {"planned and shown": 10.0, "status": 1.0}
"""Seconds that 10,000 cells may take."""
ARRAY = 1000
"""Cells in an array, as sites limit them."""
Seconds = dict[str, float]


def main() -> int:
    """The command."""
    parser = argument_parser("python -m benchmarks.grid", __doc__)
    parser.add_argument("--cells", type=positive, default=10_000, help="at least so many cells (10000)")
    parser.add_argument("--rounds", type=positive, default=5, help="medians are of so many, each in a new process (5)")
    parser.add_argument("--json", type=Path, default=JSON, metavar="PATH", help=f"default: {JSON}")
    args = parser.parse_args()
    host = common.facts()
    with tempfile.TemporaryDirectory(prefix="clef-bench-") as folder, Steps("measurements") as progress:
        grid = _prepare(Path(folder), args.cells)
        rounds = {name: _rounds(run, Path(folder), grid, args.rounds, name, progress) for name, run in RUNS.items()}
    cells = sum(1 for _ in grid.seeds) * len(grid.datasets) * len(grid.backbones) * len(grid.methods)
    from benchmarks import report  # torch, which no process that is measured imports

    report.show_machine(host)
    found = {name: _spreads(measured) for name, measured in rounds.items()}
    out.print(_table(cells, found))
    content = {"machine": host, "cells": cells, "rounds": args.rounds, "bars": BARS}
    measured = {name: {key: asdict(value) for key, value in values.items()} for name, values in found.items()}
    report.write(args.json, content | {"measured": measured})
    return 0


def _prepare(folder: Path, cells: int) -> Grid:
    """The shards, as far as planning reads them, and the grid."""
    content = base.read_yaml(base.resource("configs/grids/demo.yaml"))
    a_seed = len(content["datasets"]) * len(content["backbones"]) * len(content["methods"])
    grid = Grid.model_validate(content | {"seeds": list(range(-(-cells // a_seed)))})
    for name in grid.datasets:
        card = cards.load(name)
        split = Split(
            listed=1, positions=1, samples=1, members=dict.fromkeys(KINDS, 1), content=dict.fromkeys(KINDS, "0" * 64),
            classes=dict.fromkeys(card.classes, 1), left_out={}, notes={}, unusable={}, box_kind="", index="",
            index_sha256="", shards=[],
        )  # fmt: skip
        manifest = Manifest(
            format=manifests.FORMAT, dataset=card.name, task=card.task, classes=list(card.classes), vad=card.vad,
            source="", protocol=card.protocol, policies={}, samples_per_shard=1, tool="", cues={"person": "0"},
            splits=dict.fromkeys(card.splits, split),
        )  # fmt: skip
        manifests.save(folder / "shards" / name, manifest)
    return grid


def _plan(folder: Path, grid: Grid) -> Seconds:
    """From the grid file's content to the plan on the screen and on disk."""
    took, clock = {}, _Clock()
    places = {"runtime": {"shards": str(folder / "shards"), "out": str(folder / "runs")}}
    made = grids.configs(grid, NAME, places)
    took["configs"] = clock()
    planned = plan.make(NAME, *made)
    took["signatures and states"] = clock()
    plan_table.out = Console(file=io.StringIO(), width=140)
    plan_table.plan(planned)
    took["table"] = clock()
    write_plan(folder / "runs", NAME, [cell.as_run() for cell in planned.cells])
    took["plan.json"] = clock()
    if not (folder / "runs" / NAME / ledger.FOLDER).exists():
        _trained(planned, folder / "runs" / NAME)
    return took | {"planned and shown": sum(took.values())}


def _trained(planned: Plan, grid: Path) -> None:
    """Leave what a grid in the midst of its training leaves: of a hundred cells 60 are done, one runs, one failed."""
    jobs, folders = {}, [cell.folder for cell in planned.cells if cell.folder]
    for i, folder in enumerate(folders):
        folder.mkdir(parents=True)
        state = {6: "RUNNING", 7: "FAILED"}.get(i % 100, "PENDING")
        if i % 10 < 6:
            records.write_json(folder / records.RESULT, {}, durable=False)
        elif state != "PENDING":
            place = {"step": 100, "steps": 4000, "epoch": 0.5, "epochs": 20, "images_per_s": 312.0, "left_s": 3000.0}
            records.write_json(
                folder / records.STATE,
                {"state": "failed" if state == "FAILED" else "running", "updated": time.time(), "host": "n"} | place,
                durable=False,
            )
        jobs[f"{1 + i // ARRAY}_{i % ARRAY}"] = Job(state, "", "n", NAME)
    for first in range(0, len(folders), ARRAY):
        names = [folder.name for folder in folders[first : first + ARRAY]]
        entry = ledger.Submission(
            f"{NAME}-{first}", "cells", names, array=True, job=str(1 + first // ARRAY), made="2026"
        )
        records.write_json(grid / ledger.FOLDER / f"{entry.tag}.json", asdict(entry), durable=False)
    now = time.time()
    records.write_json(grid / status.FILE, asdict(status.SlurmAnswer(jobs, now, now)), durable=False)


def _status(folder: Path, grid: Grid) -> Seconds:
    """From the folder to the table of what is of interest."""
    status.EVERY = float("inf")
    clock = _Clock()
    picture = status_view.take(plan_path(folder / "runs", NAME), status_view.View(None, False, 15.0))
    took = {"cells, jobs and details": clock()}
    Console(file=io.StringIO(), width=140).print(status_view.render(picture, 140))
    took["table"] = clock()
    return took | {"status": sum(took.values())}


RUNS = {"plan": _plan, "status": _status}


class _Clock:
    """Seconds since it was asked last."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def __call__(self) -> float:
        now = time.perf_counter()
        last, self._last = self._last, now
        return now - last


def _rounds(
    run: Callable[[Path, Grid], Seconds],
    folder: Path,
    grid: Grid,
    rounds: int,
    name: str,
    progress: Progress,
) -> list[Seconds]:
    """What each round took, with the most memory (MB) that its process had. One before them warms the caches."""
    found = []
    for number in range(rounds + 1):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(_measured, run, folder, grid).result())
        progress(name, number + 1, rounds + 1)
    return found[1:]


def _measured(run: Callable[[Path, Grid], Seconds], folder: Path, grid: Grid) -> Seconds:
    took = run(folder, grid)
    return took | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _spreads(measured: list[Seconds]) -> dict[str, Spread]:
    return {key: spread([each[key] for each in measured]) for key in measured[0]}


def _table(cells: int, found: dict[str, dict[str, Any]]) -> Table:
    from benchmarks import report

    table = Table(title=f"{cells:,} cells, seconds", title_justify="left")
    for column in ("", "median", "min–max", "target", ""):
        table.add_column(column, justify="right" if column else "left")
    for name, values in found.items():
        for key, value in values.items():
            unit, form = (" MB", ",.0f") if key == "memory" else ("", ".2f")
            bar = BARS.get(key)
            row = [f"{name}: {key}" if key != name else name, f"{value.median:{form}}{unit}"]
            row += [f"{value.low:{form}}–{value.high:{form}}", "" if bar is None else f"≤ {bar:g}"]
            table.add_row(*row, report.STYLES[None if bar is None else value.median <= bar])
        table.add_section()
    return table


if __name__ == "__main__":
    run_command(main)
