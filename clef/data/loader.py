"""Loaders over a split, for training and for evaluation, and the step from their uint8 batches to normalised ones.

Neither is passed to `accelerator.prepare`: the order is split by rank already, and preparing would split it again
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
from clef.data.batch_memory import Batch, Layout, Pool
from clef.data.dataset import CellDataset
from clef.data.transforms import blackened, jittered
from clef.errors import ClefError

PREFETCHED = 4
"""Batches that each worker is ahead."""
Items = Sequence[tuple[int, int]]
"""Epoch and place of each sample of a batch."""


class Batches:
    """The batches of a loader, in the order in which they were asked for.

    Its workers answer to no signal, and leave when the iterator is closed.
    """

    def __init__(self, dataset: CellDataset, batches: Iterable[Items], workers: int) -> None:
        self.dataset, self.batches, self.workers = dataset, batches, workers

    def __iter__(self) -> Generator[Batch, None, None]:
        layout, batches = self.dataset.layout, iter(self.batches)
        if (first := next(batches, None)) is None:
            return
        pool = self._pool(layout.size(len(first)))
        blocks = DataLoader(
            _Filled(self.dataset, pool),
            batch_sampler=_Numbered(chain([first], batches), layout, pool),
            num_workers=self.workers,
            collate_fn=_as_it_is,
            worker_init_fn=_begin if self.workers else None,
            prefetch_factor=PREFETCHED if self.workers else None,
            # An iterator draws a seed when it is made. From the global generator, it would move dropout after a resume.
            generator=torch.Generator(),
        )
        with signals.held():
            filled = iter(blocks)
        for found in filled:
            if isinstance(found, ClefError):
                try:
                    raise found
                finally:
                    del found  # the error holds this frame: if the frame held it too, both would keep the workers alive
            block, rows = found
            block = pool.lent(block) if pool and isinstance(block, int) else block
            yield layout.batch(block.pin_memory() if torch.cuda.is_available() else block, rows)
            del block, found  # not ours any more: it may go round again

    def _pool(self, size: int) -> Pool | None:
        """Room for what the workers are ahead, for the batch in use and for the one before it."""
        if not self.workers:
            return None
        blocks = self.workers * PREFETCHED + max(2, self.workers)
        return Pool(size, min(blocks, length_hint(self.batches, blocks)))


def loader(dataset: CellDataset, batches: Iterable[list[tuple[int, int]]], workers: int) -> Batches:
    """A loader that reads the samples of `batches`, each a list of (epoch, place), in their order."""
    return Batches(dataset, batches, workers)


@dataclass(frozen=True)
class _Numbered:
    """The batches to be read, each with the block of the pool that it goes into."""

    batches: Iterable[Items]
    layout: Layout
    pool: Pool | None

    def __iter__(self) -> Iterator[Any]:
        for items in self.batches:
            yield self.pool.take(self.layout.size(len(items))) if self.pool else None, items


class _Filled(Dataset[Any]):
    """The dataset as torch's loader wants it: a whole batch in one call, and errors that keep their own text."""

    def __init__(self, dataset: CellDataset, pool: Pool | None) -> None:
        self.dataset, self.pool = dataset, pool

    def __getitems__(self, batch: tuple[int | None, Items]) -> tuple[Tensor | int, int] | ClefError:
        number, items = batch
        if self.pool and number is not None:
            block = self.pool.block(number)
        else:
            block = torch.empty(self.dataset.layout.size(len(items)), dtype=torch.uint8)
        try:
            self.dataset.fill(block, items)
        except ClefError as error:  # raised in a worker, it would come wrapped in that worker's traceback
            return error
        return block if number is None else number, len(items)


def _as_it_is(block: Any) -> Any:
    return block


def _begin(_worker: int) -> None:
    signals.ignore()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def to_device(batch: Batch, inputs: Mapping[InputName, AnyInput], device: torch.device) -> Batch:
    """The batch on `device`: images normalised, depth from -1 to 1, both float32; what a sample lacks is all zeros.

    Colour jitter, where the batch brings its factors, comes first; what is masked is black again after it.
    """
    moved: Batch = {key: _moved(value, device) for key, value in batch.items()}
    jitter, black = moved.pop("jitter", {}), moved.pop("black", {})
    for name, config in inputs.items():
        if not isinstance(config, InputConfig | DepthConfig):
            continue
        images = _floats(moved[name])
        if name in jitter:
            blackened(jittered(images, jitter[name]), black[name])
        if isinstance(config, DepthConfig):
            images.div_(127.5).sub_(1)
        else:
            images.div_(255).sub_(_by_channel(config.mean, device)).div_(_by_channel(config.std, device))
        moved[name] = images.mul_(moved["valid"][name].view(-1, 1, 1, 1))
    return moved


@cache
def _by_channel(values: tuple[float, float, float], device: torch.device) -> Tensor:
    """1,3,1,1 float32 on the device. Made once: a host's list made a tensor there would have each step wait for it."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {key: _moved(inner, device) for key, inner in value.items()}
    return value.to(device, non_blocking=True)


def _floats(images: Tensor) -> Tensor:
    """As float32, a copy. On a GPU their channels stay last; on a CPU torch 2.14 would corrupt its heap with that."""
    kept = torch.preserve_format if images.device.type == "cuda" else torch.contiguous_format
    return images.to(torch.float32, memory_format=kept)
