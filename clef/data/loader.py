"""The loader of a split, for training and for evaluation, and the conversion of its uint8 batches to normalized ones.

It is not passed to `accelerator.prepare`: the batches are split by rank already, and preparing would split them again
and silently lose samples.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from operator import length_hint
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clef import signals
from clef.config import AnyInput, DepthConfig, InputConfig, InputName
from clef.data.batch_memory import Batch, BatchLayout, BufferPool
from clef.data.dataset import CellDataset
from clef.data.transforms import apply_jitter, zero_regions
from clef.errors import ClefError, system_error

PREFETCH_FACTOR = 4
"""How many batches each worker is ahead."""
Items = Sequence[tuple[int, int]]
"""Epoch and index of each sample of a batch."""


class BatchLoader:
    """Yields the batches of a dataset in the order of `batches`, each a list of (epoch, index).

    Its workers ignore signals, and end when the iterator is closed.
    """

    def __init__(self, dataset: CellDataset, batches: Iterable[Items], workers: int) -> None:
        self.dataset, self.batches, self.workers = dataset, batches, workers

    def __iter__(self) -> Generator[Batch, None, None]:
        layout, batches = self.dataset.layout, iter(self.batches)
        if (first := next(batches, None)) is None:
            return
        pool = self._pool(layout.size(len(first)))
        loader = DataLoader(
            _BatchFiller(self.dataset, pool),
            batch_sampler=_BufferedSampler(chain([first], batches), layout, pool),
            num_workers=self.workers,
            collate_fn=_identity,
            worker_init_fn=_start_worker if self.workers else None,
            prefetch_factor=PREFETCH_FACTOR if self.workers else None,
            # An iterator draws a seed when it is made. Drawn globally, it would change dropout after a resume.
            generator=torch.Generator(),
        )
        with signals.blocked():  # this starts the workers: a signal must not kill one before it ignores signals
            results = iter(loader)
        for result in results:
            if isinstance(result, ClefError):
                try:
                    raise result
                finally:
                    # The error's traceback holds this frame. If the frame held the error too, no worker would end.
                    del result
            buffer, rows = result
            buffer = pool.borrow(buffer) if pool and isinstance(buffer, int) else buffer
            yield layout.batch(buffer.pin_memory() if torch.cuda.is_available() else buffer, rows)
            del buffer, result  # or the buffer could not be reused while the next batch is read

    def _pool(self, size: int) -> BufferPool | None:
        """Return buffers for what the workers are ahead, for the batch in use and for the one before it."""
        if not self.workers:
            return None
        count = self.workers * PREFETCH_FACTOR + max(2, self.workers)
        return BufferPool(size, min(count, length_hint(self.batches, count)))


@dataclass(frozen=True)
class _BufferedSampler:
    """The batches to be read, each with the number of the buffer that it goes into (None: memory of its own)."""

    batches: Iterable[Items]
    layout: BatchLayout
    pool: BufferPool | None

    def __iter__(self) -> Iterator[Any]:
        """Yield pairs of number and items. The type is Any because torch's asks for lists, which it doesn't need."""
        for items in self.batches:
            yield self.pool.reserve(self.layout.size(len(items))) if self.pool else None, items


class _BatchFiller(Dataset[Any]):
    """The dataset as torch's loader calls it: a whole batch at once."""

    def __init__(self, dataset: CellDataset, pool: BufferPool | None) -> None:
        self.dataset, self.pool = dataset, pool

    def __getitems__(self, batch: tuple[int | None, Items]) -> tuple[Tensor | int, int] | ClefError:
        """Return the filled buffer, or its number, and the number of samples in it; or the error that came up."""
        number, items = batch
        if self.pool and number is not None:
            buffer = self.pool.buffer(number)
        else:
            buffer = torch.empty(self.dataset.layout.size(len(items)), dtype=torch.uint8)
        try:
            self.dataset.fill(buffer, items)
        except ClefError as error:  # raised in a worker, its text would be wrapped in that worker's traceback
            return error
        except OSError as error:
            if found := system_error(error):
                return found
            raise
        return buffer if number is None else number, len(items)


def _identity(batch: Any) -> Any:
    """Collate nothing: a batch comes as one buffer."""
    return batch


def _start_worker(_worker: int) -> None:
    signals.ignore_in_worker()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def to_device(batch: Batch, inputs: Mapping[InputName, AnyInput], device: torch.device) -> Batch:
    """Return the batch on `device`, its images and depth maps float32.

    Images are normalized by the mean and std of their input, depth goes from -1 to 1, and what a sample lacks is all
    zeros. Color jitter, where the batch brings factors for it, comes first; what is masked is made black again after
    it. The same is done to `without_subject`, where the batch has it.
    """
    moved: Batch = {key: _move(value, device) for key, value in batch.items()}
    jitter = moved.pop("jitter", {})
    masked, subject = moved.pop("masked_region", {}), moved.pop("subject_region", {})
    for images_by_name, regions in ((moved, masked), (moved.get("without_subject", {}), subject)):
        for name, config in inputs.items():
            if isinstance(config, InputConfig | DepthConfig) and name in images_by_name:
                images = _to_float(images_by_name[name])
                if name in jitter:
                    zero_regions(apply_jitter(images, jitter[name]), regions[name])
                images_by_name[name] = _normalize(images, config).mul_(moved["valid"][name].view(-1, 1, 1, 1))
    return moved


def _normalize(images: Tensor, config: InputConfig | DepthConfig) -> Tensor:
    """Normalize images B,3,H,W or depth maps B,1,H,W of 0 to 255 in place."""
    if isinstance(config, DepthConfig):
        return images.div_(127.5).sub_(1)
    mean, std = _channel_tensor(config.mean, images.device), _channel_tensor(config.std, images.device)
    return images.div_(255).sub_(mean).div_(std)


@cache
def _channel_tensor(values: tuple[float, float, float], device: torch.device) -> Tensor:
    """Return 1,3,1,1 float32 on the device. Cached: copying a list to a GPU would make each step wait for it."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {key: _move(inner, device) for key, inner in value.items()}
    return value.to(device, non_blocking=True)


def _to_float(images: Tensor) -> Tensor:
    """Return a float32 copy. On a GPU its channels stay last; on a CPU, torch 2.14 would corrupt its heap with that."""
    memory_format = torch.preserve_format if images.device.type == "cuda" else torch.contiguous_format
    return images.to(torch.float32, memory_format=memory_format)
