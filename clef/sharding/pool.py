"""Runs tasks in worker processes, with progress within each task.

An error in one task ends all of them, and no worker outlives its parent. The progress of the tasks lies in shared
memory, in a slot for each task, so no lock is needed.
"""

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import RawArray, RawValue
from typing import Any, Protocol, TypeVar

from clef.console import Progress
from clef.errors import SetupError

Tick = Callable[[int], None]
"""Called by a task with how much of it is done."""
POLL_SECONDS = 0.2
"""How often the progress of the workers is read."""


class Task(Protocol):
    """What `run` must know of a task."""

    @property
    def split(self) -> str:
        """Return the split that it counts for."""

    @property
    def size(self) -> int:
        """Return how much there is to do, in the unit of `Tick`."""


T = TypeVar("T", bound=Task)
R = TypeVar("R")


def run(
    work: Callable[[T, Tick], R],
    tasks: Sequence[T],
    workers: int,
    progress: Progress | None = None,
    before: Mapping[str, int] | None = None,
) -> list[R]:
    """Run `work` on every task and return the results in the order of the tasks.

    `progress` is called by split; `before` says how much of each split was done earlier. The first error of a task
    stops the others and is raised. SetupError when a worker is killed.
    """
    counts = _Counts(tasks, progress, before or {})
    if workers > 1 and len(tasks) > 1:
        return _in_processes(work, tasks, min(workers, len(tasks)), counts)
    return [work(task, counts.tick(number)) for number, task in enumerate(tasks)]


class _Counts:
    """How much of each split is done."""

    def __init__(self, tasks: Sequence[Task], progress: Progress | None, before: Mapping[str, int]) -> None:
        self._splits = [task.split for task in tasks]
        self._each = [0] * len(tasks)
        self._done, self._total = Counter(before), Counter(before)
        for task in tasks:
            self._total[task.split] += task.size
        self._progress = progress
        for split in self._total:
            self._show(split)

    def tick(self, number: int) -> Tick:
        """Return the function that reports the progress of a task."""
        return lambda done: self.update(number, done)

    def update(self, number: int, done: int) -> None:
        """Note how much of a task is done."""
        if more := done - self._each[number]:
            self._each[number] = done
            self._done[self._splits[number]] += more
            self._show(self._splits[number])

    def _show(self, split: str) -> None:
        if self._progress:
            self._progress(split, self._done[split], self._total[split])


def _in_processes(work: Callable[[T, Tick], R], tasks: Sequence[T], workers: int, counts: _Counts) -> list[R]:
    shared = _Shared(len(tasks))
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(shared,)) as pool:
        try:
            futures = [pool.submit(_run_task, work, number, task) for number, task in enumerate(tasks)]
            _watch(futures, shared, counts)
        except BrokenProcessPool:
            raise SetupError(
                "a worker process was killed: is there too little memory? Run the same command again with fewer "
                "--workers; it continues where it stopped"
            ) from None
        finally:
            shared.stopped.value = True
            pool.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


def _watch(futures: Sequence[Future[R]], shared: "_Shared", counts: _Counts) -> None:
    pending = set(futures)
    while pending:
        ended, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
        for number, done in enumerate(shared.done):
            counts.update(number, done)
        for future in ended:
            future.result()


class _Shared:
    """Memory that workers and parent share: how much of each task is done, and whether to stop."""

    def __init__(self, tasks: int) -> None:
        self.done = RawArray("q", tasks)
        self.stopped: Any = RawValue("b", False)


class _Stopped(Exception):
    """Another task failed, or the command was interrupted: this one's result is not needed."""


_shared: _Shared
"""Set in a worker process, by its initializer."""


def _start_worker(shared: _Shared) -> None:
    global _shared
    _shared = shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets the signal too, and stops the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent does: one that was killed can't say so, but its end of a pipe closes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_task(work: Callable[[T, Tick], R], number: int, task: T) -> R:
    def tick(done: int) -> None:
        if _shared.stopped.value:
            raise _Stopped
        _shared.done[number] = done

    return work(task, tick)
