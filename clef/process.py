"""What the system gives this process: memory, cores, and time in which it runs. Imports nothing of the package."""

import ctypes
import math
import os
import threading
import time
from pathlib import Path

# ---- Memory ----

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, up to 1 GiB, and take blocks of up to 32 MiB from that; only glibc can.

    A training step on a CPU frees the same large tensors that the next one allocates. Given back to the system in
    between, every page of them is cleared and mapped again: up to a sixth of the time of small networks.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, 1 << 25)
        set_option(_TRIM_THRESHOLD, 1 << 30)


# ---- Cores ----

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def cores() -> int:
    """Return how many cores this process may use: its affinity (Slurm, taskset), or its cgroups' quota (containers)."""
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), _quota_of_cgroups())))


def _quota_of_cgroups() -> float:
    """Return the smallest CPU quota, in cores, of the cgroups around this process; infinite where there is none."""
    try:
        lines = OWN_CGROUPS.read_text("utf-8").splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = CGROUPS / "cpu" if controllers else CGROUPS  # version 1 has a tree for each controller
        own = top / path.lstrip("/")  # in a container, the path may be the host's: then only `top` exists here
        quotas += [_quota(folder) for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return min(quotas)


def _quota(cgroup: Path) -> float:
    """Return the CPU quota that a cgroup states itself, in cores."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text("utf-8").split()
        else:
            quota, period = ((cgroup / f"cpu.cfs_{name}_us").read_text("utf-8") for name in ("quota", "period"))
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or `max`
        return math.inf
    return cores if cores > 0 else math.inf


# ---- Time ----

TICK_S, MAX_GAP_S = 0.5, 1.0
"""How often the clock is looked at, and the most that passes for this process between two looks."""
_looked_at = (time.monotonic(), 0.0)
"""When the clock was last looked at, and what it showed."""
_ticker: threading.Thread | None = None


def running_seconds() -> float:
    """Return the time by a clock that stands still while this process does.

    A process that is stopped (Ctrl-Z, SIGSTOP, `scontrol suspend`, a paused machine) can do nothing in that time, so
    no limit on how long it may take counts it. Only differences mean something.
    """
    global _ticker
    if _ticker is None:
        _ticker = threading.Thread(target=_tick, name="clock", daemon=True)
        _ticker.start()
    return _look()


def _look() -> float:
    # Two threads that look at once start from the same pair and write nearly the same one: no lock is needed.
    global _looked_at
    before, seconds = _looked_at
    now = time.monotonic()
    seconds += min(now - before, MAX_GAP_S)
    _looked_at = (now, seconds)
    return seconds


def _tick() -> None:
    while True:
        time.sleep(TICK_S)
        _look()


def _forget_ticker() -> None:
    global _ticker
    _ticker = None


os.register_at_fork(after_in_child=_forget_ticker)  # a fork has no threads but its own
