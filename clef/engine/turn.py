"""One process at a time trains a cell: it holds the lock in the cell's folder. Imports no torch."""

import time
from contextlib import ExitStack
from pathlib import Path

from clef import console, io, signals
from clef.cells import records
from clef.errors import CellError

EVERY = 1.0
"""Seconds between two looks at a lock that another process has."""


class Busy(CellError):
    """Another process trains the cell, and writes its state."""


def take(stack: ExitStack, folder: Path, patience: float) -> None:
    """Hold the cell's lock until `stack` is left; wait `patience` seconds for a process that has it.

    A job that was queued again may meet its own former self, alive on a node whose slurmd died. Raises Busy when the
    time is over, and Preempted when this process is asked to stop before.
    """
    until, told = time.monotonic() + patience, False
    while True:
        try:
            stack.enter_context(io.lock(folder / records.LOCK, busy=lambda: _busy(folder)))
            return
        except Busy as error:
            if time.monotonic() >= until:
                raise
            if not told:
                said = f"{error}; waiting for it to end, {patience / 60:g} minutes at most"
                console.err.print(said, markup=False, soft_wrap=True)
            told = True
        signals.leave_if_asked("while another process trained this cell")
        time.sleep(EVERY)


def _busy(folder: Path) -> Busy:
    state = records.read_json(folder / records.STATE)
    told = state.get("state") == "running"  # else these are the words of one that came before
    who = f" ({state['pid']} on {state['host']})" if told else ""
    return Busy(f"{folder}: another process{who} trains this cell")
