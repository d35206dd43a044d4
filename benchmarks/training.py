"""Two step loops over the same batches: the trainer's own, and one as a tutorial of PyTorch would have it.

training: what our step loop costs beside a hand-written one of bare PyTorch

Both train the same tiny model on the same batches, which lie in memory: what is left is the loop itself. Ours logs,
looks after numbers that are not finite, signals, clocks and the watchdog; the bare one does nothing of the kind.
"""

import argparse
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks import common
from benchmarks.common import Run
from clef.cells import records
from clef.config import CellConfig, resolve
from clef.config.base import nest
from clef.console import Steps, out
from clef.data import manifest as manifests
from clef.data.dataset import CellDataset
from clef.data.loader import loader, to_device
from clef.data.order import RankBatches
from clef.datasets import cards
from clef.demo import generate
from clef.engine import run as job
from clef.engine.train_log import Display
from clef.engine.train_step import fused_optimizer
from clef.engine.trainer import Trainer
from clef.sharding import build

Batch = dict[str, Any]
BATCHES = 16
"""Batches that lie in memory; both loops go round them."""


class FromMemory(Trainer):
    """The trainer, on batches that are there already, without validation and checkpoints. `seconds`: its last run."""

    batches: list[Batch]
    wanted: int
    seconds: float

    def _batches(self, stop: int) -> Generator[Batch, None, None]:
        began = time.perf_counter()
        yield from islice(cycle(self.batches), self.wanted)
        self.seconds = time.perf_counter() - began

    def _validation_is_due(self) -> bool:
        return False

    def _save_is_due(self, stop: int) -> bool:
        return False


@contextmanager
def both(config: CellConfig, folder: Path, steps: int) -> Iterator[Mapping[str, Run]]:
    """The loops by name; each call trains `steps` steps and gives the seconds of one."""
    folder.mkdir(parents=True)
    accelerator = job.start(config)
    manifest = manifests.load(config.shards)
    ours, other = (FromMemory(config, folder, manifest, accelerator) for _ in range(2))
    ours.wanted, ours.batches = steps, _in_memory(ours)
    hidden = Display(config.name, ours.steps, config.epochs, shown=False)

    def run_ours() -> float:
        hidden.begin(ours.progress.step)
        ours.run(hidden)
        return ours.seconds / steps

    def run_bare() -> float:
        return bare(other, ours.batches, steps) / steps

    try:
        yield {"bare": run_bare, "ours": run_ours}
    finally:
        accelerator.end_training()
        records.write_state(folder, "stopped")


def _in_memory(trainer: Trainer) -> list[Batch]:
    batches = RankBatches(trainer.order, 0, 1, 0, BATCHES)
    dataset = CellDataset(trainer.train_split, trainer.frozen.reads, trainer.config.seed, augment=True)
    return list(loader(dataset, batches, workers=0))


def bare(trainer: Trainer, batches: list[Batch], steps: int) -> float:
    """Seconds that `steps` steps take in a loop written by hand: forward, backward, the same fused optimiser."""
    config, method = trainer.config, trainer.method
    optimizer = fused_optimizer(method, config.optimizer)
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


BAR = 300.0
"""Microseconds a step that our loop may cost on top."""
JSON = Path("results/bench/train.json")
DATASET: Literal["caer_s_demo"] = "caer_s_demo"
PEOPLE = 210
TINY: dict[str, Any] = nest(
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--pairs", type=common.positive, default=201, help="rounds; medians are of so many (201)")
    parser.add_argument("--steps", type=common.positive, default=40, help="steps of each loop in a round (40)")
    parser.add_argument("--json", type=Path, default=JSON, metavar="PATH", help=f"default: {JSON}")


def run(args: argparse.Namespace) -> int:
    """Measure, show and write."""
    from benchmarks import report

    host = common.facts()
    report.show_machine(host)
    with tempfile.TemporaryDirectory(prefix="clef-bench-") as folder:
        seconds = _measure(args, Path(folder))
    extra = [1e6 * (ours - bare) for ours, bare in zip(seconds["ours"], seconds["bare"], strict=True)]
    overhead = common.spread(extra)
    loops = {name: common.spread([1e6 * value for value in values]) for name, values in seconds.items()}
    out.print(report.steps_table(loops, overhead, BAR))
    facts = {"steps": args.steps, "pairs": args.pairs, "bar": BAR, "met": overhead.median <= BAR}
    microseconds = {name: asdict(value) for name, value in (loops | {"overhead": overhead}).items()}
    microseconds["overhead"]["rounds"] = extra
    report.write(args.json, {"machine": host, **facts, "microseconds_a_step": microseconds})
    return 0


def _measure(args: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Seconds a step of each loop, one a round."""
    card = cards.load(DATASET)
    generate(DATASET, folder / "source", people=PEOPLE, workers=common.cores())
    with Steps("people") as progress:
        build.build(card, folder / "source", folder / "shards" / card.name, common.cores(), progress)
    config = resolve.resolve({**TINY, "runtime": {"shards": str(folder / "shards"), "workers": 0, "threads": 1}})
    # torch

    with both(config, folder / "cell", args.steps) as loops, Steps("passes") as progress:
        return common.interleaved(loops, args.pairs, progress)
