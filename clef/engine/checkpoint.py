"""What a checkpoint holds, so that a run goes on from it as if it had never been broken off.

| file | |
| --- | --- |
| model.safetensors | weights and buffers |
| optimizer.pt | the optimiser's state, and the gradient scaler's (fp16) |
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
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.optim import Optimizer

from clef import io
from clef.config import OptimizerConfig
from clef.engine import atomic_dir
from clef.engine.distributed import together
from clef.engine.train_log import StepMeter
from clef.errors import CellError

BEST = "best.safetensors"
MODEL = "model.safetensors"


@dataclass
class Progress:
    """How far a run is: what a checkpoint says besides tensors."""

    step: int = 0
    """Global batches trained; with the batch size, the only state of the data order."""
    samples: int = 0
    best: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    best_sha256: str | None = None
    """Of the best weights' file."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """A record for each validated epoch."""
    log_bytes: int = 0
    """Up to here the log tells of what this checkpoint holds."""


@dataclass(frozen=True)
class State:
    """What training changes, besides the progress."""

    method: nn.Module
    optimizer: Optimizer
    window: StepMeter
    accelerator: Accelerator


def save_checkpoint(folder: Path, progress: Progress, state: State, half_way: Callable[[], None]) -> None:
    """Write the checkpoint of `progress.step` below `folder`. Called by all ranks.

    SetupError on every rank when any of them could not write its part; what was whole before is still there then.
    `half_way` is called in mid-write: injected faults strike there.
    """
    accelerator, main = state.accelerator, state.accelerator.is_main_process
    temporary = atomic_dir.temporary_of(folder, progress.step)
    try:
        together(accelerator, lambda: atomic_dir.begin(folder, progress.step) if main else None)
        parts = together(accelerator, lambda: _write(temporary, progress, state, half_way))
        hashes = {name: digest for part in parts for name, digest in part.items()}
        together(accelerator, lambda: _close(temporary, hashes, progress) if main else None)
    except OSError as error:
        if main:
            shutil.rmtree(temporary, ignore_errors=True)
        raise atomic_dir.not_written(error, folder) from None
    if progress.best_step == progress.step:
        progress.best_sha256 = hashes[MODEL]


def _write(temporary: Path, progress: Progress, state: State, half_way: Callable[[], None]) -> atomic_dir.Hashes:
    """This rank's files."""
    accelerator = state.accelerator
    contents = {f"rank-{accelerator.process_index}.pt": _torch_bytes(_of_rank(state))}
    if accelerator.is_main_process:
        contents[MODEL] = save(_tensors(state.method))
        scaler = accelerator.scaler.state_dict() if accelerator.scaler else None
        contents["optimizer.pt"] = _torch_bytes({"optimizer": state.optimizer.state_dict(), "scaler": scaler})
        if progress.best_step == progress.step:
            progress.best_sha256 = hashlib.sha256(contents[MODEL]).hexdigest()
        elif progress.best_sha256:
            contents[BEST] = _best(temporary.parent, progress.best_sha256)
        facts = asdict(progress) | {"ranks": accelerator.num_processes}
        contents["progress.json"] = json.dumps(facts, indent=1).encode()
        atomic_dir.check_room(temporary.parent, sum(map(len, contents.values())))
    strikes = f"rank-{accelerator.process_index}.pt" if not accelerator.is_main_process else MODEL
    nothing: Callable[[], None] = lambda: None  # noqa: E731
    return {
        name: atomic_dir.write(temporary / name, content, half_way if name == strikes else nothing)
        for name, content in contents.items()
    }


def _close(temporary: Path, hashes: atomic_dir.Hashes, progress: Progress) -> None:
    final = atomic_dir.commit(temporary, hashes)
    if progress.best_step == progress.step:
        io.write(final.parent / BEST, (final / MODEL).read_bytes())


def load_checkpoint(path: Path, state: State) -> Progress:
    """Put a verified checkpoint's state back and return how far it was. The random state fits the same ranks only."""
    try:
        content = json.loads((path / "progress.json").read_text())
        ranks = content.pop("ranks")
        load_weights(path / MODEL, state.method)
        saved = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
        state.optimizer.load_state_dict(saved["optimizer"])
        if state.accelerator.scaler and saved["scaler"]:
            state.accelerator.scaler.load_state_dict(saved["scaler"])
        parts = [torch.load(path / f"rank-{rank}.pt", map_location="cpu", weights_only=True) for rank in range(ranks)]
        state.window.load([part["window"] for part in parts], state.accelerator.process_index)
        if ranks == state.accelerator.num_processes:
            _set_random_state(parts[state.accelerator.process_index]["random"])
        return Progress(**content)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, UnpicklingError) as error:
        raise CellError(
            f"{path}: can't be resumed from ({error}): is it of another version? Remove that folder to go back to the "
            "one before, or train the cell anew with --restart"
        ) from None


def restore_best(folder: Path, progress: Progress) -> None:
    """Make the best weights on disk those that `progress` speaks of: later ones are of steps that were lost."""
    path = folder / BEST
    if progress.best_sha256 is None:
        path.unlink(missing_ok=True)
    elif not path.exists() or io.sha256(path) != progress.best_sha256:
        io.write(path, _best(folder, progress.best_sha256))


def _best(folder: Path, digest: str) -> bytes:
    for path in [folder / BEST, *folder.glob(f"step-*/{BEST}"), *folder.glob(f"step-*/{MODEL}")]:
        if path.exists() and io.sha256(path) == digest:
            return path.read_bytes()
    raise CellError(f"{folder / BEST}: gone or changed since it was written; train the cell anew with --restart")


def drop_checkpoints(folder: Path) -> None:
    """Of a cell that is done, leave the best weights alone."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def expected_size(method: nn.Module, config: OptimizerConfig) -> int:
    """Bytes that a run's checkpoints will take at most: those kept, the one being written, and the best weights."""
    weights = sum(tensor.nbytes for tensor in method.state_dict().values())
    trained = sum(parameter.nbytes for parameter in method.parameters() if parameter.requires_grad)
    copies = 2 if config.name != "sgd" else int(config.momentum > 0)
    return (atomic_dir.KEEP + 1) * (2 * weights + copies * trained) + weights


def load_weights(path: Path, model: nn.Module) -> None:
    """Read weights back. CellError when they are missing or those of another model."""
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CellError(f"{path}: not the weights of this cell: {str(error).splitlines()[0]}") from None


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}


def _torch_bytes(content: Any) -> bytes:
    buffer = BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def seed_all(seed: int) -> None:
    """Start every generator whose state a checkpoint holds."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _of_rank(state: State) -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    drawn: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
    }
    if state.accelerator.device.type == "cuda":
        drawn["cuda"] = torch.cuda.get_rng_state(state.accelerator.device)
    return {"random": drawn, "window": state.window.state()}


def _set_random_state(drawn: dict[str, Any]) -> None:
    torch.set_rng_state(drawn["torch"])
    random.setstate(drawn["python"])
    name, keys, *rest = drawn["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    if "cuda" in drawn and torch.cuda.is_available():
        torch.cuda.set_rng_state(drawn["cuda"])
