"""A small grid on the dev cluster, and what is done to its cells and launchers there."""

import json
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from clef.cells import attempts, records
from tests import faults
from tests.faults import Fault
from tests.launch import tiny_grid
from tests.slurm.cluster import BUSY, Slurm, wrapped

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


GRID_NAME = "small"
STEPS = 22
SETTINGS = ["epochs=6", "selection=last", "runtime.threads=1", "runtime.log_every=1", "runtime.checkpoint_every=3"]
SLOW = [Fault("slow", step, seconds=0.8) for step in range(1, STEPS + 1)]
LAST = 10
"""A strike is due in this step at the latest: there must be time to see that it is."""
LAUNCHES = 8
"""Of a grid that comes to its end; more are a sign that it doesn't."""


def write_grid(folder: Path) -> Path:
    """Four cells of `STEPS` steps."""
    axes = {"datasets": ["caer_s_demo"], "backbones": ["caer_net"], "methods": ["vanilla", "clef"], "seeds": [0, 1]}
    return tiny_grid.write(folder / f"{GRID_NAME}.yaml", **axes)


class Disturbed:
    """The grid, and what is yet to happen to it: one disturbance of each kind."""

    def __init__(self, slurm: Slurm, shards: Path, base: Path, seed: int) -> None:
        self.slurm, self.shards, self.base = slurm, shards, base
        self.grid, self.runs = write_grid(base), base / "runs" / GRID_NAME
        self.environment = faults.environment(base / "slow", *SLOW, base=slurm.environment)
        self.seed, self.draw = seed, random.Random(seed)
        self.dying = self.draw.choice([1, 2])
        """The launcher that is killed: the first one, or the one behind it that submits what was cancelled or died."""
        self.due: dict[Cell, list[tuple[int, str]]] = {}
        """From which step on a cell is struck, and how."""
        self.struck: set[int | None] = {None}
        """Processes that may leave: each is struck but once."""
        self.results: dict[Cell, tuple[int, bytes]] = {}
        """As they were when they were first seen."""
        self.launches, self.cancelled = 0, False
        self.survivor: Cell | None = None
        """Trained by a process on a node that Slurm has given up."""

    def run(self) -> None:
        """Until all cells are done."""
        began = time.monotonic()
        self.launch()
        cells = self._plan()
        while len(self.results) < len(cells):
            for cell in cells:
                self._look(cell)
            if not self.busy() and not any(cell.pid for cell in cells):
                self.launch()
            time.sleep(0.2)
            assert time.monotonic() < began + 900, f"still due: {self.due}; {self.slurm.run('squeue')}"
        assert not any(self.due.values()), f"all is done, and still due: {self.due}"
        self.slurm.ended(f"clef-{GRID_NAME}")

    def launch(self) -> str:
        """Run the launcher; when it is the one to die, run it once more. What it said."""
        self.launches += 1
        assert self.launches < LAUNCHES
        words = ["--partition", "preempt", "--yes", *SETTINGS]
        words += ["--retry-failed"] if self.cancelled else []
        if self.launches == self.dying:
            dying = wrapped(self.environment, self.base / "bin", '$real "$@" > /dev/null; kill -9 $PPID')
            print(f"{time.strftime('%X')} launcher {self.launches} is killed")
            killed = tiny_grid.launch(self.grid, self.shards, self.base, *words, environment=dying)
            assert killed.returncode == -9, killed.stderr
        done = tiny_grid.launch(self.grid, self.shards, self.base, *words, environment=self.environment)
        assert done.returncode == 0, done.stderr
        self.cancelled = False
        return done.stdout + done.stderr

    def _plan(self) -> list[Cell]:
        """Draw when each cell is struck by what.

        What the cell's process may survive comes last to it. Forms take turns from case to case.
        """
        cells = [Cell(folder) for folder in sorted(self.runs.glob("caer_s_demo-*"))]
        places = self.draw.sample(cells, len(cells))
        places += self.draw.choices(cells, k=len(KINDS) - len(cells))
        self.due = {cell: [] for cell in cells}
        for i, (cell, forms) in enumerate(zip(places, KINDS, strict=True)):
            at = LAST if len(forms) > 1 else self.draw.randrange(2, LAST - 2)
            self.due[cell].append((at, forms[(self.seed + i) % len(forms)]))
        self.due = {cell: sorted(strikes) for cell, strikes in self.due.items()}
        return cells

    def _look(self, cell: Cell) -> None:
        if cell not in self.results and (result := cell.result):
            self.results[cell] = result
        if cell is self.survivor and cell in self.results:
            self.slurm.start()
            self.survivor = None
        pid, losses = cell.pid, cell.losses
        if pid in self.struck or not self.due[cell] or not losses or losses[-1][0] < self.due[cell][0][0]:
            return
        _, kind = self.due[cell].pop(0)
        self.struck.add(pid)
        print(f"{time.strftime('%X')} {cell.folder.name}, step {losses[-1][0]}, process {pid}: {kind}")
        strike(self.slurm, kind, cell, int(pid or 0))
        self.cancelled |= kind == "scancel"
        if kind.endswith("back at once"):
            self.slurm.start()
        elif kind.startswith("slurmd killed"):
            self.survivor = cell

    def busy(self) -> bool:
        """Whether Slurm has a job of the grid."""
        return bool({job["JobState"] for job in self.slurm.jobs(f"clef-{GRID_NAME}").values()} & BUSY)
