"""What asks a run to stop: SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGINT, or the death of the launcher that started it.

A signal only sets a flag, which the run polls where it can save itself. A thread hears of signals even while the main
thread waits for another rank; it forces the exit when a second signal comes, or when the grace is over. No torch.
"""

import atexit
import multiprocessing
import os
import select
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from types import FrameType

from clef.errors import Preempted
from clef.process import running_seconds

WATCHED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
BURST = 2.0
"""Seconds in which further signals are the first one again: Slurm signals every process, and launchers pass it on."""
ORPHANED = "its launcher died"
LAUNCHERS = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION", "SUBMITIT_EXECUTOR")
"""Variables of launchers whose death must end their workers. A plain `nohup python` may outlive its shell."""

_stop_reasons: dict[str, None] = {}  # an ordered set: in the order in which they came
_flag_stays = False

# ---- In the process that trains ----


def stop_requested() -> bool:
    """Return whether this process was asked to stop."""
    return bool(_stop_reasons)


def stop_reasons() -> list[str]:
    """Return what asked this process to stop: names of signals, or ORPHANED."""
    return list(_stop_reasons)


def raise_if_stop_requested(meanwhile: str = "while features were computed") -> None:
    """Raise Preempted if asked to stop, where there is nothing to save yet."""
    if stop_requested():
        raise Preempted(f"preempted by {', '.join(stop_reasons())} {meanwhile}; nothing is lost")


@contextmanager
def flag_kept() -> Iterator[None]:
    """Let the flag stay beyond a block of `handling` within this one: a signal counts for the next cell, too."""
    global _flag_stays
    _flag_stays = True
    try:
        yield
    finally:
        _flag_stays = False


def install_handlers() -> None:
    """Let signals set the flag from now on: a job's task calls it before it imports torch, which takes seconds."""
    for number in handled():
        signal.signal(number, _set_flag)


def handled() -> list[signal.Signals]:
    """Return the signals that ask this process to stop: all, but not SIGHUP where nohup had it ignored."""
    hangup_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in WATCHED if not (number == signal.SIGHUP and hangup_ignored)]


def leave_closed_terminal() -> None:
    """Let this process write nowhere instead of to a terminal that is gone, where each line would be an error."""
    for handle in (0, 1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(handle).st_mode) and not os.isatty(handle):
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, handle)
                os.close(nowhere)


@contextmanager
def handling(grace: float, on_forced_exit: Callable[[str], None]) -> Iterator[None]:
    """Let signals set the flag within this block; `on_forced_exit` gets the reason before an exit is forced.

    Signals that came since `install_handlers` count. Outside the main thread Python can't handle signals: there this
    does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Python writes the number of each signal to this socket at once, even while C code keeps the main thread busy.
    receiver, sender = socket.socketpair()
    receiver.setblocking(False)
    sender.setblocking(False)
    old_wakeup_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    old_handlers = {number: signal.signal(number, _set_flag) for number in handled()}
    old_mask = signal.pthread_sigmask(
        signal.SIG_UNBLOCK, WATCHED
    )  # the process that started this one may have blocked them
    thread = _SignalThread(receiver, grace, on_forced_exit)
    thread.start()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_wakeup_fd)
        if not _flag_stays:
            _stop_reasons.clear()
        thread.stop(sender)
        receiver.close()
        sender.close()


def _set_flag(number: int, _frame: FrameType | None) -> None:
    _stop_reasons[signal.Signals(number).name] = None
    if number == signal.SIGHUP:
        leave_closed_terminal()


class _SignalThread(threading.Thread):
    """Reads the numbers of signals as they arrive, and looks after the launcher once a second."""

    STOP = 0
    """Sent in place of a signal's number, to end the thread."""

    def __init__(self, receiver: socket.socket, grace: float, on_forced_exit: Callable[[str], None]) -> None:
        super().__init__(name="signals", daemon=True)
        self.receiver, self.grace, self.on_forced_exit = receiver, grace, on_forced_exit
        self.launcher = os.getppid() if has_launcher(os.environ) else None
        self.first_signal_at = running_seconds() if _stop_reasons else None

    def run(self) -> None:
        """Wait for signals until the block ends."""
        while True:
            ready, _, _ = select.select([self.receiver], [], [], 1.0 if self.first_signal_at is None else 0.1)
            numbers = self.receiver.recv(64) if ready else b""
            if self.STOP in numbers:
                return
            if any(self._counts(number) for number in numbers):
                self._count_signal()
            if self.launcher not in (None, os.getppid()):
                self.launcher = None
                _stop_reasons[ORPHANED] = None
                self._count_signal()
            if self.first_signal_at is not None and running_seconds() > self.first_signal_at + self.grace:
                self._force_exit(f"not saved within runtime.grace={self.grace:g} seconds of the signal")

    def _counts(self, number: int) -> bool:
        """Return whether a signal asks to stop. A terminal that closes may send SIGHUP again, which forces nothing."""
        return number in WATCHED and not (number == signal.SIGHUP and self.first_signal_at is not None)

    def _count_signal(self) -> None:
        now = running_seconds()
        if self.first_signal_at is None:
            self.first_signal_at = now
        elif now > self.first_signal_at + BURST:
            self._force_exit("a second signal")

    def _force_exit(self, why: str) -> None:
        with suppress(Exception):  # whatever the main thread is doing, the process must end
            self.on_forced_exit(why)
        print(f"exit forced: {why}", file=sys.stderr, flush=True)
        os._exit(Preempted.exit_code)

    def stop(self, sender: socket.socket) -> None:
        """End the thread."""
        sender.send(bytes([self.STOP]))
        self.join()


def has_launcher(environment: Mapping[str, str]) -> bool:
    """Return whether a launcher started the process with this environment."""
    return any(name in environment for name in LAUNCHERS)


# ---- In loader workers ----


@contextmanager
def blocked() -> Iterator[None]:
    """Start processes in this block with the signals blocked, so that none dies before it can ignore them.

    Those of a fork server are only if the server was started in such a block, too.
    """
    atexit.unregister(_kill_children)
    atexit.register(_kill_children)  # runs before the hook of multiprocessing, which would wait for them
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    if multiprocessing.get_start_method() != "fork":
        resource_tracker.ensure_running()  # not in the middle of a start: it unblocks SIGTERM and SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)


def ignore_in_worker() -> None:
    """Ignore signals in a loader's worker: only the process that trains reacts to them, and the worker ends with it.

    torch's workers look whether their parent has changed. A server that forks them (Python's way from 3.14 on) stays
    their parent when the process that reads is killed, and would stay for them, so that both stay forever.
    """
    for number in WATCHED:
        signal.signal(number, signal.SIG_IGN)
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)  # the trainer's, inherited by fork
    if reader := multiprocessing.parent_process():
        threading.Thread(target=_exit_after, args=(reader.sentinel,), name="reader", daemon=True).start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _kill_children() -> None:
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
