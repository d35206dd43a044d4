"""Loaders over a split, for training and for evaluation, and the step from their uint8 batches to normalised ones.

Neither is passed to `accelerator.prepare`: the order is split by rank already, and preparing would split it again
and silently lose samples.
"""

from collections.abc import Generator, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from clef import signals
from clef.config import AnyInput, DepthConfig, InputConfig, InputName
from clef.data.dataset import CellDataset, Sample

Batch = dict[str, Any]


def loader(dataset: CellDataset, batches: Iterable[list[tuple[int, int]]], workers: int) -> DataLoader[Sample]:
    """A loader that reads the samples of `batches`, each a list of (epoch, place), in their order."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_begin if workers else None,
        prefetch_factor=4 if workers else None,
        # An iterator draws a seed when it is made. From the global generator, that would move dropout after a resume.
        generator=torch.Generator(),
    )


def read(batches: Iterable[Batch]) -> Generator[Batch, None, None]:
    """The batches of a loader. Its workers answer to no signal, and are gone when this generator is closed."""
    with signals.held():
        iterator = iter(batches)
    yield from iterator


def _begin(_worker: int) -> None:
    torch.set_num_threads(1)
    signals.ignore()


def to_device(batch: Batch, inputs: Mapping[InputName, AnyInput], device: torch.device) -> Batch:
    """The batch on `device`: images normalised, depth from -1 to 1, both float32; what a sample lacks is all zeros."""
    result: Batch = {key: _moved(value, device) for key, value in batch.items()}
    for name, config in inputs.items():
        if isinstance(config, InputConfig):
            result[name] = _normalise(result[name], config) * result["valid"][name].view(-1, 1, 1, 1)
        elif isinstance(config, DepthConfig):
            result[name] = (result[name].float() / 127.5 - 1) * result["valid"][name].view(-1, 1, 1, 1)
    return result


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {key: _moved(inner, device) for key, inner in value.items()}
    return value.to(device, non_blocking=True)


def _normalise(images: Tensor, config: InputConfig) -> Tensor:
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (config.mean, config.std))
    return (images.float() / 255 - mean) / std
