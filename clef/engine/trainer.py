"""The training of one cell: one readable loop on Accelerate.

Read `Trainer.run` first. Order, augmentation and learning rate are functions of the step, so the state that a
checkpoint holds is small: weights, optimiser, random state, and the number of steps.
"""

import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator

from clef import console, methods, signals
from clef.cells import records
from clef.config import CellConfig
from clef.data.dataset import CellDataset
from clef.data.decoded_cache import node_cache
from clef.data.loader import loader, to_device
from clef.data.manifest import Manifest
from clef.data.order import Order, RankBatches
from clef.data.shards import SplitShards
from clef.engine import atomic_dir, checkpoint, feature_cache, model_io, train_step
from clef.engine.checkpoint import Progress, State
from clef.engine.distributed import Watchdog, synchronize_buffers, together
from clef.engine.evaluation import evaluate
from clef.engine.faults import Faults
from clef.engine.feature_cache import FrozenFeatures
from clef.engine.train_log import Display, Log, StepMeter, SyncResult
from clef.engine.train_step import TrainStep
from clef.errors import CellError, Preempted
from clef.methods import Dictionary
from clef.metrics import headline
from clef.models import WeightLoader


class Trainer:
    """Everything that one run needs, made in an order that every rank shares."""

    def __init__(self, config: CellConfig, folder: Path, manifest: Manifest, accelerator: Accelerator) -> None:
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self.main, self.alone = accelerator.is_main_process, accelerator.num_processes == 1
        self.on_cpu = accelerator.device.type == "cpu"  # elsewhere, a look at a flag would wait for the device
        shards, rank = config.shards, accelerator.process_index
        self.train_split = SplitShards(shards, "train", manifest)
        self.val_split = SplitShards(shards, "val", manifest) if "val" in manifest.splits else None
        self.order = Order(len(self.train_split), config.batch_size, config.seed)
        self.steps = self.order.batches(config.epochs)
        torch.manual_seed(config.seed)  # the same initial weights on every rank
        counts = [manifest.splits["train"].classes[name] for name in manifest.classes]
        method = methods.build(config, counts, len(self.train_split), self._dictionary)
        model_io.load_parent_backbone(config, method)
        self.faults = Faults(config.runtime.faults, rank)
        self.updates = TrainStep(config, method, accelerator, self.faults)
        self.method, self.optimizer = self.updates.method, self.updates.optimizer
        self.frozen = FrozenFeatures(config, self.method, accelerator.device, self._say)
        self.cache = node_cache(config.runtime)
        if self.cache:  # room for every split now, not at the first validation
            self.cache.reserve(manifest, tuple(manifest.splits), self.frozen.reads)
        for name in manifest.splits:
            self.frozen.prepare(SplitShards(shards, name, manifest))
        checkpoint.seed_all(config.seed * 10_007 + rank)  # other dropout on every rank
        self.window = StepMeter(accelerator)
        self.progress, self.saved = Progress(), (0, 0)
        self.state = State(self.method, self.optimizer, self.window, accelerator)
        self.checkpoints, self.saved_at = folder / "checkpoints", time.monotonic()
        self.told_at = 0.0
        self.watchdog = Watchdog(config.runtime.watchdog, folder / f"hung-{rank}.txt", self._hung)

    def _say(self, text: str) -> None:
        if self.main:
            console.err.print(text, highlight=False)

    def _hung(self, why: str) -> None:
        records.write_state(self.folder, "failed", reason=why, step=self.progress.step, steps=self.steps)

    def _dictionary(self, load: WeightLoader) -> Dictionary:
        return feature_cache.dictionary(self.config, load, self.train_split, self.accelerator.device, self._say)

    def resume(self) -> bool:
        """Go back to the newest good checkpoint, if there is one. CellError when there are only damaged ones."""
        found = together(self.accelerator, lambda: self._newest() if self.main else None)[0]
        if found:
            self.progress = checkpoint.load_checkpoint(found, self.state)
        self.saved = self._place()
        together(self.accelerator, lambda: self._forget_lost_steps() if self.main else None)
        return found is not None

    def _forget_lost_steps(self) -> None:
        records.cut_log(self.folder, self.progress.log_bytes)
        checkpoint.restore_best(self.checkpoints, self.progress)

    def _newest(self) -> Path | None:
        found = atomic_dir.latest_valid(self.checkpoints, self._say)
        if found is None and (damaged := atomic_dir.quarantined(self.checkpoints)):
            raise CellError(
                f"{self.checkpoints}: no checkpoint is left to go on from, just damaged ones ({', '.join(damaged)}); "
                "train the cell anew with --restart, or remove its folder"
            )
        return found

    def check_room(self) -> None:
        """Refuse a disk that can't take the checkpoints. SetupError with the numbers, on every rank."""
        needed = checkpoint.expected_size(self.method, self.config.optimizer)
        needed -= atomic_dir.size(self.checkpoints)
        together(self.accelerator, lambda: atomic_dir.check_room(self.checkpoints, needed) if self.main else None)

    def run(self, display: Display) -> bool:
        """Train up to the last epoch, or to `runtime.stop_after`; says whether the training is complete.

        Raises Preempted, on all ranks and saved, when one was asked to stop; CellError at a number that isn't finite.
        """
        stop = min(self.steps, self.config.runtime.stop_after or self.steps)
        with (
            closing(Log(self.folder, self.config.runtime.tensorboard, self.progress.step)) as self.log,
            closing(self._batches(stop)) as batches,
        ):
            self.method.train()
            self._pause(display, log=False, save=False)  # what was broken off is made up for
            for batch in self.window.timed(batches):
                names, losses = self._step(batch)
                self.window.add(names, losses)
                self.progress.step += 1
                self.progress.samples += self.config.batch_size
                self.watchdog.feed()
                log, save = self._log_is_due(self.progress.step), self._save_is_due(stop)
                if log or save or self._alone_and_wanted():
                    self._pause(display, log, save)
        return self.progress.step >= self.steps

    def _batches(self, stop: int) -> Generator[dict[str, Any], None, None]:
        dataset = CellDataset(self.train_split, self.frozen.reads, self.config.seed, augment=True, cache=self.cache)
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        batches = RankBatches(self.order, rank, ranks, self.progress.step, stop)
        return iter(loader(dataset, batches, self.config.runtime.workers))

    def _step(self, batch: dict[str, Any]) -> tuple[list[str], torch.Tensor]:
        """One update, at the rate that belongs to this step; names and values of the loss terms."""
        step = self.progress.step + 1
        self.faults.strike("step", step)
        batch = to_device(self.frozen.attach(batch, self.train_split), self.frozen.reads, self.accelerator.device)
        return self.updates(batch, step, self._rate(step), measured=self._log_is_due(step))

    def _rate(self, step: int) -> float:
        epoch = (step - 1) * self.config.batch_size / len(self.train_split)
        return self.config.optimizer.lr * train_step.lr_factor(self.config.schedule, epoch, self.config.epochs)

    def _epochs(self) -> int:
        """Whole epochs consumed."""
        return self.progress.samples // len(self.train_split)

    def _log_is_due(self, step: int) -> bool:
        return step % self.config.runtime.log_every == 0 or step == self.steps

    def _validation_is_due(self) -> bool:
        return self._epochs() > (self.progress.history[-1]["epoch"] if self.progress.history else 0)

    def _save_is_due(self, stop: int) -> bool:
        step, every = self.progress.step, self.config.runtime.checkpoint_every
        return self._validation_is_due() or step == stop or bool(every and step % every == 0)

    def _alone_and_wanted(self) -> bool:
        """Whether this one rank has to act at once. Several must find the same step: they wait for a log line."""
        return self.alone and (signals.asked() or (self.on_cpu and bool(self.updates.guard.found)))

    def _pause(self, display: Display, log: bool, save: bool) -> None:
        """What all ranks do between two steps now and then: log line, validation, checkpoint, leaving."""
        agreed = self._agree(log)
        if log:
            self._log(agreed, display)
        stop = agreed.stop
        if self._validation_is_due() and not stop:
            stop = not self._validate(display)
            save = True
        if save or stop or agreed.save:
            self._save()
        if stop:
            raise Preempted(self._goodbye())
        self.window.resume()

    def _agree(self, log: bool) -> SyncResult:
        minutes = self.config.runtime.checkpoint_minutes
        late = log and bool(minutes) and time.monotonic() > self.saved_at + 60 * minutes
        guard = self.updates.guard
        agreed = self.window.agree(guard.since, signals.asked(), late and self.main)
        if agreed.spoilt:
            self._complain(agreed.spoilt)
        guard.forget()
        return agreed

    def _complain(self, since: int) -> NoReturn:
        """All ranks end with the same word on the first bad step, whose batch the first one leaves in a file."""
        step = self.progress.step - since + 1
        losses = dict(zip(self.window.names, self.updates.guard.terms(self.accelerator, since), strict=True))
        bad = train_step.BadStep(step, losses, self._rate(step))
        place = self.config, self.folder, self.train_split, self.order
        raise CellError(together(self.accelerator, lambda: train_step.report(bad, *place) if self.main else "")[0])

    def _log(self, agreed: SyncResult, display: Display) -> None:
        step, norm = self.progress.step, self.updates.norm
        record = {
            "step": step,
            # The last batch may reach into an epoch that isn't trained.
            "epoch": round(min(self.progress.samples / len(self.train_split), self.config.epochs), 3),
            **self.window.record(agreed, self.config.batch_size),
            "lr": self._rate(step),
            "grad_norm": None if norm is None else float(norm),
        }
        display.step(record, self.progress.best)
        if self.main:
            self.log.append(record)
            self._tell(record, display.left(step))

    def _tell(self, record: dict[str, Any], left: float) -> None:
        """Say in the state file how far the run is, for those who watch: once a second at most."""
        if time.monotonic() < self.told_at + 1:
            return
        self.told_at = time.monotonic()
        place = {"step": record["step"], "steps": self.steps, "epoch": record["epoch"], "epochs": self.config.epochs}
        speed = {"images_per_s": record["images_per_s"], "metric": self.progress.best, "left_s": round(left, 1)}
        records.write_state(self.folder, "running", **place, **speed)

    def _validate(self, display: Display) -> bool:
        """Score the validation split, if there is one; False when that was broken off by a wish to stop."""
        synchronize_buffers(self.method)
        try:
            value = self._score()
        except Preempted:
            return False
        self.method.train()
        epoch, step, known = self._epochs(), self.progress.step, self.progress.best
        best = self.config.selection == "last" or known is None or (value is not None and value > known)
        if best:
            self.progress.best, self.progress.best_epoch, self.progress.best_step = value, epoch, step
        record = {"epoch": epoch, "step": step, "val": value}
        self.progress.history.append(record)
        remark = "  best so far" if best and self.config.selection == "best" else ""
        display.say(f"epoch {epoch}/{self.config.epochs}" + (f"  val {value:.2f}{remark}" if value is not None else ""))
        if self.main:
            self.log.append(record)
        return True

    def _score(self) -> float | None:
        if self.val_split is None:  # some protocols have none
            return None
        arrays = evaluate(self.method, self.config, self.val_split, self.accelerator, self.frozen, self.scored)
        return headline(arrays["scores"], arrays["target"])

    def scored(self) -> None:
        """A batch of an evaluation is through."""
        self.watchdog.feed()
        self.faults.strike("validation", self.progress.step)

    def _save(self) -> None:
        """Write a checkpoint, unless the newest one holds just this."""
        if self.saved == self._place():
            return
        synchronize_buffers(self.method)
        self.progress.log_bytes = records.log_size(self.folder)
        checkpoint.save_checkpoint(self.checkpoints, self.progress, self.state, self._half_way)
        self.saved, self.saved_at = self._place(), time.monotonic()
        self.watchdog.feed()

    def _half_way(self) -> None:
        self.faults.strike("checkpoint", self.progress.step)

    def _place(self) -> tuple[int, int]:
        return self.progress.step, len(self.progress.history)

    def _goodbye(self) -> str:
        step = self.progress.step
        kept = (
            f"saved after step {step}/{self.steps}; the same command with --resume goes on"
            if step
            else ("before the first step; nothing is lost")
        )
        return f"preempted by {', '.join(signals.reasons()) or 'another rank'}, {kept} ({self.folder})"
