"""Checkpoints: a folder for each, whole or not there, the newest two kept.

A checkpoint is written under a temporary name and renamed once everything in it is on disk; only then is an older one
removed. So a full disk or a kill can cost the newest checkpoint, never the one before.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn
from torch.optim import Optimizer

from clef import files
from clef.errors import CellError

KEEP = 2


@dataclass
class Progress:
    """How far a run is: what a checkpoint says besides tensors."""

    step: int = 0
    """Global batches trained; with the batch size, the only state of the data order."""
    best: float | None = None
    best_epoch: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    """A record for each validated epoch."""


def save_checkpoint(
    folder: Path, model: nn.Module, optimizer: Optimizer, progress: Progress, accelerator: Accelerator
) -> None:
    """Write the checkpoint of `progress.step` below `folder`. Called by all ranks."""
    final = folder / f"step-{progress.step:09d}"
    temporary = folder / f".{final.name}.tmp"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    _save(torch.get_rng_state(), temporary / f"rng-{accelerator.process_index}.pt")
    if accelerator.is_main_process:
        files.write(temporary / "model.safetensors", save(_tensors(model)))
        _save(optimizer.state_dict(), temporary / "optimizer.pt")
        files.write(temporary / "progress.json", json.dumps(asdict(progress) | {"ranks": accelerator.num_processes}))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        for old in checkpoints(folder)[:-KEEP]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints below `folder`, oldest first."""
    return sorted(folder.glob("step-*"))


def load_checkpoint(path: Path, model: nn.Module, optimizer: Optimizer, accelerator: Accelerator) -> Progress:
    """Put a checkpoint's state back and return how far it was. The random state only fits the same number of ranks."""
    try:
        content = json.loads((path / "progress.json").read_text())
        ranks = content.pop("ranks")
        load_weights(path / "model.safetensors", model)
        optimizer.load_state_dict(torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True))
        if ranks == accelerator.num_processes:
            torch.set_rng_state(torch.load(path / f"rng-{accelerator.process_index}.pt", weights_only=True))
        return Progress(**content)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, UnpicklingError) as error:
        raise CellError(
            f"{path}: can't be resumed from ({error}); remove that folder to go back to the one before"
        ) from None


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights alone, atomically."""
    files.write(path, save(_tensors(model)))


def load_weights(path: Path, model: nn.Module) -> None:
    """Read weights back. CellError when they are missing or those of another model."""
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CellError(f"{path}: not the weights of this cell: {str(error).splitlines()[0]}") from None


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}


def _save(content: Any, path: Path) -> None:
    with files.atomic(path) as file:
        torch.save(content, file)
