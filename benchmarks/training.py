"""What our training loop costs on top of a hand-written one in plain PyTorch.

Both train the same tiny model on the same batches, which are in memory: what remains is the loop itself. Ours logs,
and watches over numbers that are not finite, signals, times and the watchdog; the plain one does none of this.
"""

import argparse
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks import common
from benchmarks.common import Run, Spread
from clef import process
from clef.cells import records
from clef.config import CellConfig, resolve
from clef.console import ProgressBars, out
from clef.data import manifest as manifests
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader, to_device
from clef.data.order import RankBatches
from clef.datasets import cards
from clef.demo import generate
from clef.engine import run as engine_run
from clef.engine.train_log import Display
from clef.engine.train_step import build_optimizer
from clef.engine.trainer import Trainer
from clef.errors import argument_parser
from clef.sharding import build
from clef.yaml_config import nest

TARGET = 300.0
"""Microseconds a step that our loop may cost on top."""
BATCHES = 16
"""Batches in memory; both loops repeat them."""
DATASET: Literal["caer_s_demo"] = "caer_s_demo"
PEOPLE = 210
TINY_CELL: dict[str, Any] = nest(
    {
        "dataset": DATASET,
        "backbone": {"name": "caer_net", "width": 0.0625},
        "method": {"name": "vanilla"},
        "inputs.face.size": [24, 24],
        "inputs.scene_without_face": {"size": [28, 36], "crop": [24, 24]},
        "batch_size": 4,
        "epochs": 100_000,
    }
)


def main(arguments: list[str]) -> int:
    """Measure, show and write."""
    parser = argument_parser("python -m benchmarks training", __doc__)
    parser.add_argument("--steps", type=common.positive, default=40, help="steps of each loop in a round (40)")
    common.add_report_options(parser, "training", rounds=201)
    args = common.parse(parser, arguments)
    host = common.machine()
    common.show_machine(host)
    with common.work_folder() as folder:
        seconds = _measure(args, folder)
    overheads = [1e6 * (ours - plain) for ours, plain in zip(seconds["ours"], seconds["plain"], strict=True)]
    loops = {name: common.spread([1e6 * value for value in values]) for name, values in seconds.items()}
    overhead = common.spread(overheads)
    met = overhead.median <= TARGET
    _show(loops, overhead, met)
    content = {"machine": host, "steps": args.steps, "rounds": args.rounds, "target": TARGET, "met": met}
    microseconds = {**loops, "overhead": vars(overhead) | {"rounds": overheads}}
    common.write_report(args.json, content | {"microseconds_a_step": microseconds})
    return 0


def _measure(args: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Return seconds a step of each loop, one value a round."""
    card = cards.load(DATASET)
    generate(DATASET, folder / "source", people=PEOPLE, workers=process.cores())
    with ProgressBars("people") as progress:
        build.build(card, folder / "source", folder / "shards" / card.name, process.cores(), progress)
    runtime = {"shards": str(folder / "shards"), "num_workers": 0, "threads": 1}
    config = resolve.resolve({**TINY_CELL, "runtime": runtime})
    with both_loops(config, folder / "cell", args.steps) as loops, ProgressBars("passes") as progress:
        return common.interleaved(loops, args.rounds, progress)


@contextmanager
def both_loops(config: CellConfig, folder: Path, steps: int) -> Iterator[Mapping[str, Run]]:
    """Yield the loops by name; each call trains `steps` steps and returns the seconds of one."""
    folder.mkdir(parents=True)
    accelerator = engine_run.start_ranks(config)
    manifest = manifests.load(config.shards)
    ours, plain = (TrainerFromMemory(config, folder, manifest, accelerator) for _ in range(2))
    ours.wanted, ours.batches = steps, _load_batches(ours)
    hidden = Display(config.name, ours.total_steps, config.epochs, shown=False)

    def run_ours() -> float:
        hidden.begin(ours.progress.step)
        ours.run(hidden)
        return ours.seconds / steps

    def run_plain() -> float:
        return train_plainly(plain, ours.batches, steps) / steps

    try:
        yield {"plain": run_plain, "ours": run_ours}
    finally:
        accelerator.end_training()
        records.write_state(folder, "stopped")


class TrainerFromMemory(Trainer):
    """The trainer, on batches in memory, without validation and checkpoints. `seconds`: how long its last run took."""

    batches: list[dict[str, Any]]
    wanted: int
    seconds: float

    def _batches(self, stop: int) -> Generator[dict[str, Any], None, None]:
        began = time.perf_counter()
        yield from islice(cycle(self.batches), self.wanted)
        self.seconds = time.perf_counter() - began

    def _validation_is_due(self) -> bool:
        return False

    def _save_is_due(self, stop: int) -> bool:
        return False


def _load_batches(trainer: Trainer) -> list[dict[str, Any]]:
    batches = RankBatches(trainer.order, 0, 1, 0, BATCHES)
    dataset = CellDataset(trainer.train_split, trainer.frozen.decoded_inputs, trainer.config.seed, augment=True)
    return list(BatchLoader(dataset, batches, 0))


def train_plainly(trainer: Trainer, batches: list[dict[str, Any]], steps: int) -> float:
    """Return the seconds that `steps` steps take by hand: forward, backward, the same fused optimizer."""
    config, method = trainer.config, trainer.method
    optimizer = build_optimizer(method, config.optimizer)
    for group in optimizer.param_groups:
        group["lr"] = config.optimizer.lr
    inputs, device = config.inputs.present, torch.device(trainer.accelerator.device)
    method.train()
    began = time.perf_counter()
    for batch in islice(cycle(batches), steps):
        losses = method(to_device(batch, inputs, device)).losses
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - began


def _show(loops: Mapping[str, Spread], overhead: Spread, met: bool) -> None:
    table = common.make_table("training loops, microseconds a step", "loop", "median", "min–max", "target", "")
    for name, value in loops.items():
        table.add_row(name, *common.spread_cells(value), "", "")
    table.add_row("ours − plain", *common.spread_cells(overhead), f"≤ {TARGET:,.0f}", common.mark(met))
    out.print(table)
