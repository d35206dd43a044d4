"""What every contender reads and delivers, and how one measured pass is timed: alike for all.

What rates rest on: processor, cores, memory, load, versions, date.

What the command lines of the benchmarks of data have in common.

A process for each contender: none inherits another's libraries, threads or memory, and idle ones take no time.

Rates that can be compared: contenders take turns (A B C A B C ...), and ratios are taken within a round.

What else the machine does changes from minute to minute, and so do rates; within a round it hits all alike.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context, get_start_method, parent_process, set_start_method
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clef.config import InputConfig, InputName
from clef.console import Progress
from clef.data.manifest import KINDS, SOURCE
from clef.data.order import Order
from clef.data.shards import SplitShards
from clef.errors import SetupError

PREFETCH = 4
"""Batches that a worker of any contender may be ahead."""
Batches = Iterable[dict[str, Tensor]]
"""Every image input as uint8 B,3,H,W."""


@dataclass(frozen=True)
class Setting:
    """The images of a cell, and how they are delivered."""

    shards: SplitShards
    inputs: Mapping[InputName, InputConfig]
    batch: int
    workers: int
    samples: int
    """People in a measured pass; the people read come round as often as that takes."""
    seed: int = 0

    @cached_property
    def tars(self) -> int:
        """How many shards are read: the first ones, one for each worker at least, with `samples` people if they can."""
        people, tars = 0, 0
        for tars, shard in enumerate(self.shards.split.shards, 1):
            people += shard.samples
            if people >= self.samples and tars >= self.workers:
                break
        return tars

    @cached_property
    def places(self) -> int:
        """How many people are read: all of those shards."""
        return sum(shard.samples for shard in self.shards.split.shards[: self.tars])

    @property
    def kinds(self) -> list[str]:
        """The members that the inputs are decoded from, each once."""
        wanted = {SOURCE[name] for name in self.inputs}
        return [kind for kind in KINDS if kind in wanted]

    @cached_property
    def member_bytes(self) -> dict[str, float]:
        """The mean size of each of those members, of the people that have it."""
        sizes = {kind: self.shards.index["size"][: self.places, KINDS.index(kind)] for kind in self.kinds}
        return {kind: float(found[found >= 0].mean()) for kind, found in sizes.items() if (found >= 0).any()}

    @cached_property
    def images_per_person(self) -> float:
        """JPEGs decoded for a person."""
        columns = [KINDS.index(kind) for kind in self.kinds]
        return float((self.shards.index["size"][: self.places, columns] >= 0).sum() / self.places)

    def place(self, key: int) -> int:
        """The place of the sample with this key."""
        return int(np.searchsorted(self.shards.index["key"], key))

    @cached_property
    def sizes(self) -> tuple[list[int], list[int]]:
        """Width and height of the first person's image: at the source, and as frames are stored."""
        facts = json.loads(self.shards.read(0, "meta.json") or b"{}")
        return facts["source_size"], facts["size"]

    @property
    def warm(self) -> int:
        """Batches that come before the clock starts: so many that workers are as far ahead as they will be later."""
        return self.workers * (PREFETCH + 1)

    def timed(self, share: float = 1) -> int:
        """Batches that are timed in `share` of a pass."""
        return max(1, round(self.samples * share / self.batch))

    def stream(self, share: float = 1) -> int:
        """Batches in all; those after the timed ones keep every worker busy, and ahead, until the clock stops."""
        return self.warm + self.timed(share) + self.warm

    def order(self, share: float = 1) -> list[list[tuple[int, int]]]:
        """The epoch and place of each sample of each batch of the stream, shuffled as in training."""
        order = Order(self.places, self.batch, self.seed)
        return [order.batch(number) for number in range(self.stream(share))]


def timed(batches: Batches, setting: Setting, name: str, share: float = 1) -> float:
    """People a second, from the delivery of the last warm batch to that of the last timed one.

    `share`: how much of a pass is timed.
    SetupError when a contender delivers something else than the others: then rates can't be compared.
    """
    iterator, count = iter(batches), setting.timed(share)
    for _ in range(setting.warm):
        _check(next(iterator), setting, name)
    start = time.perf_counter()
    for _ in range(count):
        batch = next(iterator)
    seconds = time.perf_counter() - start
    _check(batch, setting, name)
    for _ in iterator:  # to the end: torch's workers may abort, with a traceback, when they are left half way
        pass
    return count * setting.batch / seconds


def _check(batch: Mapping[str, Tensor], setting: Setting, name: str) -> None:
    for key, config in setting.inputs.items():
        wanted = (setting.batch, 3, *config.shape)
        if tuple(batch[key].shape) != wanted or str(batch[key].dtype) != "torch.uint8":
            found = f"{batch[key].dtype} {tuple(batch[key].shape)}"
            raise SetupError(f"{name}: delivers {key} as {found}, not torch.uint8 {wanted}; its rate can't be compared")


def single_thread(_worker: int) -> None:
    """What every worker begins with: a process a core, a thread a process."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


PACKAGES = (
    "clef-caer",
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "simplejpeg",
    "opencv-python-headless",
    "webdataset",
    "litdata",
)


BUSY = 0.3
"""The load for each core above which rates are not those of the machine."""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def busy(host: Mapping[str, Any]) -> str | None:
    """A warning, when the machine had more to do than these measurements."""
    if host["load"] <= BUSY * host["cores"]:
        return None
    return f"this machine is busy (load {host['load']} on {host['cores']} cores): these are not its rates"


def facts() -> dict[str, Any]:
    """The machine, as text and numbers that JSON can hold. `load`: processes that wanted a core in the last minute."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": cores(),
        "load": round(os.getloadavg()[0], 1),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


SIZE = "1280x853"
"""The default size of a drawn image: that of many photographs in EMOTIC."""


def add_drawn(parser: argparse.ArgumentParser, people: int) -> None:
    """Options of the set that is drawn where no other is named."""
    parser.add_argument("--people", type=positive, default=people, help=f"people in it (default: {people})")
    parser.add_argument("--image-size", type=_size, default=SIZE, metavar="WxH", help=f"its images (default: {SIZE})")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="draw it here and keep it for the next time")


def add_measured(parser: argparse.ArgumentParser, command: str) -> None:
    """Options of measuring and of what is written."""
    parser.add_argument("--pairs", type=positive, default=5, help="rounds; medians are of so many (default: 5)")
    default = f"results/bench/{command}.json"
    parser.add_argument("--json", type=Path, default=Path(default), metavar="PATH", help=f"default: {default}")


def positive(text: str) -> int:
    """A whole number of 1 or more, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: at least 1 is expected")
    return value


def _size(text: str) -> tuple[int, int]:
    width, by, height = text.partition("x")
    if not (by and width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= 64):
        raise argparse.ArgumentTypeError(f"{text!r}: WIDTHxHEIGHT is expected, such as {SIZE}, 64 pixels at least")
    return int(width), int(height)


@contextmanager
def folder(keep: Path | None) -> Iterator[Path]:
    """Where the drawn set goes: a temporary folder, or one that stays."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="clef-bench-") as temporary:
            yield Path(temporary)
        return
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


Run = Callable[[], float]
"""One measured pass: how many people a second."""


@dataclass(frozen=True)
class Spread:
    """A median, and between what its values lie."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """The median of values, the least and the greatest."""
    return Spread(statistics.median(values), min(values), max(values))


def interleaved(runs: Mapping[str, Run], rounds: int, progress: Progress) -> dict[str, list[float]]:
    """The rates of each run, one a round. A first round, which warms caches of all kinds, is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    done, total = 0, len(runs) * (rounds + 1)
    for number in range(rounds + 1):
        for name, run in runs.items():
            rate = run()
            if number:
                rates[name].append(rate)
            done += 1
            progress("measured", done, total)
    return rates


def ratio(rates: Mapping[str, list[float]], over: str, under: str) -> Spread:
    """How many times the rate of `under` that of `over` is, round by round."""
    return spread([a / b for a, b in zip(rates[over], rates[under], strict=True)])


def leave_interrupts() -> None:
    """Let Ctrl-C end the command alone: this process ends with it, and says nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _begin(method: str) -> None:
    """Start further processes as this platform does: one that was spawned would spawn its own, which takes seconds."""
    leave_interrupts()
    set_start_method(method, force=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A command that is killed can't end its contenders, and they would wait for it for ever."""
    if parent := parent_process():
        parent.join()
    os._exit(1)


@contextmanager
def apart(runs: dict[str, tuple[Any, ...]]) -> Iterator[dict[str, Run]]:
    """Each run, given as a function and its arguments (all of which can be pickled), in a process of its own."""
    with ExitStack() as stack:
        yield {name: _in(stack, name, *call) for name, call in runs.items()}


def _in(stack: ExitStack, name: str, function: Callable[..., float], *arguments: object) -> Run:
    # Not forked: a fork would hold what this process has imported. Its processes may have children, as loaders do.
    pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, (get_start_method(),))
    stack.enter_context(pool)

    def run() -> float:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise SetupError(f"{name}: its process was killed; is there enough memory?") from None

    return run
