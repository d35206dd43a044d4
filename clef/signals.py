"""What asks a run to stop: SIGTERM, SIGUSR1, SIGUSR2, SIGINT, or the death of the launcher that started it.

A signal only sets a flag, which the run polls where it can save itself. A thread hears of signals even while the main
thread waits for another rank; it forces the exit when a second signal comes, or when the grace is over. No torch.
"""

import atexit
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from types import FrameType

from clef.errors import Preempted

WATCHED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
BURST = 2.0
"""Seconds in which further signals are the first one again: Slurm signals every process, and launchers pass it on."""
ORPHANED = "its launcher died"
LAUNCHERS = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION", "SUBMITIT_EXECUTOR")
"""Variables of launchers whose death must end their workers. A plain `nohup python` may outlive its shell."""

_asked: dict[str, None] = {}  # in the order in which they came


def asked() -> bool:
    """Whether this process was asked to stop."""
    return bool(_asked)


def reasons() -> list[str]:
    """What asked for it: names of signals, or ORPHANED."""
    return list(_asked)


def heed() -> None:
    """Let signals set the flag from now on: a job's task calls it before it imports torch, which takes seconds."""
    for number in WATCHED:
        signal.signal(number, _set_flag)


def leave_if_asked(meanwhile: str = "while features were computed") -> None:
    """Raise Preempted where there is nothing to save yet."""
    if asked():
        raise Preempted(f"preempted by {', '.join(reasons())} {meanwhile}; nothing is lost")


@contextmanager
def listening(grace: float, last_word: Callable[[str], None]) -> Iterator[None]:
    """Signals set the flag within this block. `last_word` is told why before an exit is forced.

    What has come since `heed` counts.

    Outside the main thread Python can't handle signals: there this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hears, says = socket.socketpair()
    hears.setblocking(False)
    says.setblocking(False)
    woken = signal.set_wakeup_fd(says.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, _set_flag) for number in WATCHED}
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)  # whoever started this process may have blocked them
    watch = _Watch(hears, grace, last_word)
    watch.start()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        _asked.clear()
        watch.end(says)
        hears.close()
        says.close()


def _set_flag(number: int, _frame: FrameType | None) -> None:
    _asked[signal.Signals(number).name] = None


class _Watch(threading.Thread):
    """Reads the numbers of signals as they arrive, and looks after the launcher once a second."""

    END = 0

    def __init__(self, hears: socket.socket, grace: float, last_word: Callable[[str], None]) -> None:
        super().__init__(name="signals", daemon=True)
        self.hears, self.grace, self.last_word = hears, grace, last_word
        self.launcher = os.getppid() if launched(os.environ) else None
        self.first = time.monotonic() if _asked else None

    def run(self) -> None:
        """Until the block ends."""
        while True:
            ready, _, _ = select.select([self.hears], [], [], 1.0 if self.first is None else 0.1)
            numbers = self.hears.recv(64) if ready else b""
            if self.END in numbers:
                return
            if any(number in WATCHED for number in numbers):
                self._signalled()
            if self.launcher not in (None, os.getppid()):
                self.launcher = None
                _asked[ORPHANED] = None
                self._signalled()
            if self.first is not None and time.monotonic() > self.first + self.grace:
                self._force(f"not saved within runtime.grace={self.grace:g} seconds of the signal")

    def _signalled(self) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = now
        elif now > self.first + BURST:
            self._force("a second signal")

    def _force(self, why: str) -> None:
        with suppress(Exception):  # whatever the main thread is doing, the exit comes
            self.last_word(why)
        print(f"exit forced: {why}", file=sys.stderr, flush=True)
        os._exit(Preempted.exit_code)

    def end(self, says: socket.socket) -> None:
        """Stop the thread."""
        says.send(bytes([self.END]))
        self.join()


def launched(environment: Mapping[str, str]) -> bool:
    """Whether a launcher started this process."""
    return any(name in environment for name in LAUNCHERS)


@contextmanager
def held() -> Iterator[None]:
    """Processes started in this block are born with the signals blocked: none dies before it can ignore them.

    Those of a fork server are only if the server was started in such a block, too.
    """
    atexit.unregister(_kill_children)
    atexit.register(_kill_children)  # runs before the hook of multiprocessing, which would wait for them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    if multiprocessing.get_start_method() != "fork":
        resource_tracker.ensure_running()  # not in the midst of a start: it unblocks SIGTERM and SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Called in a loader's worker: only the process that trains answers to signals; the worker leaves with it.

    torch's workers look whether their parent has changed. A server that forks them (Python's way from 3.14 on) stays
    their parent when the process that reads is killed, and would stay for them: both for ever.
    """
    for number in WATCHED:
        signal.signal(number, signal.SIG_IGN)
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)  # the trainer's, inherited by fork
    if reader := multiprocessing.parent_process():
        threading.Thread(target=_leave_after, args=(reader.sentinel,), name="reader", daemon=True).start()


def _leave_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _kill_children() -> None:
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
