"""Two step loops over the same batches: the trainer's own, and one as a tutorial of PyTorch would have it."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from clef import records
from clef.bench.rounds import Run
from clef.config import CellConfig
from clef.data import manifest as manifests
from clef.data.dataset import CellDataset
from clef.data.loader import loader, to_device
from clef.data.order import RankBatches
from clef.engine import job
from clef.engine.display import Display
from clef.engine.trainer import Trainer
from clef.engine.update import fused_optimizer

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
