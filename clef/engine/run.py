"""From a cell's folder to its result: what `clef.train`, a local grid and a Slurm task all run.

Read `run_cell` first. One process at a time trains a cell: it holds the lock in the cell's folder.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState

from clef import console, io, signals, weights
from clef.cells import predictions, records
from clef.cells.identity import check_shards
from clef.config import CellConfig, resolve
from clef.console import is_first_rank
from clef.data import manifest as manifests
from clef.data.manifest import Manifest
from clef.data.order import check_batch_size
from clef.data.shards import SplitShards
from clef.engine import checkpoint, distributed, provenance, variables
from clef.engine.distributed import on_all_ranks, synchronize_buffers
from clef.engine.evaluation import evaluate, sample_groups
from clef.engine.train_log import Display
from clef.engine.trainer import Trainer
from clef.errors import CellError, ClefError, ConfigError, Preempted
from clef.metrics import format_score, summary
from clef.process import keep_freed_memory, running_seconds

OnPreempted = Callable[[str, dict[str, Any]], None]
"""Called on the first rank once all have saved, before any of them ends: with why, and with `step` and `steps`.
Writes the cell's state.
"""


def run_cell(
    folder: Path, resume: bool = True, on_preempted: OnPreempted | None = None, lock_patience: float = 0.0
) -> dict[str, Any]:
    """Train and test the cell whose `config.yaml` lies in `folder`; return its result, which is written there too.

    A finished cell returns its result again, one that stopped at `runtime.stop_after` an empty one. Whatever goes wrong
    is in the cell's state file as well. Raises Preempted when the run was asked to stop and has saved itself; CellError
    when another process trains the cell, and still does so after `lock_patience` seconds.
    """
    if result := records.read_json(folder / records.RESULT):
        return result
    variables.check_ranks()  # before the lock: only the first rank holds it
    if is_first_rank():
        records.check_writable(folder)
    on_preempted = on_preempted or (lambda why, position: _record_preempted(folder, why, position))
    with ExitStack() as stack:
        if is_first_rank():  # it alone holds the lock
            acquire_cell_lock(stack, folder, lock_patience)
        return _run_and_record(folder, resume, on_preempted)


# ---- The lock ----


LOCK_POLL_SECONDS = 1.0
"""Between two looks at a lock that another process has."""


class CellLocked(CellError):
    """Another process trains the cell, and writes its state."""


def acquire_cell_lock(stack: ExitStack, folder: Path, patience: float) -> None:
    """Hold the cell's lock until `stack` is left; wait `patience` seconds for a process that has it.

    A job that was queued again may meet its own former self, alive on a node whose slurmd died. Raises CellLocked when
    the time is over, and Preempted when this process is asked to stop before.
    """
    deadline, announced = running_seconds() + patience, False
    while True:
        try:
            stack.enter_context(io.lock(folder / records.LOCK, busy=lambda: _cell_locked(folder)))
            return
        except CellLocked as error:
            if running_seconds() >= deadline:
                raise
            if not announced:
                text = f"{error}; waiting for it to end, {patience / 60:g} minutes at most"
                console.err.print(text, markup=False, soft_wrap=True)
            announced = True
        signals.raise_if_stop_requested("while another process trained this cell")
        time.sleep(LOCK_POLL_SECONDS)


def _cell_locked(folder: Path) -> CellLocked:
    state = records.read_json(folder / records.STATE)
    # In any other state the file is of an earlier process: the one with the lock has not written to it yet.
    who = f" ({state['pid']} on {state['host']})" if state.get("state") == "running" else ""
    return CellLocked(f"{folder}: another process{who} trains this cell")


# ---- The ranks ----


def start_ranks(config: CellConfig) -> Accelerator:
    """Start torch's process group.

    Raises ConfigError or SetupError for a precision that is not available, or an environment that says otherwise than
    the config.
    """
    variables.check_ranks()
    variables.check_settings(config)
    distributed.set_numeric_policy(config)
    on_cpu = config.runtime.device == "cpu" or variables.wants_cpu() or not torch.cuda.is_available()
    precision = distributed.accelerate_precision(config, on_cpu)
    patience = InitProcessGroupKwargs(timeout=timedelta(minutes=distributed.RANKS_WAIT_MINUTES))
    with distributed.waiting_announced():
        accelerator = Accelerator(mixed_precision=precision, cpu=on_cpu, kwargs_handlers=[patience])
    if on_cpu:
        keep_freed_memory()
    if config.runtime.threads:  # only now: accelerate sets a number of its own for several ranks on CPUs
        torch.set_num_threads(config.runtime.threads)
    ranks = accelerator.num_processes
    if config.batch_size < 2 * ranks:
        raise ConfigError(f"batch_size={config.batch_size}: batch norm needs two samples a rank; {2 * ranks} would do")
    check_batch_size(config.batch_size, ranks)
    return accelerator


@contextmanager
def running_ranks(config: CellConfig) -> Iterator[Accelerator]:
    """Start the ranks, and end them with the block. Raises as `start_ranks` does."""
    accelerator = start_ranks(config)
    try:
        yield accelerator
    finally:
        if accelerator.num_processes > 1 or accelerator.device.type != "cpu":
            gc.collect()  # the trainer holds the process group, not to be left to the interpreter's end, and memory
        accelerator.end_training()
        AcceleratorState._reset_state()  # the next cell in this process may want another precision


# ---- Training, and the state file that says how it went ----


def _run_and_record(folder: Path, resume: bool, on_preempted: OnPreempted) -> dict[str, Any]:
    """Run the cell. How it ends on any rank is written to its state file, what the first rank says before all."""
    began = time.time()
    try:
        config = resolve.from_yaml(folder / records.CONFIG)
        handling = signals.handling(
            config.runtime.grace, on_forced_exit=lambda why: _record_forced_exit(folder, began, why, on_preempted)
        )
        with handling, running_ranks(config) as accelerator:
            return _train_and_test(config, folder, accelerator, resume, on_preempted)
    except Preempted as error:
        _record_end(folder, began, "preempted", str(error))
        raise
    except (Exception, KeyboardInterrupt) as error:
        _record_end(folder, began, "failed", _reason(error))
        raise


def _train_and_test(
    config: CellConfig, folder: Path, accelerator: Accelerator, resume: bool, on_preempted: OnPreempted
) -> dict[str, Any]:
    is_main = accelerator.is_main_process
    # The process that was waited for may have finished the cell.
    results = on_all_ranks(accelerator, lambda: records.read_json(folder / records.RESULT) if is_main else {})
    if results[0]:
        if is_main and not config.runtime.checkpoints:
            records.remove_temporary(folder)
        return results[0]
    manifest = manifests.load(config.shards)
    check_shards(config, manifest)
    trainer = _make_trainer(config, folder, manifest, accelerator, on_preempted)
    session = provenance.session_record(folder, config, manifest, accelerator)
    with Display(config.name, trainer.total_steps, config.epochs, is_main) as display, trainer.watchdog:
        if config.runtime.watchdog:  # from here on it ends a run that hangs
            distributed.outlast_suspension()
        display.print(session_line(session, config))
        if resume and trainer.resume():
            display.print(f"continues after step {trainer.progress.step}/{trainer.total_steps}")
        session["from_step"] = trainer.progress.step
        trainer.check_room()
        if is_main:
            records.write_json(folder / records.ENVIRONMENT, session)
            records.write_state(folder, "running", step=trainer.progress.step, steps=trainer.total_steps)
        display.begin(trainer.progress.step)
        try:
            if not trainer.run(display):
                return _record_stopped(folder, trainer)
            return _test(config, folder, manifest, trainer, session, display)
        except Preempted as error:
            position = {"step": trainer.saved_step, "steps": trainer.total_steps}
            _end_together(accelerator, str(error), position, on_preempted)
            raise


def _make_trainer(
    config: CellConfig, folder: Path, manifest: Manifest, accelerator: Accelerator, on_preempted: OnPreempted
) -> Trainer:
    """Build the trainer, which takes long where features of a frozen network are computed first."""
    try:
        return Trainer(config, folder, manifest, accelerator)
    except Preempted as error:
        _end_together(accelerator, str(error), _recorded_position(folder), on_preempted)
        raise


def session_line(session: dict[str, Any], config: CellConfig) -> str:
    """Return the first line of a run: how many ranks really started, on what, and in which precision."""
    ranks = session["ranks"]
    return (
        f"{ranks} {'rank' if ranks == 1 else 'ranks'} on {session['device']}, batches of {config.batch_size}, "
        f"computing in {session['dtype']}"
    )


def _record_stopped(folder: Path, trainer: Trainer) -> dict[str, Any]:
    """Write that the run has come to `runtime.stop_after`; return an empty result."""
    if trainer.is_main:
        records.write_state(folder, "stopped", step=trainer.progress.step, steps=trainer.total_steps)
    trainer.accelerator.wait_for_everyone()
    return {}


def _end_together(accelerator: Accelerator, why: str, position: dict[str, Any], on_preempted: OnPreempted) -> None:
    """Call `on_preempted` now that all ranks have saved. None ends before the first has queued the job again."""
    if accelerator.is_main_process:
        on_preempted(why, position)
    accelerator.wait_for_everyone()


def _record_preempted(folder: Path, why: str, position: dict[str, Any]) -> None:
    records.write_state(folder, "preempted", reason=why, **position)


def _record_forced_exit(folder: Path, began: float, why: str, on_preempted: OnPreempted) -> None:
    """Write the state of a run that could not save itself in time."""
    if is_first_rank():
        on_preempted(why, _recorded_position(folder))
    else:
        _record_end(folder, began, "preempted", why)


def _record_end(folder: Path, began: float, state: str, reason: str) -> None:
    """Write how this run ended, unless one of its ranks has done so since it `began`."""
    recorded = records.read_json(folder / records.STATE)
    if recorded.get("state") not in ("failed", "preempted", "cancelled") or recorded["updated"] < began:
        records.write_state(folder, state, reason=reason, **_recorded_position(folder))


def _recorded_position(folder: Path) -> dict[str, Any]:
    """Return how far the run is, by its state file."""
    state = records.read_json(folder / records.STATE)
    return {"step": state.get("step"), "steps": state.get("steps")}


def _reason(error: BaseException) -> str:
    if isinstance(error, ClefError):
        return str(error)
    kind = "interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__
    return f"{kind}: {error}".rstrip(": ")


# ---- Testing, and the result ----


def _test(
    config: CellConfig, folder: Path, manifest: Manifest, trainer: Trainer, session: dict[str, Any], display: Display
) -> dict[str, Any]:
    """Score the test splits with the best weights, and write the result."""
    accelerator, is_main = trainer.accelerator, trainer.is_main
    scored = trainer.load_best()
    synchronize_buffers(trainer.method)
    card = config.card
    keeps_predictions = is_main and config.runtime.predictions == "full"
    kept: dict[str, predictions.Arrays] = {}
    result = _result_record(config, folder, manifest, trainer, session)
    for name in card.test_splits:
        shards = SplitShards(config.shards, name, manifest)
        arrays = evaluate(trainer.method, config, shards, accelerator, trainer.frozen, after_batch=trainer.batch_scored)
        result["splits"][name] = summary(arrays, manifest.classes, card.metric)
        display.print(f"{name}: {card.metric} {format_score(result['splits'][name]['value'])}")
        if keeps_predictions:
            kept[name] = arrays | {"group": sample_groups(shards, card.block)}
    if is_main:
        predictions.write(folder, kept, in_one_file=not config.runtime.checkpoints)
        result["run"] = provenance.run_record(session, trainer.total_steps * config.batch_size, scored)
        records.write_json(folder / records.RESULT, result)
        _record_done(config, folder, trainer)
    accelerator.wait_for_everyone()
    return result


def _record_done(config: CellConfig, folder: Path, trainer: Trainer) -> None:
    """Write that the cell is done, and remove what it no longer needs."""
    if not config.runtime.checkpoints:
        records.remove_temporary(folder)
        return
    steps = trainer.total_steps
    records.write_state(folder, "done", step=steps, steps=steps, metric=trainer.progress.best)
    if not config.runtime.keep_checkpoints:
        checkpoint.drop_checkpoints(trainer.checkpoints)


def _result_record(
    config: CellConfig, folder: Path, manifest: Manifest, trainer: Trainer, session: dict[str, Any]
) -> dict[str, Any]:
    """Return the result without the scores of its test splits."""
    card = config.card
    return {
        "cell": config.name,
        "signature": folder.name.rpartition("-")[2],
        "dataset": config.dataset,
        "backbone": config.backbone_name,
        "method": config.method_label,
        "seed": config.seed,
        "metric": card.metric,
        "data": _data_record(manifest, ("train", "val", *card.test_splits)),
        "splits": {},
        "val": trainer.progress.best,
        "best_epoch": trainer.progress.best_epoch,
        "steps": trainer.total_steps,
        "random_init": _randomly_initialized(config),
        "environment": session,
    }


def _data_record(manifest: Manifest, used: tuple[str, ...]) -> dict[str, Any]:
    """Return what was done to the data of the `used` splits that there are, as `clef.results.data_quality` reads it."""
    counts = {"listed", "samples", "left_out", "notes"}
    return {
        "protocol": manifest.protocol,
        "policies": manifest.policies,
        "shards": manifest.source,
        "splits": {name: split.model_dump(include=counts) for name, split in manifest.splits.items() if name in used},
    }


def _randomly_initialized(config: CellConfig) -> list[str]:
    """Return the encoders that were initialized at random although pre-trained weights could have been named."""
    return sorted(encoder for encoder, name in weights.stated(config).items() if name == weights.RANDOM)
