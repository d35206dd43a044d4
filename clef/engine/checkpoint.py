"""What a checkpoint holds, so that a run continues from it as if it had never been interrupted.

| file | |
| --- | --- |
| model.safetensors | weights and buffers |
| optimizer.pt | the optimizer's state, and the gradient scaler's (fp16) |
| rank-N.pt | of each rank: the states of all random generators, and the sums of the log line that is due next |
| progress.json | steps, samples, the best metric, the history of validations, where the log was |
| best.safetensors | the best weights so far, unless they are this checkpoint's own |
| complete.json | the sha256 of each (`clef.engine.atomic_dir`) |

The order of samples, augmentation and the learning rate are functions of the step, and need no state.
"""

import hashlib
import json
import random
import shutil
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn
from torch.optim import Optimizer

from clef import io
from clef.config import OptimizerConfig
from clef.engine import atomic_dir
from clef.engine.distributed import on_all_ranks
from clef.engine.train_log import StepMeter
from clef.errors import CellError, raise_if_system_error

BEST = "best.safetensors"
MODEL = "model.safetensors"


@dataclass
class TrainingProgress:
    """How far a run is: what a checkpoint says besides tensors."""

    step: int = 0
    """Global batches trained; with the batch size, the only state of the data order."""
    samples: int = 0
    best: float | None = None
    """The best score on val so far."""
    best_epoch: int | None = None
    best_step: int | None = None
    best_sha256: str | None = None
    """Of the best weights' file."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """A record for each validated epoch."""
    log_bytes: int = 0
    """How long the log was: up to here it is about steps that this checkpoint holds."""


@dataclass(frozen=True)
class TrainState:
    """What training changes, besides the progress."""

    method: nn.Module
    optimizer: Optimizer
    meter: StepMeter
    accelerator: Accelerator


# ---- Saving ----


def save_checkpoint(folder: Path, progress: TrainingProgress, state: TrainState) -> None:
    """Write the checkpoint of `progress.step` below `folder`. Called by all ranks.

    Raises SetupError on every rank when any of them could not write its part; what was complete before is still there
    then.
    """
    accelerator, is_main = state.accelerator, state.accelerator.is_main_process
    temporary = atomic_dir.temporary_of(folder, progress.step)
    try:
        # Three steps, and all ranks wait after each: the folder, the files of all ranks, the name that makes it count.
        on_all_ranks(accelerator, lambda: atomic_dir.begin(folder, progress.step) if is_main else None)
        parts = on_all_ranks(accelerator, lambda: _write_files(temporary, progress, state))
        hashes = {name: digest for part in parts for name, digest in part.items()}
        on_all_ranks(accelerator, lambda: _commit(temporary, hashes, progress) if is_main else None)
    except OSError as error:
        if is_main:
            shutil.rmtree(temporary, ignore_errors=True)
        raise atomic_dir.not_written(error, folder) from None
    if progress.best_step == progress.step:
        progress.best_sha256 = hashes[MODEL]


def _write_files(temporary: Path, progress: TrainingProgress, state: TrainState) -> atomic_dir.Hashes:
    """Write this rank's files: its own state, and on the first rank all that ranks share."""
    accelerator = state.accelerator
    contents = {f"rank-{accelerator.process_index}.pt": _torch_bytes(_rank_state(state))}
    if accelerator.is_main_process:
        contents[MODEL] = save(cpu_tensors(state.method))
        scaler = accelerator.scaler.state_dict() if accelerator.scaler else None
        contents["optimizer.pt"] = _torch_bytes({"optimizer": state.optimizer.state_dict(), "scaler": scaler})
        if progress.best_step == progress.step:
            progress.best_sha256 = hashlib.sha256(contents[MODEL]).hexdigest()
        elif progress.best_sha256:
            contents[BEST] = _best_weights(temporary.parent, progress.best_sha256)
        facts = asdict(progress) | {"ranks": accelerator.num_processes}
        contents["progress.json"] = io.to_json(facts).encode()
        atomic_dir.check_room(temporary.parent, sum(map(len, contents.values())))
    return {name: atomic_dir.write(temporary / name, content) for name, content in contents.items()}


def _commit(temporary: Path, hashes: atomic_dir.Hashes, progress: TrainingProgress) -> None:
    final = atomic_dir.commit(temporary, hashes)
    if progress.best_step == progress.step:
        io.write(final.parent / BEST, (final / MODEL).read_bytes())


def expected_size(method: nn.Module, config: OptimizerConfig) -> int:
    """Return the bytes that a run's checkpoints will take: those kept, the one being written, and the best weights."""
    weights = sum(tensor.nbytes for tensor in method.state_dict().values())
    trained = sum(parameter.nbytes for parameter in method.parameters() if parameter.requires_grad)
    # Adam keeps two tensors for each trained one, and SGD its momentum; of an optimizer of your own, two is a guess.
    copies = int(config.momentum > 0) if config.name == "sgd" else 2
    return (atomic_dir.KEEP + 1) * (2 * weights + copies * trained) + weights


# ---- Going back ----


def load_checkpoint(path: Path, state: TrainState) -> TrainingProgress:
    """Put a verified checkpoint's state back and return how far it was.

    Random states are put back on the same number of ranks only. Raises CellError for what doesn't fit this run.
    """
    try:
        content = json.loads((path / "progress.json").read_text("utf-8"))
        ranks = content.pop("ranks")
        load_weights(path / MODEL, state.method)
        saved = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
        state.optimizer.load_state_dict(saved["optimizer"])
        if state.accelerator.scaler and saved["scaler"]:
            state.accelerator.scaler.load_state_dict(saved["scaler"])
        parts = [torch.load(path / f"rank-{rank}.pt", map_location="cpu", weights_only=True) for rank in range(ranks)]
        state.meter.load_state_dicts([part["meter"] for part in parts], state.accelerator.process_index)
        if ranks == state.accelerator.num_processes:
            _set_random_state(parts[state.accelerator.process_index]["random"])
        return TrainingProgress(**content)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, UnpicklingError) as error:
        raise_if_system_error(error, path)
        raise CellError(
            f"{path}: can't be resumed from ({error}): is it of another version? Continue with that one, or train the "
            "cell again with --restart"
        ) from None


def load_weights(path: Path, model: nn.Module) -> None:
    """Read weights back. Raises CellError when they are missing or those of another model."""
    try:
        model.load_state_dict(read_weights(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise_if_system_error(error, path)
        raise CellError(f"{path}: not the weights of this cell: {str(error).splitlines()[0]}") from None


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in a file. Raises OSError or SafetensorError."""
    return load(path.read_bytes())  # safetensors' own `load_file` says of a file that it may not read that it's missing


def restore_best(folder: Path, progress: TrainingProgress) -> None:
    """Make the best weights on disk those of `progress`: later ones are of steps that were lost."""
    path = folder / BEST
    if progress.best_sha256 is None:
        path.unlink(missing_ok=True)
    elif not path.exists() or io.sha256(path) != progress.best_sha256:
        io.write(path, _best_weights(folder, progress.best_sha256))


def _best_weights(folder: Path, digest: str) -> bytes:
    """Return the best weights' file, found by its sha256. Raises CellError when it is gone."""
    for path in [folder / BEST, *folder.glob(f"step-*/{BEST}"), *folder.glob(f"step-*/{MODEL}")]:
        if path.exists() and io.sha256(path) == digest:
            return path.read_bytes()
    raise CellError(f"{folder / BEST}: gone or changed since it was written; train the cell again with --restart")


def drop_checkpoints(folder: Path) -> None:
    """Remove all that a cell that is done no longer needs: everything but the best weights."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


# ---- Tensors and random states ----


def sha256_of(tensors: dict[str, torch.Tensor]) -> str:
    """Return the sha256 that a file of these weights has."""
    return hashlib.sha256(save(tensors)).hexdigest()


def cpu_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of each weight and buffer by name: safetensors takes none that share memory, as one with two names.

    When they are loaded, each name writes the same numbers into the memory that the model shares.
    """
    layout = torch.contiguous_format
    return {key: value.detach().to("cpu", copy=True, memory_format=layout) for key, value in model.state_dict().items()}


def _torch_bytes(content: Any) -> bytes:
    buffer = BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def seed_all(seed: int) -> None:
    """Seed every generator whose state a checkpoint holds."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _rank_state(state: TrainState) -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    generators: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
    }
    if state.accelerator.device.type == "cuda":
        generators["cuda"] = torch.cuda.get_rng_state(state.accelerator.device)
    return {"random": generators, "meter": state.meter.state_dict()}


def _set_random_state(generators: dict[str, Any]) -> None:
    torch.set_rng_state(generators["torch"])
    random.setstate(generators["python"])
    name, keys, *rest = generators["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    if "cuda" in generators and torch.cuda.is_available():
        torch.cuda.set_rng_state(generators["cuda"])
