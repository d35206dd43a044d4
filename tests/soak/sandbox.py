"""Runs a function in a forked child with limits: what it returned, how it was refused, or how it went wrong."""

import multiprocessing
import os
import resource
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from clef.errors import ClefError

MEMORY = 4 << 30
"""Bytes that a child may take beyond what it inherits."""


@dataclass(frozen=True)
class Outcome:
    """`kind` is done, refused (a ClefError, its text in `value`), crashed (a traceback) or hung."""

    kind: str
    value: Any = None


def run(act: Callable[[], Any], seconds: float = 60) -> Outcome:
    """What becomes of `act` in a process of its own. It may exhaust memory or hang there, but not here."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(act, theirs))
    child.start()
    theirs.close()
    try:
        outcome = ours.recv() if ours.poll(seconds) else Outcome("hung", f"for {seconds} s")
    except EOFError:
        child.join()
        outcome = Outcome("crashed", f"the process ended with {child.exitcode}")
    child.kill()
    child.join()
    return outcome


def _child(act: Callable[[], Any], answer: Connection) -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    try:
        answer.send(Outcome("done", act()))
    except ClefError as error:
        answer.send(Outcome("refused", str(error)))
    except BaseException:
        answer.send(Outcome("crashed", traceback.format_exc()))
