"""The attempts of a cell's job: each time it starts, and how that ends. Imports no torch.

A job that goes back to the queue keeps its id, so attempts are counted by job: for a cell that is submitted again, the
count starts at 0.
"""

import json
import os
import socket
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from clef.cells.records import ATTEMPTS
from clef.config import RequeueConfig

FILE = ATTEMPTS
"""In the cell's folder: a line when an attempt begins, and one when it ends."""
BEGAN = "began"


@dataclass(frozen=True)
class Attempt:
    """One start of a job."""

    job: str
    """`12`, or `12_3` for an array task."""
    restart: int
    """How often the job was queued again before."""
    node: str
    began: str
    how: str | None = None
    """done, failed, cancelled, preempted, timeout, lost or signalled. None: it runs, or ended without writing one."""
    ended: str | None = None


def begin(folder: Path, job: str) -> Attempt:
    """Record that a job starts on a cell, and return the attempt."""
    attempt = current(folder, job)
    event = {"job": job, "restart": attempt.restart, "how": BEGAN, "at": attempt.began, "node": attempt.node}
    _append(folder, event)
    return attempt


def current(folder: Path, job: str) -> Attempt:
    """Return this start of a job as an attempt at a cell, which nothing records."""
    starts = sum(attempt.job == job for attempt in read(folder))  # where Slurm doesn't count
    restart = int(os.environ.get("SLURM_RESTART_COUNT", 0 if "SLURM_JOB_ID" in os.environ else starts))
    node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    return Attempt(job, restart, node, _now())


def end(folder: Path, attempt: Attempt, how: str) -> None:
    """Record how an attempt ended, unless the cell is done and has removed its record of attempts."""
    if not (folder / FILE).exists():
        return
    _append(folder, {"job": attempt.job, "restart": attempt.restart, "how": how, "at": _now()})


def read(folder: Path) -> list[Attempt]:
    """Return all attempts in the order in which they began. A line that a killed process cut short is left out."""
    attempts: dict[tuple[str, int], Attempt] = {}
    path = folder / FILE
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            event = json.loads(line)
            key = event["job"], event["restart"]
            if event["how"] == BEGAN:
                attempts[key] = Attempt(*key, event["node"], event["at"])
            else:
                attempts[key] = replace(attempts[key], how=event["how"], ended=event["at"])
        except (ValueError, KeyError, TypeError):
            continue
    return list(attempts.values())


def count_earlier_ends(folder: Path, now: Attempt) -> Counter[str]:
    """Count how the earlier attempts of the same job ended; those that recorded no end count as `lost`."""
    return Counter(past.how or "lost" for past in read(folder) if past.job == now.job and past.restart < now.restart)


def exceeded_limit(ends: Counter[str], allowed: RequeueConfig) -> str | None:
    """Return which limit the ends of a job exceed, in words; None where it may start again."""
    for kind, limit in allowed.model_dump().items():
        if ends[kind] > limit:
            counts = ", ".join(f"{ends[name]} {name}" for name in RequeueConfig.model_fields)
            return f"of its job's attempts ended so far: {counts}; runtime.requeue.{kind} allows {limit}"
    return None


def _append(folder: Path, event: dict[str, Any]) -> None:
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
