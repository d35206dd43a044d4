"""The training of one cell: one readable loop on Accelerate.

Read `Trainer.run` first; what it calls follows in the order of the calls. A step goes through `clef.data.order` (which
samples), `clef.data.loader` (the batch), `clef.methods.method` and `clef.models.backbone` (prediction and losses) and
`train_step` (gradients, guard, update); `train_log` keeps its numbers.

Order, augmentation and learning rate are functions of the step, so the state that a checkpoint holds is small: weights,
optimizer, random state, and the number of steps.
"""

import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from accelerate import Accelerator

from clef import console, io, methods, signals
from clef.cells import records
from clef.config import CellConfig
from clef.data.batch_memory import Batch
from clef.data.decoded_cache import node_cache
from clef.data.loader import to_device
from clef.data.manifest import Manifest
from clef.data.order import Order, RankBatches
from clef.data.shards import SplitShards
from clef.engine import atomic_dir, checkpoint, class_embeddings, feature_cache, model_io
from clef.engine.checkpoint import TrainingProgress, TrainState
from clef.engine.distributed import Watchdog, on_all_ranks, synchronize_buffers
from clef.engine.evaluation import Arrays, evaluate
from clef.engine.feature_cache import FrozenFeatures
from clef.engine.train_log import Display, StepMeter, SyncResult, TrainLog
from clef.engine.train_step import BadStep, TrainStep, bad_step_message, lr_factor
from clef.errors import CellError, Preempted
from clef.methods import ConfounderDictionary
from clef.metrics import format_score, headline_score, or_none
from clef.models import WeightLoader


class Trainer:
    """Everything that one run needs, built in an order that every rank shares."""

    def __init__(self, config: CellConfig, folder: Path, manifest: Manifest, accelerator: Accelerator) -> None:
        self.config, self.folder, self.accelerator = config, folder, accelerator
        rank = accelerator.process_index
        self.is_main, self.is_only_rank = accelerator.is_main_process, accelerator.num_processes == 1
        self.on_cpu = accelerator.device.type == "cpu"  # elsewhere, a look at a flag would wait for the device

        # The data: which samples there are, and which of them each step takes.
        self.train_split = SplitShards(config.shards, "train", manifest)
        self.val_split = SplitShards(config.shards, "val", manifest) if "val" in manifest.splits else None
        self.metric_name = config.card.metric
        self.order = Order(len(self.train_split), config.batch_size, config.seed)

        # The model, with the same initial weights on every rank, and what updates it.
        torch.manual_seed(config.seed)
        class_counts = [manifest.splits["train"].classes[name] for name in manifest.classes]
        method = methods.build(config, class_counts, len(self.train_split), self._load_dictionary)
        class_embeddings.set_class_embeddings(config, method, self._print)
        model_io.load_parent_backbone(config, method)
        self.train_step = TrainStep(config, method, accelerator)
        self.method, self.optimizer = self.train_step.method, self.train_step.optimizer
        # A method without any trained weight, as a zero-shot one, is only scored.
        self.total_steps = self.order.num_batches(config.epochs) if self.train_step.parameters else 0

        # What is computed or decoded once: features of frozen networks, images in the node's cache.
        self.frozen = FrozenFeatures(config, self.method, accelerator.device, self._print)
        self.cache = node_cache(config.runtime)
        if self.cache:  # take the room for every split now, not at the first validation
            self.cache.reserve(manifest, tuple(manifest.splits), self.frozen.decoded_inputs)
        for name in manifest.splits if self.total_steps else [name for name in manifest.splits if name != "train"]:
            self.frozen.prepare(SplitShards(config.shards, name, manifest))

        checkpoint.seed_all(config.seed * 10_007 + rank)  # from here on, other dropout on every rank

        # What is counted, saved and watched.
        self.meter = StepMeter(accelerator)
        self.progress = TrainingProgress()
        self.state = TrainState(self.method, self.optimizer, self.meter, accelerator)
        self.checkpoints = folder / records.CHECKPOINTS
        self.best_weights: dict[str, torch.Tensor] = {}  # those of a run that writes no checkpoints
        self.saved_position, self.saved_at = (0, 0), time.monotonic()
        self.state_written_at = 0.0
        self.watchdog = Watchdog(config.runtime.watchdog, folder / f"hung-{rank}.txt", self._record_hung)

    # ---- Before the first step ----

    def resume(self) -> bool:
        """Go back to the newest good checkpoint; return whether there is one.

        Raises CellError when there are only damaged ones.
        """
        look = self.is_main and self.config.runtime.checkpoints
        newest = on_all_ranks(self.accelerator, lambda: self._newest_checkpoint() if look else None)[0]
        if newest:
            self.progress = checkpoint.load_checkpoint(newest, self.state)
        self.saved_position = self._position()
        on_all_ranks(self.accelerator, lambda: self._remove_lost_steps() if self.is_main else None)
        return newest is not None

    def check_room(self) -> None:
        """Refuse a disk that can't take the checkpoints. Raises SetupError with the numbers, on every rank."""
        if not self.config.runtime.checkpoints:
            return
        needed = checkpoint.expected_size(self.method, self.config.optimizer) - atomic_dir.size(self.checkpoints)
        on_all_ranks(
            self.accelerator, lambda: atomic_dir.check_room(self.checkpoints, needed) if self.is_main else None
        )

    # ---- The loop ----

    def run(self, display: Display) -> bool:
        """Train up to the last epoch, or to `runtime.stop_after`; return whether the training is complete.

        Raises Preempted, on all ranks and saved, when one was asked to stop; CellError at a number that isn't finite.
        """
        last_step = min(self.total_steps, self.config.runtime.stop_after or self.total_steps)
        if self.config.method.is_fitted and not self.progress.history:
            self._fit(display)
        with (
            closing(TrainLog(self.folder, self.config.runtime.tensorboard, self.progress.step)) as self.log,
            closing(self._batches(last_step)) as batches,
        ):
            self.method.train()
            # Run the validation or checkpoint that an interrupted run missed, and end if asked to already.
            self._sync_point(display, log=False, save=False)
            for batch in self.meter.timed(batches):
                # The update. On a GPU it is merely queued; nothing here waits for its numbers.
                names, losses = self._train(batch)
                self.meter.add(names, losses)
                self.progress.step += 1
                self.progress.samples += self.config.batch_size
                self.watchdog.feed()
                # Now and then: a log line, a validation, a checkpoint, or the end because someone asked for it.
                log, save = self._log_is_due(self.progress.step), self._save_is_due(last_step)
                if log or save or self._must_act_now():
                    self._sync_point(display, log, save)
        return self.progress.step >= self.total_steps

    def _fit(self, display: Display) -> None:
        """Fit a method that trains nothing to the predictions for val. Raises CellError where there is no val."""
        if self.val_split is None:
            raise CellError(f"{self.config.name}: the protocol {self.config.protocol} has no val to fit it to")
        display.print(self.method.fit(self._scored(self.val_split), self.metric_name))

    def _batches(self, last_step: int) -> Generator[Batch, None, None]:
        """Yield this rank's share of each global batch from the next step up to `last_step`, on the host."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        batches = RankBatches(self.order, rank, ranks, self.progress.step, last_step)
        return self.frozen.batches(self.train_split, batches, augment=True)

    def _train(self, batch: Batch) -> tuple[list[str], torch.Tensor]:
        """Make one step, at its own learning rate; return the names and values of the loss terms."""
        step = self.progress.step + 1
        # Features of frozen networks, where the cell has any, are added from the cache; all other inputs were decoded.
        batch = self.frozen.add_features(batch, self.train_split, self._epochs_of(step))
        batch = to_device(batch, self.frozen.decoded_inputs, self.accelerator.device)
        return self.train_step(batch, self._learning_rate(step), measure_norm=self._log_is_due(step))

    def _epochs_of(self, step: int) -> np.ndarray:
        """Return the epochs that this rank's samples of a step belong to, B."""
        size = self.config.batch_size // self.accelerator.num_processes
        first = (step - 1) * self.config.batch_size + self.accelerator.process_index * size
        return np.arange(first, first + size) // len(self.train_split)

    def _learning_rate(self, step: int) -> float:
        epoch = (step - 1) * self.config.batch_size / len(self.train_split)
        return self.config.optimizer.lr * lr_factor(self.config.schedule, epoch, self.config.epochs)

    # ---- What is due ----

    def _epochs_done(self) -> int:
        return self.progress.samples // len(self.train_split)

    def _log_is_due(self, step: int) -> bool:
        return step % self.config.runtime.log_every == 0 or step == self.total_steps

    def _validation_is_due(self) -> bool:
        if not self.total_steps:
            return not self.progress.history
        return self._epochs_done() > (self.progress.history[-1]["epoch"] if self.progress.history else 0)

    def _save_is_due(self, last_step: int) -> bool:
        step, every = self.progress.step, self.config.runtime.checkpoint_every
        return self._validation_is_due() or step == last_step or bool(every and step % every == 0)

    def _must_act_now(self) -> bool:
        """Return whether an only rank was asked to stop, or has a bad number.

        Several ranks must act after the same step, so they wait for the next log line, where they exchange it.
        """
        if not self.is_only_rank:
            return False
        return signals.stop_requested() or (self.on_cpu and bool(self.train_step.guard.nonfinite))

    # ---- Between two steps: what all ranks do together ----

    def _sync_point(self, display: Display, log: bool, save: bool) -> None:
        """Exchange losses and requests between ranks; then log, validate, save and end, as far as each is due.

        The order matters: a bad number ends the run before anything is saved, and a validation belongs into the
        checkpoint of its step. Raises CellError for the bad number, Preempted once all is saved.
        """
        result = self._exchange(log)
        if log:
            self._write_log_line(result, display)
        must_stop = result.stop
        if self._validation_is_due() and not must_stop:
            must_stop = not self._validate(display)
            save = True
        if save or must_stop or result.save:
            self._save()
        if must_stop:
            raise Preempted(self._preempted_message())
        self.meter.resume()

    def _exchange(self, log: bool) -> SyncResult:
        """Return what all ranks know together: mean losses, whether to stop or save. The only exchange of a step."""
        minutes = self.config.runtime.checkpoint_minutes
        save = self.is_main and log and bool(minutes) and time.monotonic() > self.saved_at + 60 * minutes
        guard = self.train_step.guard
        result = self.meter.exchange(guard.steps_since_bad, stop=signals.stop_requested(), save=save)
        if result.steps_since_bad:
            self._raise_nonfinite(result.steps_since_bad)
        guard.reset()
        return result

    def _raise_nonfinite(self, steps_ago: int) -> NoReturn:
        """End all ranks with the same message on the first bad step, whose batch the first rank writes to a file."""
        step = self.progress.step - steps_ago + 1
        terms = self.train_step.guard.loss_terms(self.accelerator, steps_ago)
        bad = BadStep(step, dict(zip(self.meter.names, terms, strict=True)), self._learning_rate(step))

        def write_message() -> str:
            if not self.is_main:
                return ""
            return bad_step_message(bad, self.config, self.folder, self.train_split, self.order)

        raise CellError(on_all_ranks(self.accelerator, write_message)[0])

    def _write_log_line(self, result: SyncResult, display: Display) -> None:
        step, norm = self.progress.step, self.train_step.grad_norm
        record = {
            "step": step,
            # The last batch may reach into an epoch that isn't trained.
            "epoch": round(min(self.progress.samples / len(self.train_split), self.config.epochs), 3),
            **self.meter.record(result, self.config.batch_size),
            "lr": self._learning_rate(step),
            "grad_norm": None if norm is None else float(norm),
        }
        display.show_step(record, self.progress.best)
        if self.is_main:
            self.log.append(record)
            self._write_state(record, display.seconds_left(step))

    def _write_state(self, record: dict[str, Any], seconds_left: float) -> None:
        """Write how far the run is to the state file, for those who watch it: once a second at most."""
        if time.monotonic() < self.state_written_at + 1:
            return
        self.state_written_at = time.monotonic()
        records.write_state(
            self.folder,
            "running",
            step=record["step"],
            steps=self.total_steps,
            epoch=record["epoch"],
            epochs=self.config.epochs,
            images_per_s=record["images_per_s"],
            metric=self.progress.best,
            left_s=round(seconds_left, 1),
        )

    def _validate(self, display: Display) -> bool:
        """Score the validation split, if there is one; return False when a request to stop interrupted that."""
        synchronize_buffers(self.method)
        try:
            score = self._validation_score()
        except Preempted:
            return False
        self.method.train()
        epoch, step, best_score = self._epochs_done(), self.progress.step, self.progress.best
        is_best = self.config.selection == "last" or best_score is None or (score is not None and score > best_score)
        if is_best:
            self.progress.best, self.progress.best_epoch, self.progress.best_step = score, epoch, step
        record = {"epoch": epoch, "step": step, "val": score}
        self.progress.history.append(record)
        remark = "  best so far" if is_best and score is not None and self.config.selection == "best" else ""
        text = f"  val {format_score(score)}{remark}" if self.val_split else ""
        display.print((f"epoch {epoch}/{self.config.epochs}" if self.total_steps else "nothing to train") + text)
        if self.is_main:
            self.log.append(record)
        return True

    def _validation_score(self) -> float | None:
        """Return the metric on val; None where it has no value there, or the protocol has no val."""
        if self.val_split is None:
            return None
        arrays = self._scored(self.val_split)
        return or_none(headline_score(arrays["scores"], arrays["target"], self.metric_name))

    def _scored(self, split: SplitShards) -> Arrays:
        """Return the predictions for a split, as the method is now."""
        return evaluate(self.method, self.config, split, self.accelerator, self.frozen, after_batch=self.batch_scored)

    def batch_scored(self) -> None:
        """Tell the watchdog that a batch of a validation or test was scored."""
        self.watchdog.feed()

    def _save(self) -> None:
        """Write a checkpoint, or keep the best weights in memory, unless this position was saved already."""
        if self.saved_position == self._position():
            return
        synchronize_buffers(self.method)
        if self.config.runtime.checkpoints:
            self.progress.log_bytes = records.log_size(self.folder)
            checkpoint.save_checkpoint(self.checkpoints, self.progress, self.state)
        elif self.progress.best_step == self.progress.step:
            self.best_weights = checkpoint.cpu_tensors(self.method)
        self.saved_position, self.saved_at = self._position(), time.monotonic()
        self.watchdog.feed()

    def load_best(self) -> dict[str, str | None]:
        """Put the best weights into the method; return their sha256, and their file below the cell's folder, if any."""
        if not self.config.runtime.checkpoints:
            self.method.load_state_dict(self.best_weights)
            return {"file": None, "sha256": checkpoint.sha256_of(self.best_weights)}
        best = self.checkpoints / checkpoint.BEST
        checkpoint.load_weights(best, self.method)
        return {"file": str(best.relative_to(self.folder)), "sha256": io.sha256(best)}

    @property
    def saved_step(self) -> int:
        """Return the step from which the next run continues, once this one has saved itself."""
        return self.progress.step if self.config.runtime.checkpoints else 0

    def _position(self) -> tuple[int, int]:
        """Return steps and validations done: two checkpoints of one position hold the same."""
        return self.progress.step, len(self.progress.history)

    def _preempted_message(self) -> str:
        step = self.progress.step
        kept = f"saved after step {step}/{self.total_steps}; the same command with --resume continues"
        if not self.config.runtime.checkpoints:
            kept = f"at step {step}/{self.total_steps}; it begins anew, as runtime.checkpoints=false saves nothing"
        if not step:
            kept = "before the first step; nothing is lost"
        return f"preempted by {', '.join(signals.stop_reasons()) or 'another rank'}, {kept} ({self.folder})"

    # ---- Helpers of the parts above ----

    def _newest_checkpoint(self) -> Path | None:
        path = atomic_dir.latest_valid(self.checkpoints, self._print)
        if path is None and (damaged := atomic_dir.quarantined(self.checkpoints)):
            raise CellError(
                f"{self.checkpoints}: no checkpoint is left to continue from, just damaged ones "
                f"({', '.join(damaged)}); train the cell again with --restart, or move its folder elsewhere"
            )
        return path

    def _remove_lost_steps(self) -> None:
        """Bring the log and the best weights back to what the checkpoint knows."""
        records.cut_log(self.folder, self.progress.log_bytes)
        checkpoint.restore_best(self.checkpoints, self.progress)

    def _load_dictionary(self, load: WeightLoader) -> ConfounderDictionary:
        """Return CCIM's confounders, for a method that asks for them."""
        device = self.accelerator.device
        return feature_cache.cached_dictionary(self.config, load, self.train_split, device, self._print)

    def _print(self, text: str) -> None:
        if self.is_main:
            console.err.print(text, highlight=False)

    def _record_hung(self, reason: str) -> None:
        records.write_state(self.folder, "failed", reason=reason, step=self.progress.step, steps=self.total_steps)
