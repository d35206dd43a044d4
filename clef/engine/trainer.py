"""The training of one cell: one readable loop on Accelerate.

Read `Trainer.run` first. Order, augmentation and learning rate are functions of the step, so the state that a
checkpoint holds is small: weights, optimiser, random state, and the number of steps.
"""

import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor

from clef import cards, console, methods, records
from clef.config import CellConfig, OptimizerConfig
from clef.data.cache import node_cache
from clef.data.dataset import CellDataset
from clef.data.loader import loader, to_device
from clef.data.manifest import Manifest
from clef.data.order import Order, RankBatches
from clef.data.shards import SplitShards
from clef.engine import checkpoint, confounders, parent, schedule
from clef.engine.checkpoint import Progress
from clef.engine.display import Display
from clef.engine.evaluation import evaluate
from clef.engine.frozen import FrozenFeatures
from clef.engine.metrics import headline
from clef.errors import CellError
from clef.methods import Dictionary, Method, Prediction
from clef.models import WeightLoader


class Trainer:
    """Everything that one run needs, made in an order that every rank shares."""

    def __init__(self, config: CellConfig, folder: Path, manifest: Manifest, accelerator: Accelerator) -> None:
        self.config, self.folder, self.accelerator = config, folder, accelerator
        shards = config.shards
        self.train_split = SplitShards(shards, "train", manifest)
        self.val_split = SplitShards(shards, "val", manifest)
        self.order = Order(len(self.train_split), config.batch_size, config.seed)
        self.steps = self.order.batches(config.epochs)
        torch.manual_seed(config.seed)  # the same initial weights on every rank
        counts = [manifest.splits["train"].classes[name] for name in manifest.classes]
        self.method = methods.build(config, counts, len(self.train_split), self._dictionary)
        parent.load_backbone(config, self.method)
        if accelerator.device.type == "cuda":  # on a CPU, torch 2.14 corrupts its heap in small channels_last networks
            self.method = self.method.to(memory_format=torch.channels_last)
        self.frozen = FrozenFeatures(config, self.method, accelerator.device, self._say)
        self.cache = node_cache(config.runtime)
        if self.cache:  # room for every split now, not at the first validation
            self.cache.reserve(manifest, ("train", "val", *cards.load(config.dataset).test_splits), self.frozen.reads)
        self.optimizer = _optimizer(self.method, config.optimizer)
        self.wrapped, self.prepared = accelerator.prepare(self.method, self.optimizer)
        torch.manual_seed(config.seed * 10_007 + accelerator.process_index)  # other dropout on every rank
        self.progress = Progress()
        self.checkpoints = folder / "checkpoints"

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            console.err.print(text, highlight=False)

    def _dictionary(self, load: WeightLoader) -> Dictionary:
        return confounders.dictionary(self.config, load, self.train_split, self.accelerator.device, self._say)

    def resume(self) -> bool:
        """Go back to the newest checkpoint, if there is one."""
        found = checkpoint.checkpoints(self.checkpoints)
        if found:
            self.progress = checkpoint.load_checkpoint(found[-1], self.method, self.optimizer, self.accelerator)
        return bool(found)

    def run(self, display: Display) -> bool:
        """Train up to the last epoch, or to `runtime.stop_after`; says whether the training is complete."""
        runtime = self.config.runtime
        stop = min(self.steps, runtime.stop_after or self.steps)
        window = _Window(self.accelerator)
        for batch in window.timed(self._loader(stop)):
            self.method.train()
            prediction = self._step(batch)
            window.add(prediction)
            self.progress.step += 1
            step = self.progress.step
            if step % runtime.log_every == 0 or step == stop:
                self._log(window, display)
            epoch_ended = self._epochs(step) > self._epochs(step - 1)
            if epoch_ended:
                self._validate(display)
            if epoch_ended or step == stop or (runtime.checkpoint_every and step % runtime.checkpoint_every == 0):
                self._save()
            window.resume()
        return self.progress.step >= self.steps

    def _loader(self, stop: int) -> Any:
        dataset = CellDataset(self.train_split, self.frozen.reads, self.config.seed, augment=True, cache=self.cache)
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        batches = RankBatches(self.order, rank, ranks, self.progress.step, stop)
        return loader(dataset, batches, self.config.runtime.workers)

    def _step(self, batch: dict[str, Any]) -> Prediction:
        """One update, at the rate that belongs to this step."""
        optimizer = self.config.optimizer
        epoch = self.progress.step * self.config.batch_size / len(self.train_split)
        schedule.set_rate(
            self.optimizer, optimizer.lr * schedule.factor(self.config.schedule, epoch, self.config.epochs)
        )
        batch = self.frozen.attach(batch, self.train_split)
        prediction: Prediction = self.wrapped(to_device(batch, self.frozen.reads, self.accelerator.device))
        self.accelerator.backward(_total(prediction.losses))
        if optimizer.clip_norm:
            self.accelerator.clip_grad_norm_(self.method.parameters(), optimizer.clip_norm)
        self.prepared.step()
        self.prepared.zero_grad()
        return prediction

    def _epochs(self, step: int) -> int:
        """Whole epochs consumed after `step` steps."""
        return step * self.config.batch_size // len(self.train_split)

    def _log(self, window: "_Window", display: Display) -> None:
        step = self.progress.step
        record = window.record(self.config.batch_size)
        record = {
            "step": step,
            "epoch": round(step * self.config.batch_size / len(self.train_split), 3),
            **record,
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        if not math.isfinite(record["loss"]):
            raise CellError(f"non-finite loss at step {step}: {record['losses']} (learning rate {record['lr']:g})")
        display.step(record, self.progress.best)
        if self.accelerator.is_main_process:
            records.append_log(self.folder, record)
            place = {"step": step, "steps": self.steps, "epoch": record["epoch"], "epochs": self.config.epochs}
            speed = {"images_per_s": record["images_per_s"], "metric": self.progress.best}
            records.write_state(self.folder, "running", **place, **speed)

    def _validate(self, display: Display) -> None:
        """Score the validation split, and keep the weights if they are the best so far."""
        synchronise_buffers(self.method)
        arrays = evaluate(self.method, self.config, self.val_split, self.accelerator, self.frozen)
        value = headline(arrays["scores"], arrays["target"])
        epoch = self._epochs(self.progress.step)
        best = self.config.selection == "last" or self.progress.best is None or value > self.progress.best
        if best:
            self.progress.best, self.progress.best_epoch = value, epoch
        record = {"epoch": epoch, "step": self.progress.step, "val": value}
        self.progress.history.append(record)
        remark = "  best so far" if best and self.config.selection == "best" else ""
        display.say(f"epoch {epoch}/{self.config.epochs}  val {value:.2f}{remark}")
        if self.accelerator.is_main_process:
            records.append_log(self.folder, record)
            if best:
                checkpoint.save_weights(self.folder / "checkpoints" / "best.safetensors", self.method)

    def _save(self) -> None:
        synchronise_buffers(self.method)
        checkpoint.save_checkpoint(self.checkpoints, self.method, self.optimizer, self.progress, self.accelerator)


class _Window:
    """The means since the last log line, kept on the device so that no step waits for them."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self._reset()

    def _reset(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count, self.waited, self.busy = 0, 0.0, 0.0

    def timed(self, batches: Any) -> Any:
        """The batches, with the time spent waiting for each one counted."""
        iterator = iter(batches)
        while True:
            began = time.monotonic()
            batch = next(iterator, None)
            self.began = time.monotonic()
            self.waited += self.began - began
            if batch is None:
                return
            yield batch

    def add(self, prediction: Prediction) -> None:
        """Count one step's losses."""
        for name, value in prediction.losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()
        self.count += 1
        self.busy += time.monotonic() - self.began

    def resume(self) -> None:
        """Validation and checkpoints are over; they are not part of the loop's speed."""
        self.began = time.monotonic()

    def record(self, batch_size: int) -> dict[str, Any]:
        """Mean losses over steps and ranks, images/s over all ranks, the share of time spent waiting for data."""
        names = sorted(self.sums)
        means = self.accelerator.reduce(torch.stack([self.sums[name] for name in names]) / self.count, "mean").tolist()
        seconds = self.busy + self.waited
        record = {
            "loss": sum(means),
            "losses": dict(zip(names, means, strict=True)),
            "images_per_s": round(batch_size * self.count / seconds, 1),
            "data_wait": round(self.waited / seconds, 3),
        }
        self._reset()
        return record


def synchronise_buffers(method: Method) -> None:
    """Give every rank rank 0's batch-norm statistics, as DDP does before the next step."""
    if dist.is_initialized():
        for buffer in method.buffers():
            dist.broadcast(buffer, 0)


def _optimizer(method: Method, config: OptimizerConfig) -> torch.optim.Optimizer:
    groups = method.parameter_groups(config.weight_decay)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr)


def _total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()
