"""A process for each contender: none inherits another's libraries, threads or memory, and idle ones take no time."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context, get_start_method, parent_process, set_start_method
from typing import Any

from clef.bench.rounds import Run
from clef.errors import SetupError


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
