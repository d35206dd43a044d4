"""What a cell of seconds costs, next to a hand-written training in plain PyTorch: cells on features of frozen encoders.

Both train the same network on the same tables, which are of random numbers, in as many epochs of as many batches.
Each mirrors half the people, scores val after each epoch, keeps the best weights in memory, scores the test people
once and writes its result. Ours is what `python launch/grid.py` runs for each of the cells that share a task.
"""

import argparse
import copy
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from clef import console
from clef.cells import feature_tables
from clef.cells.identity import folder_of, signature_of, write_config
from clef.config import CellConfig, resolve
from clef.console import Progress, ProgressBars, out
from clef.data import manifest as manifests
from clef.data.manifest import INDEX_DTYPE, KINDS, Manifest, Shard, Split
from clef.datasets import cards
from clef.errors import argument_parser

TARGET = 1.25
"""How many times as long as a hand-written training a cell may take, on EMOTIC's size."""
PACKED = 32
"""Cells that share one start of Python (`resources.cells_per_task` of the recipe)."""
STREAMS = ("body", "context")
PLAIN, OURS = "hand-written", "ours"


@dataclass(frozen=True)
class Size:
    """People by split, the numbers in a feature, and the batch size."""

    dataset: str
    people: dict[str, int]
    dim: int
    batch: int
    epochs: int = 20


SIZES = {
    "emotic": Size("emotic", {"train": 23_000, "val": 3_300, "test": 7_200}, 768, 256),
    "demo": Size("emotic_demo", {"train": 2_597, "val": 358, "test": 900, "test_shift": 900}, 1280, 64),
}


def main(arguments: list[str]) -> int:
    """Measure, show and write."""
    parser = argument_parser("python -m benchmarks cells", __doc__)
    parser.add_argument("--size", choices=SIZES, help="only this one (default: each)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of people, for a quick look (1)")
    parser.add_argument("--cells", type=common.positive, default=2, help="cells in a pass (2)")
    common.add_report_options(parser, "cells", rounds=5)
    args = common.parse(parser, arguments)
    host = common.machine()
    common.show_machine(host)
    measured = {}
    for name in [args.size] if args.size else SIZES:
        with common.work_folder() as folder:
            measured[name] = _measure(_scaled(SIZES[name], args.scale), folder, args)
        _show(name, measured[name], TARGET if name == "emotic" else None)
    content = {"machine": host, "cells": args.cells, "rounds": args.rounds, "target": TARGET, "sizes": measured}
    common.write_report(args.json, content)
    return 0


def _scaled(size: Size, scale: float) -> Size:
    return Size(size.dataset, {k: max(1, round(scale * n)) for k, n in size.people.items()}, size.dim, size.batch)


# ---- The set ----


def _config(size: Size, folder: Path, seed: int) -> CellConfig:
    stream = {"network": "benchmarks.cells:no_network", "weights": "none", "dim": size.dim}
    places = {key: str(folder / key) for key in ("shards", "features", "output_dir")}
    return resolve.resolve(
        {
            "dataset": size.dataset,
            "seed": seed,
            "backbone": {"name": "encoders", "encoders": dict.fromkeys(STREAMS, stream)},
            "method": {"name": "vanilla"},
            "batch_size": size.batch,
            "epochs": size.epochs,
            "runtime": {**places, "num_workers": 0, "threads": 1},
        }
    )


def no_network() -> None:
    """Stand for an encoder all of whose features are there."""
    raise AssertionError("no cell builds the encoder")


def _write_set(size: Size, folder: Path) -> None:
    """Write shards of people without pictures, and tables of random features."""
    card, rng = cards.load(size.dataset), np.random.default_rng(0)
    root = folder / "shards" / size.dataset
    splits = {name: _write_split(root, name, count, card, rng) for name, count in size.people.items()}
    manifest = Manifest(
        format=manifests.FORMAT, dataset=card.name, task=card.task, classes=list(card.classes), vad=card.vad,
        source="", protocol=card.protocol, policies={}, samples_per_shard=1, tool="", splits=splits,
    )  # fmt: skip
    manifests.save(root, manifest)
    for table in feature_tables.tables_of(_config(size, folder, 0), manifest):
        table.path.parent.mkdir(parents=True, exist_ok=True)
        np.save(table.path, rng.standard_normal((table.rows, size.dim), np.float32))
        feature_tables.write_record(table, table.path)


def _write_split(root: Path, name: str, count: int, card: cards.Card, rng: np.random.Generator) -> Split:
    """Write the members `meta.json` of a split one after the other, and their index; pictures are merely listed."""
    root.mkdir(parents=True, exist_ok=True)
    classes, rows = np.array(card.classes), np.zeros(count, INDEX_DTYPE)
    counts, content = dict.fromkeys(card.classes, 0), bytearray()
    rows["key"], rows["size"] = np.arange(count), 0
    for row in rows:
        labels = classes[np.flatnonzero(rng.random(len(classes)) < 0.15)].tolist() or [card.classes[0]]
        meta = json.dumps(_METADATA | {"labels": labels}).encode()
        row["offset"][-1], row["size"][-1] = len(content), len(meta)
        content += meta
        for label in labels:
            counts[label] += 1
    tar, index = root / f"{name}.tar", root / f"{name}.npy"
    tar.write_bytes(content)
    np.save(index, rows)
    shard = Shard(
        name=tar.name, bytes=len(content), sha256="", samples=count, first_key=None, last_key=None, classes=counts
    )
    return Split(
        listed=count, positions=count, samples=count, members=dict.fromkeys(KINDS, count),
        content=dict.fromkeys(KINDS, name), classes=counts, left_out={}, notes={}, unusable={}, box_kind="person",
        index=index.name, index_sha256=name, shards=[shard],
    )  # fmt: skip


_METADATA = {"vad": None, "size": [1, 1], "box": None, "face_box": None, "person_box": None, "image_sha256": ""}


# ---- The contenders: each returns seconds a cell ----


def train_ours(size: Size, folder: Path, cells: int) -> float:
    """Train cells one after the other as a task does."""
    from clef.engine.run import run_cell

    _hide_lines()
    folders = [_next_cell(size, folder) for _ in range(cells)]
    began = time.perf_counter()
    for cell in folders:
        run_cell(cell)
    return (time.perf_counter() - began) / cells


def measure_stages(size: Size, folder: Path, _cells: int) -> Any:
    """Return the shares of the stages of one more cell, after one that isn't counted."""
    from benchmarks import cell_stages

    train_ours(size, folder, 1)
    return cell_stages.measure_stages(_next_cell(size, folder))


@cache
def _hide_lines() -> None:
    """Send what cells say to nowhere, as a task sends it to a file."""
    console.err.file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # as long as the process lives


def _next_cell(size: Size, folder: Path) -> Path:
    """Prepare another cell, as planning does, and return its folder."""
    config = _config(size, folder, time.time_ns() % 2**31)
    cell = folder_of(config, "bench", signature_of(config, manifests.load(config.shards)))
    write_config(cell, config)
    return cell


def train_plainly(size: Size, folder: Path, cells: int) -> float:
    """Train by hand as often, each time with another seed."""
    data = _load(size.dataset, folder)
    began = time.perf_counter()
    for _ in range(cells):
        _train_plainly(size, data, time.time_ns() % 2**31, folder / "plain.json")
    return (time.perf_counter() - began) / cells


@cache
def _load(dataset: str, folder: Path) -> Any:
    """Return the tables, mapped, by input, split and whether mirrored; and the targets by split."""
    import torch

    from clef.data.shards import SplitShards
    from clef.engine.feature_cache import split_labels

    size = next(each for each in SIZES.values() if each.dataset == dataset)
    config = _config(size, folder, 0)
    torch.set_num_threads(1)
    manifest = manifests.load(config.shards)
    tables = {
        (table.frozen.input, table.split, table.mirrored): torch.from_numpy(np.load(table.path, mmap_mode="c"))
        for table in feature_tables.tables_of(config, manifest)
    }
    shards = {name: SplitShards(config.shards, name, manifest) for name in size.people}
    return tables, {name: split_labels(each, config)["target"] for name, each in shards.items()}


def _train_plainly(size: Size, data: Any, seed: int, path: Path) -> None:
    """Train, test and write a file, as one would by hand; the network is that of the recipe `encoders`."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from clef.metrics import headline_score  # faster than scikit-learn's average_precision_score

    tables, targets = data
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(len(STREAMS) * size.dim, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(256, targets["train"].shape[1]),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    people = size.people["train"]
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, size.epochs * -(-people // size.batch))

    def read(split: str, rows: torch.Tensor, mirrored: torch.Tensor | None = None) -> torch.Tensor:
        features = [tables[name, split, False][rows] for name in STREAMS]
        if mirrored is not None:
            for name, feature in zip(STREAMS, features, strict=True):
                feature[mirrored] = tables[name, split, True][rows[mirrored]]
        return torch.cat([F.layer_norm(feature, (size.dim,)) for feature in features], dim=1)

    @torch.inference_mode()
    def score(split: str) -> float:
        network.eval()
        rows = torch.arange(size.people[split])
        scores = torch.cat([network(read(split, part)) for part in rows.split(2 * size.batch)])
        network.train()
        return headline_score(scores.numpy(), targets[split].numpy())

    history, best = [], {}
    for _ in range(size.epochs):
        for rows in torch.randperm(people).split(size.batch):
            logits = network(read("train", rows, torch.rand(len(rows)) < 0.5))
            loss = F.binary_cross_entropy_with_logits(logits, targets["train"][rows], reduction="none").sum(1).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        history.append(score("val"))
        if history[-1] == max(history):
            best = copy.deepcopy(network.state_dict())
    network.load_state_dict(best)
    tests = {split: score(split) for split in size.people if split not in ("train", "val")}
    path.write_text(json.dumps({"seed": seed, "val": history, "test": tests}), encoding="utf-8")


CONTENDERS: dict[str, Callable[[Size, Path, int], float]] = {PLAIN: train_plainly, OURS: train_ours}


# ---- What is measured ----


def _measure(size: Size, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of a cell, its share in the start of its task included, and the cells an hour of two tasks."""
    _write_set(size, folder)
    with ProgressBars("passes") as progress:
        calls = {name: (run, size, folder, args.cells) for name, run in CONTENDERS.items()}
        with common.in_processes(calls) as runs:
            began = time.perf_counter()
            runs[OURS]()
            first = time.perf_counter() - began
            seconds = common.interleaved(runs, args.rounds, progress)
        with common.in_processes({"stages": (measure_stages, replace(size, epochs=2), folder, 1)}) as runs:
            stages: Any = runs["stages"]()
        both = _two_at_once(calls[OURS], args.rounds, progress)
    # Python's start, imports, the check of the tables: what a process does only once.
    start = first - args.cells * common.spread(seconds[OURS]).median
    packed = {PLAIN: seconds[PLAIN], OURS: [value + start / PACKED for value in seconds[OURS]]}
    ratio = common.spread([ours / plain for ours, plain in zip(packed[OURS], packed[PLAIN], strict=True)])
    return {
        "people": size.people,
        "dim": size.dim,
        "batch_size": size.batch,
        "epochs": size.epochs,
        "start_seconds": start,
        "stages": stages,
        "seconds": common.passes(packed),
        "ratio": ratio,
        "cells_an_hour": common.spread([3600 * 2 / (value + start / PACKED) for value in both]),
    }


def _two_at_once(call: tuple[Any, ...], rounds: int, progress: Progress) -> list[float]:
    """Return the seconds of a cell in each of two processes that run at once; the first pass isn't counted."""
    with common.in_processes({"one": call, "other": call}) as runs, ThreadPoolExecutor(2) as threads:
        passes = []
        for number in range(rounds + 1):
            passes.append(sum(threads.map(lambda run: run(), runs.values())) / 2)
            progress("two at once", number + 1, rounds + 1)
    return passes[1:]


def _show(name: str, measured: dict[str, Any], target: float | None) -> None:
    people = " + ".join(f"{count:,}" for count in measured["people"].values())
    title = f"{name}: {people} people, {len(STREAMS)} x {measured['dim']}, batches of {measured['batch_size']}"
    table = common.make_table(title, "", "median", "min–max", "target", "")
    for contender, values in measured["seconds"].items():
        table.add_row(f"{contender}, s", *common.spread_cells(common.spread(values["rates"])), "", "")
    ratio = measured["ratio"]
    met, text = (None, "") if target is None else (ratio.median <= target, f"≤ {target:g}")
    table.add_row("ours / hand-written", *common.spread_cells(ratio), text, common.mark(met))
    table.add_row("start of a task, s", common.format_number(measured["start_seconds"]), "", "", "")
    table.add_row("ours, cells an hour in two processes", *common.spread_cells(measured["cells_an_hour"]), "", "")
    out.print(table)
    stages = common.make_table(f"{name}: share of a cell's time, %, under the profiler", "stage", "products", "outside")
    for stage, shares in measured["stages"].items():
        stages.add_row(stage, *(f"{100 * share:.1f}" for share in shares.values()))
    out.print(stages)
