"""Ask about other processes, and wait for what they do."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def is_running(pid: str) -> bool:
    """Return whether a process runs; one that has ended but was not waited for (a zombie) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(what: str, holds: Callable[[], Any], seconds: float = 200) -> None:
    """Wait until `holds()` is true; raise an AssertionError that names `what` when it stays false."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)
