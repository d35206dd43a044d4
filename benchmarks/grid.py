"""How long planning a large grid, its status and its tables take, and how much memory.

The cells are those of the demo grid with 20 seeds and many learning rates, set up as cells of seconds are: without
checkpoints and without predictions. Their manifests are written, but no shards. Nothing is trained, and Slurm is not
asked: its answer is in the grid's folder, as for every command shortly after another one. Results are of random
scores.
"""

import argparse
import multiprocessing
import resource
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import common
from benchmarks.common import Spread, spread
from clef import io, yaml_config
from clef.cells import records
from clef.cells.plan_file import plan_path, read_plan, write_plan
from clef.config import CellConfig, resolve
from clef.config import grid as grids
from clef.config.grid import Grid
from clef.console import Progress, ProgressBars, out
from clef.data import manifest as manifests
from clef.data.manifest import KINDS, Manifest, Split
from clef.datasets import cards
from clef.errors import CellError, argument_parser
from launch import ledger, plan, plan_table, slurm_answer, status_view
from launch.plan import Plan
from launch.slurm_commands import Job

NAME = "large"
TARGETS = {"planned and shown": 10.0, "status": 1.0}
"""Seconds that 12,000 cells may take."""
SMALL = {"checkpoints": False, "predictions": "none"}
SEEDS = 20
PEOPLE, EPOCHS, LINES = 500, 20, 90
"""Of a cell: people of whom there are scores, epochs in its log, and lines besides."""
ARRAY = 1000
"""Cells in an array: the limit of many sites."""
Seconds = dict[str, float]


def main(arguments: list[str]) -> int:
    """Measure, show and write."""
    args = _parse(arguments)
    host = common.machine()
    with common.work_folder() as folder, ProgressBars("measurements") as progress:
        grid = _write_manifests(folder, args.cells)
        rounds = {name: _rounds(run, folder, grid, args.rounds, name, progress) for name, run in RUNS.items()}
    cells = len(grid.seeds) * len(grid.datasets) * len(grid.backbones) * len(grid.methods)
    common.show_machine(host)
    measured = {name: _spreads(values) for name, values in rounds.items()}
    _show(cells, measured)
    content = {"machine": host, "cells": cells, "rounds": args.rounds, "targets": TARGETS}
    common.write_report(args.json, content | {"measured": measured})
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argument_parser("python -m benchmarks grid", __doc__)
    parser.add_argument("--cells", type=common.positive, default=12_000, help="at least so many cells (12000)")
    common.add_report_options(parser, "grid", rounds=5)
    return common.parse(parser, arguments)


def _write_manifests(folder: Path, cells: int) -> Grid:
    """Write what planning reads of the shards, and return the grid."""
    content = yaml_config.read_yaml(yaml_config.resource("configs/grids/demo.yaml"))
    a_seed = len(content["datasets"]) * len(content["backbones"]) * len(content["methods"])
    rates = range(1, 1 + -(-cells // (a_seed * SEEDS)))
    presets = {
        f"{name}_{rate}": {"backbone": name, "set": {"optimizer.lr": rate / 1000}}
        for name in content["backbones"]
        for rate in rates
    }
    chosen = {"backbones": list(presets), "presets": presets, "seeds": list(range(min(SEEDS, -(-cells // a_seed))))}
    grid = Grid.model_validate(content | chosen)
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
    """Return what each step from the grid file's content to the plan on the screen and on disk takes."""
    took, clock = {}, _Clock()
    cells = _cells(folder, grid)
    took["configs"] = clock()
    planned = plan.make_plan(NAME, cells)
    took["signatures and states"] = clock()
    plan_table.out = Console(file=StringIO(), width=140)  # type: ignore[assignment]
    plan_table.print_plan(planned)
    took["table"] = clock()
    write_plan(folder / "runs", NAME, [cell.as_run() for cell in planned.cells])
    took["plan.json"] = clock()
    if not (folder / "runs" / NAME / ledger.SUBMISSIONS).exists():
        _write_half_trained(planned, folder / "runs" / NAME)
    return took | {"planned and shown": sum(took.values())}


def _cells(folder: Path, grid: Grid) -> list[CellConfig]:
    places = {"shards": str(folder / "shards"), "output_dir": str(folder / "runs")}
    return grids.resolve_cells(grid, NAME, {"runtime": places | SMALL})


def _prepare(folder: Path, grid: Grid) -> Seconds:
    """Return what making the folders of all cells, with a config in each, takes."""
    empty = folder / "prepared"
    shutil.rmtree(empty, ignore_errors=True)
    cells = [
        config.model_copy(update={"runtime": config.runtime.model_copy(update={"output_dir": str(empty)})})
        for config in _cells(folder, grid)
    ]
    planned, clock = plan.make_plan(NAME, cells), _Clock()
    for cell in planned.cells:
        plan.prepare_cell(cell, threads=1)
    return {"folders": clock()}


def _write_half_trained(planned: Plan, grid: Path) -> None:
    """Write what a half-trained grid has on disk: of a hundred cells 60 are done, one runs, one failed."""
    jobs, folders = {}, [cell.folder for cell in planned.cells if cell.folder]
    for i, folder in enumerate(folders):
        folder.mkdir(parents=True)
        state = {6: "RUNNING", 7: "FAILED"}.get(i % 100, "PENDING")
        if i % 10 < 6:
            records.write_json(folder / records.RESULT, {}, durable=False)
        elif state != "PENDING":
            position = {"step": 100, "steps": 4000, "epoch": 0.5, "epochs": 20, "images_per_s": 312.0, "left_s": 3000.0}
            records.write_json(
                folder / records.STATE,
                {"state": "failed" if state == "FAILED" else "running", "updated": time.time(), "host": "n"} | position,
                durable=False,
            )
        jobs[f"{1 + i // ARRAY}_{i % ARRAY}"] = Job(state, "", "n", NAME)
    for first in range(0, len(folders), ARRAY):
        names = [folder.name for folder in folders[first : first + ARRAY]]
        entry = ledger.Submission(
            f"{NAME}-{first}", "cells", names, array=True, job=str(1 + first // ARRAY), created="2026"
        )
        records.write_json(grid / ledger.SUBMISSIONS / f"{entry.tag}.json", asdict(entry), durable=False)
    now = time.time()
    records.write_json(grid / slurm_answer.ANSWER_FILE, asdict(slurm_answer.SlurmAnswer(jobs, now, now)), durable=False)


def _status(folder: Path, grid: Grid) -> Seconds:
    """Return what each step from the grid's folder to the status on the screen takes."""
    slurm_answer.QUERY_INTERVAL_S = float("inf")
    clock = _Clock()
    listing = status_view.make_listing(plan_path(folder / "runs", NAME), status_view.ViewOptions(None, False, 15.0))
    took = {"cells, jobs and details": clock()}
    Console(file=StringIO(), width=140).print(status_view.render(listing, 140))
    took["table"] = clock()
    return took | {"status": sum(took.values())}


def _gather(folder: Path, grid: Grid) -> Seconds:
    """Return what each step from the folders of trained cells to all tables takes."""
    from clef.results import collect, frame  # only here: the memory of the other runs is measured, too
    from clef.results.gather import write_tables

    _, runs = read_plan(plan_path(folder / "runs", NAME))
    last = folder / "runs" / NAME / str(runs[-1].folder)
    if not (last / records.CONFIG).exists():
        _write_trained(folder, grid, [folder / "runs" / NAME / str(run.folder) for run in runs])
    took, clock = {}, _Clock()
    gathered = collect.gather(plan_path(folder / "runs", NAME))
    took["cells"] = clock()
    frame.write(folder / "results", gathered)
    took["long form on disk"] = clock()
    write_tables(folder / "results", gathered)
    took["tables"] = clock()
    if gathered.missing:
        raise CellError(f"{len(gathered.missing)} cells gave no numbers: {next(iter(gathered.missing.values()))}")
    return took | {"gathered": sum(took.values())}


def _write_trained(folder: Path, grid: Grid, folders: list[Path]) -> None:
    """Write what each cell leaves once it is done: its config, its log and its result."""
    texts: dict[tuple[str, str, str], tuple[str, dict[str, Any], str]] = {}
    environment = records.environment() | {"dtype": "float32", "ranks": 1, "content": {}}
    for config, cell in zip(_cells(folder, grid), folders, strict=True):
        key = config.dataset, config.backbone_name, config.method_label
        if key not in texts:
            text = resolve.to_yaml(config).replace(f"\nseed: {config.seed}\n", "\nseed: @\n")
            texts[key] = text, _result(config) | {"environment": environment}, _log()
        text, result, log = texts[key]
        io.write(cell / records.CONFIG, text.replace("\nseed: @\n", f"\nseed: {config.seed}\n"), durable=False)
        io.write(cell / records.LOG, log, durable=False)
        facts = {"seed": config.seed, "signature": cell.name.rpartition("-")[2]}
        records.write_json(cell / records.RESULT, result | facts, durable=False)


def _result(config: CellConfig) -> dict[str, Any]:
    """Return the result of a cell that scored at random."""
    from clef.metrics import summary

    card, rng = config.card, np.random.default_rng(config.seed)
    split = {"listed": PEOPLE, "samples": PEOPLE, "left_out": {}, "notes": {}}
    policies = card.policies.model_dump()
    data = {"protocol": card.protocol, "policies": policies, "shards": "", "splits": dict.fromkeys(card.splits, split)}
    shape = PEOPLE, len(card.classes)
    single = card.task == "single_label"
    target = rng.integers(shape[1], size=PEOPLE) if single else rng.integers(2, size=shape).astype(float)
    scores = summary({"scores": rng.normal(size=shape), "target": target}, list(card.classes), card.metric)
    return {"metric": card.metric, "data": data, "splits": dict.fromkeys(card.test_splits, scores), "random_init": []}


def _log() -> str:
    step = {"losses": {"factual": 1.0, "counterfactual": 0.1}, "images_per_s": 1e4, "lr": 0.1, "grad_norm": 1.5}
    lines = [{"step": n, "epoch": n / LINES, **step} for n in range(LINES)]
    lines += [{"epoch": n, "step": n, "val": 20.0 + n} for n in range(EPOCHS)]
    return "".join(io.to_json(line, indent=None) + "\n" for line in lines)


RUNS = {"plan": _plan, "prepare": _prepare, "status": _status, "gather": _gather}


class _Clock:
    """Returns the seconds since it was called last, or since it was made."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def __call__(self) -> float:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return seconds


def _rounds(
    run: Callable[[Path, Grid], Seconds], folder: Path, grid: Grid, rounds: int, name: str, progress: Progress
) -> list[Seconds]:
    """Return what each round took, each in a process of its own. One before them, not counted, warms the caches."""
    results = []
    for number in range(rounds + 1):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            results.append(pool.submit(_measured, run, folder, grid).result())
        progress(name, number + 1, rounds + 1)
    return results[1:]


def _measured(run: Callable[[Path, Grid], Seconds], folder: Path, grid: Grid) -> Seconds:
    """Return what a run took, and under `memory` the most memory (MB) that this process had."""
    took = run(folder, grid)
    return took | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _spreads(measured: list[Seconds]) -> dict[str, Spread]:
    return {key: spread([values[key] for values in measured]) for key in measured[0]}


def _show(cells: int, measured: dict[str, dict[str, Spread]]) -> None:
    table = common.make_table(f"{cells:,} cells, seconds", "", "median", "min–max", "target", "")
    for name, values in measured.items():
        for key, value in values.items():
            target = TARGETS.get(key)
            label = (name if key == name else f"{name}: {key}") + (" (MB)" if key == "memory" else "")
            met = None if target is None else value.median <= target
            text = "" if target is None else f"≤ {target:g}"
            table.add_row(label, *common.spread_cells(value), text, common.mark(met))
        table.add_section()
    out.print(table)
