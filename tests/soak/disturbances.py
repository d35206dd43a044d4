"""A cell that trains on the dev cluster, and what can happen to it there."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from clef.cells import attempts, records
from tests.slurm.small import Slurm

KINDS = (
    ("slurmd killed, and back at once", "slurmd killed, and back when the cell is done"),
    ("task killed", "slurmstepd killed"),
    ("requeue",),
    ("preemption",),
    ("USR2",),
    ("scancel",),
)
"""What strikes a cell that trains, each in one form or another; the launcher's death is the seventh kind."""
SIGNALS = {"task killed": signal.SIGKILL, "USR2": signal.SIGUSR2}


@dataclass(frozen=True)
class Cell:
    """A cell's folder, as one who passes by reads it."""

    folder: Path

    @property
    def result(self) -> tuple[int, bytes] | None:
        """When its result was written, and what; None while there is none."""
        path = self.folder / records.RESULT
        return (path.stat().st_mtime_ns, path.read_bytes()) if path.exists() else None

    @property
    def pid(self) -> int | None:
        """The process that trains it; None while none does. Its lock is left alone: a job may be taking it."""
        state = records.read_json(self.folder / records.STATE)
        alive = state.get("state") == "running" and Path(f"/proc/{state['pid']}").exists()
        return int(state["pid"]) if alive else None

    @property
    def losses(self) -> list[tuple[int, float]]:
        """By step, as its log has them."""
        path = self.folder / records.LOG
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def strike(slurm: Slurm, kind: str, cell: Cell, pid: int) -> None:
    """Let it happen to a cell that process `pid` trains, whose attempt is the cell's newest."""
    newest = attempts.read(cell.folder)[-1]
    if kind.startswith("slurmd"):
        _kill_slurmd(slurm, newest.job, newest.node)
    elif kind in SIGNALS:
        os.kill(pid, SIGNALS[kind])
    elif kind == "slurmstepd killed":
        os.kill(_parent(pid), signal.SIGKILL)
    elif kind == "requeue":
        slurm.run("scontrol", "requeue", newest.job)
    elif kind == "preemption":
        place = ["--partition=gpu", f"--nodelist={newest.node}", "--job-name=urgent", "--output=/dev/null"]
        slurm.run("sbatch", *place, "--wrap=sleep 1")
    else:
        slurm.run("scancel", newest.job)


def _kill_slurmd(slurm: Slurm, job: str, node: str) -> None:
    """Slurm gives the node up, and queues the job again, while its process goes on."""
    os.kill(int((slurm.folder / f"run/{node}.pid").read_text()), signal.SIGKILL)
    slurm.run("scontrol", "update", f"nodename={node}", "state=down", "reason=killed")
    slurm.wait(lambda: slurm.jobs("clef-")[job].get("NodeList") != node, f"{job} is taken from {node}")


def _parent(pid: int) -> int:
    """The slurmstepd that started a task."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:")))
