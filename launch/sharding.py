"""How the jobs go that cells without shards wait for: one makes the shards, one behind it submits the cells."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clef.data import manifest as manifests
from launch.known import FORGOTTEN, ending
from launch.ledger import Submission
from launch.outputs import last_line, outputs
from launch.scheduler import Job

UNSEEN = Job("PENDING", "", "", "")
"""What a job is taken for that Slurm hasn't been asked about yet, or can't be."""
DOES = {"shards": "makes the shards of", "launch": "submits the cells of"}
OVER = {"shards": ("COMPLETED",), "launch": ("COMPLETED", FORGOTTEN)}
"""States of which there is nothing to tell: a set that isn't there was not made, but cells may be blocked by else."""


@dataclass(frozen=True)
class ShardingJob:
    """Such a job, as Slurm showed it last."""

    job: str
    does: str
    state: str
    """Slurm's word; PENDING where there is none yet."""
    active: bool
    """Whether it waits or runs."""
    node: str | None
    seconds: int | None
    """How long it has run when Slurm was asked; None when it doesn't."""
    reason: str | None
    """Why it waits, or how it ended with the last line that it said."""


def submitted(submissions: Iterable[Submission]) -> dict[str, Submission]:
    """By job, the newest of each kind and set; of sets that are there, none that makes them."""
    newest = {
        (entry.kind, entry.shards): entry
        for entry in submissions if entry.kind in DOES and entry.job and not entry.dropped
    }  # fmt: skip
    return {
        str(entry.job): entry
        for entry in newest.values()
        if entry.kind == "launch" or not manifests.path_of(Path(str(entry.shards))).exists()
    }


def told(grid: Path, entries: Mapping[str, Submission], jobs: Mapping[str, Job]) -> list[ShardingJob]:
    """All but the ones that did what they were to do, as far as is known."""
    found = [(number, entry, jobs.get(number, UNSEEN)) for number, entry in entries.items()]
    return [_told(grid, number, entry, job) for number, entry, job in found if job.state not in OVER[entry.kind]]


def _told(grid: Path, number: str, entry: Submission, job: Job) -> ShardingJob:
    does = f"{DOES[entry.kind]} {Path(str(entry.shards)).name}"
    if job.active:
        reason = job.reason if job.reason not in ("", "None") else None
    else:
        words = [ending(job), last_line(outputs(grid, entry.tag, number))]
        reason = "; ".join(word for word in words if word)
    seconds = job.seconds if job.running else None
    return ShardingJob(number, does, job.state, job.active, job.node or None, seconds, reason)
