"""Ends a run in which nothing moves any more, and says where it stood."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clef.errors import HUNG


class Watchdog:
    """A thread that wants to be fed by every step, scored batch and checkpoint. `seconds` 0: there is none.

    When it isn't, it writes the stacks of all threads to `path`, tells `last_word` why, and ends the process.
    """

    def __init__(self, seconds: float, path: Path, last_word: Callable[[str], None]) -> None:
        self.seconds, self.path, self.last_word = seconds, path, last_word
        self.fed = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self.feed()
        if self.seconds:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def feed(self) -> None:
        """Something moved."""
        self.fed = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(max(0.01, self.fed + self.seconds - time.monotonic())):
            if time.monotonic() > self.fed + self.seconds:
                self._bite()

    def _bite(self) -> None:
        why = f"hung: nothing moved for runtime.watchdog={self.seconds:g} seconds; all stacks are in {self.path.name}"
        with suppress(Exception):  # a full disk, say: the exit comes
            with self.path.open("w") as file:
                faulthandler.dump_traceback(file, all_threads=True)
            self.last_word(why)
        print(why, file=sys.stderr, flush=True)
        os._exit(HUNG)
