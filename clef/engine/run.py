"""From a cell's folder to its result: what `clef.train`, a local grid and a Slurm task all run.

One process at a time trains a cell: it holds the lock in the cell's folder. Imports no torch.
"""

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState

from clef import console, io, signals, weights
from clef.cells import records
from clef.cells.identity import check_shards
from clef.config import CellConfig, resolve
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.data.order import check_batch_size
from clef.data.shards import SplitShards
from clef.datasets import cards
from clef.engine import checkpoint, distributed, provenance
from clef.engine.distributed import synchronize_buffers, together
from clef.engine.evaluation import evaluate, groups
from clef.engine.train_log import Display
from clef.engine.trainer import Trainer
from clef.errors import CellError, ClefError, ConfigError, Preempted
from clef.metrics import summary

EVERY = 1.0
"""Seconds between two looks at a lock that another process has."""


class Busy(CellError):
    """Another process trains the cell, and writes its state."""


def take(stack: ExitStack, folder: Path, patience: float) -> None:
    """Hold the cell's lock until `stack` is left; wait `patience` seconds for a process that has it.

    A job that was queued again may meet its own former self, alive on a node whose slurmd died. Raises Busy when the
    time is over, and Preempted when this process is asked to stop before.
    """
    until, told = time.monotonic() + patience, False
    while True:
        try:
            stack.enter_context(io.lock(folder / records.LOCK, busy=lambda: _busy(folder)))
            return
        except Busy as error:
            if time.monotonic() >= until:
                raise
            if not told:
                said = f"{error}; waiting for it to end, {patience / 60:g} minutes at most"
                console.err.print(said, markup=False, soft_wrap=True)
            told = True
        signals.leave_if_asked("while another process trained this cell")
        time.sleep(EVERY)


def _busy(folder: Path) -> Busy:
    state = records.read_json(folder / records.STATE)
    told = state.get("state") == "running"  # else these are the words of one that came before
    who = f" ({state['pid']} on {state['host']})" if told else ""
    return Busy(f"{folder}: another process{who} trains this cell")


Leave = Callable[[str, dict[str, Any]], None]
"""Called on the first rank once all have saved, before any of them leaves: with why, and with `step` and `steps`.
Writes the cell's state.
"""


def start(config: CellConfig) -> Accelerator:
    """Bring the ranks up. Raises ConfigError or SetupError for a precision that can't be had."""
    if config.runtime.threads:
        torch.set_num_threads(config.runtime.threads)
    distributed.fix_policy(config)
    on_cpu = config.runtime.device == "cpu" or not torch.cuda.is_available()
    chosen = distributed.choose(config, on_cpu)
    accelerator = Accelerator(
        mixed_precision=chosen, cpu=on_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(minutes=60))]
    )
    ranks = accelerator.num_processes
    if config.batch_size < 2 * ranks:
        raise ConfigError(f"batch_size={config.batch_size}: batch norm needs two samples a rank; {2 * ranks} would do")
    check_batch_size(config.batch_size, ranks)
    return accelerator


@contextmanager
def started(config: CellConfig) -> Iterator[Accelerator]:
    """The ranks, which are up within this block; raises as `start` does."""
    accelerator = start(config)
    try:
        yield accelerator
    finally:
        gc.collect()  # the trainer holds the process group, which should not be left to the interpreter's end
        accelerator.end_training()
        AcceleratorState._reset_state()  # the next cell in this process may want another precision


def run_cell(folder: Path, resume: bool = True, leave: Leave | None = None, patience: float = 0.0) -> dict[str, Any]:
    """Train and test the cell whose `config.yaml` lies in `folder`; the result is returned and written there.

    A finished cell returns its result again. Whatever goes wrong is in the cell's state file as well. Raises Preempted
    when the run was asked to stop and has saved itself; CellError when another process trains the cell, and still does
    so after `patience` seconds.
    """
    if done := records.read_json(folder / records.RESULT):
        return done
    leave = leave or (lambda why, place: records.write_state(folder, "preempted", reason=why, **place))
    with ExitStack() as stack:
        if _is_first():  # it alone holds the lock
            take(stack, folder, patience)
        return _recorded(folder, resume, leave)


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _recorded(folder: Path, resume: bool, leave: Leave) -> dict[str, Any]:
    """Run the cell; how it ends on any rank is in its state file, the first rank's word first."""
    began = time.time()
    try:
        config = resolve.from_yaml(folder / records.CONFIG)
        heeding = signals.listening(config.runtime.grace, lambda why: _forced(folder, began, why, leave))
        with heeding, started(config) as accelerator:
            return _run(config, folder, accelerator, resume, leave)
    except Preempted as error:
        _record_end(folder, began, "preempted", str(error))
        raise
    except (Exception, KeyboardInterrupt) as error:
        _record_end(folder, began, "failed", _reason(error))
        raise


def _record_end(folder: Path, began: float, how: str, reason: str) -> None:
    state = records.read_json(folder / records.STATE)
    if state.get("state") not in ("failed", "preempted", "cancelled") or state["updated"] < began:
        records.write_state(folder, how, reason=reason, **_place(folder))


def _forced(folder: Path, began: float, why: str, leave: Leave) -> None:
    """The last word of a run that could not save itself in time."""
    if _is_first():
        leave(why, _place(folder))
    else:
        _record_end(folder, began, "preempted", why)


def _place(folder: Path) -> dict[str, Any]:
    """How far the run is, by its state file."""
    state = records.read_json(folder / records.STATE)
    return {"step": state.get("step"), "steps": state.get("steps")}


def _run(config: CellConfig, folder: Path, accelerator: Accelerator, resume: bool, leave: Leave) -> dict[str, Any]:
    done = together(accelerator, lambda: records.read_json(folder / records.RESULT) if _is_first() else {})[0]
    if done:  # by the process that was waited for
        return done
    manifest = manifests.load(config.shards)
    check_shards(config, manifest)
    trainer = _trainer(config, folder, manifest, accelerator, leave)
    recorded = provenance.session(folder, config, manifest, accelerator)
    shown = Display(config.name, trainer.steps, config.epochs, accelerator.is_main_process)
    with shown as display, trainer.watchdog:
        display.say(headline(recorded, config))
        if resume and trainer.resume():
            display.say(f"goes on after step {trainer.progress.step}/{trainer.steps}")
        recorded["from_step"] = trainer.progress.step
        trainer.check_room()
        if accelerator.is_main_process:
            records.write_json(folder / records.ENVIRONMENT, recorded)
            records.write_state(folder, "running", step=trainer.progress.step, steps=trainer.steps)
        display.begin(trainer.progress.step)
        try:
            if not trainer.run(display):
                return _stopped(folder, trainer, accelerator)
            return _test(config, folder, manifest, trainer, recorded, display)
        except Preempted as error:
            place = {"step": trainer.progress.step, "steps": trainer.steps}
            _preempted(accelerator, str(error), place, leave)
            raise


def _trainer(config: CellConfig, folder: Path, manifest: Manifest, accelerator: Accelerator, leave: Leave) -> Trainer:
    """Made ready, which takes long where features of a frozen network are computed."""
    try:
        return Trainer(config, folder, manifest, accelerator)
    except Preempted as error:
        _preempted(accelerator, str(error), _place(folder), leave)
        raise


def _preempted(accelerator: Accelerator, why: str, place: dict[str, Any], leave: Leave) -> None:
    """All ranks are here, and saved. None leaves before the first one has had the job queued again."""
    if accelerator.is_main_process:
        leave(why, place)
    accelerator.wait_for_everyone()


def _test(
    config: CellConfig, folder: Path, manifest: Manifest, trainer: Trainer, recorded: dict[str, Any], display: Display
) -> dict[str, Any]:
    """Score the test splits with the best weights, and write the result."""
    accelerator = trainer.accelerator
    best = folder / "checkpoints" / checkpoint.BEST
    checkpoint.load_weights(best, trainer.method)
    synchronize_buffers(trainer.method)
    card = cards.load(config.dataset, config.protocol)
    result: dict[str, Any] = {
        "cell": config.name,
        "signature": folder.name.rpartition("-")[2],
        "dataset": config.dataset,
        "backbone": config.backbone.name,
        "method": config.method_label,
        "seed": config.seed,
        "metric": card.metric,
        "data": _data(manifest, ("train", "val", *card.test_splits)),
        "splits": {},
        "val": trainer.progress.best,
        "best_epoch": trainer.progress.best_epoch,
        "steps": trainer.steps,
        "random_init": _random(config),
        "environment": recorded,
    }
    for name in card.test_splits:
        shards = SplitShards(config.shards, name, manifest)
        arrays = evaluate(trainer.method, config, shards, accelerator, trainer.frozen, trainer.scored)
        result["splits"][name] = summary(arrays, manifest.classes)
        display.say(f"{name}: {card.metric} {result['splits'][name]['value']:.2f}")
        if accelerator.is_main_process:
            with io.atomic(folder / f"predictions-{name}.npz") as file:
                np.savez_compressed(file, **arrays, group=groups(shards, card.block))  # type: ignore[arg-type]
    if accelerator.is_main_process:
        result["run"] = provenance.run(recorded, trainer.steps * config.batch_size, folder, best)
        records.write_json(folder / records.RESULT, result)
        records.write_state(folder, "done", step=trainer.steps, steps=trainer.steps, metric=trainer.progress.best)
        if not config.runtime.keep_checkpoints:
            checkpoint.drop_checkpoints(trainer.checkpoints)
    accelerator.wait_for_everyone()
    return result


def _data(manifest: Manifest, used: tuple[str, ...]) -> dict[str, Any]:
    """What was done to the data of these splits (those that the protocol has), as `clef.results.data_quality` reads it."""
    counts = {"listed", "samples", "left_out", "notes"}
    return {
        "protocol": manifest.protocol,
        "policies": manifest.policies,
        "shards": manifest.source,
        "splits": {name: split.model_dump(include=counts) for name, split in manifest.splits.items() if name in used},
    }


def headline(recorded: dict[str, Any], config: CellConfig) -> str:
    """The first line of a run: how many ranks really came up, on what, and in which precision."""
    ranks = recorded["ranks"]
    return (
        f"{ranks} {'rank' if ranks == 1 else 'ranks'} on {recorded['device']}, batches of {config.batch_size}, "
        f"computing in {recorded['dtype']}"
    )


def _stopped(folder: Path, trainer: Trainer, accelerator: Accelerator) -> dict[str, Any]:
    if accelerator.is_main_process:
        records.write_state(folder, "stopped", step=trainer.progress.step, steps=trainer.steps)
    accelerator.wait_for_everyone()
    return {}


def _random(config: CellConfig) -> list[str]:
    """The encoders that were initialised at random although pre-trained weights could have been named."""
    named = weights.stated(config)
    return sorted(encoder for encoder, name in named.items() if name == weights.RANDOM)


def _reason(error: BaseException) -> str:
    if isinstance(error, ClefError):
        return str(error)
    kind = "interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__
    return f"{kind}: {error}".rstrip(": ")
