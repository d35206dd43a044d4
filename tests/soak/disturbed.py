"""A small grid on Slurm whose cells and launchers are struck, and which is launched again as a user would."""

import json
import random
import time
from pathlib import Path

from tests.launch import tiny_grid
from tests.slurm.small import BUSY, Slurm, wrapped
from tests.soak.disturbances import KINDS, Cell, strike

NAME = "small"
STEPS = 22
SETTINGS = ["epochs=6", "selection=last", "runtime.threads=1", "runtime.log_every=1", "runtime.checkpoint_every=3"]
SLOW = [{"kind": "slow", "step": step, "seconds": 0.8} for step in range(1, STEPS + 1)]
LAST = 10
"""A strike is due in this step at the latest: there must be time to see that it is."""
LAUNCHES = 8
"""Of a grid that comes to its end; more are a sign that it doesn't."""


def write(folder: Path) -> Path:
    """Four cells of `STEPS` steps."""
    axes = {"datasets": ["caer_s_demo"], "backbones": ["caer_net"], "methods": ["vanilla", "clef"], "seeds": [0, 1]}
    return tiny_grid.write(folder / f"{NAME}.yaml", **axes)


class Disturbed:
    """The grid, and what is yet to happen to it: one disturbance of each kind."""

    def __init__(self, slurm: Slurm, shards: Path, base: Path, seed: int) -> None:
        self.slurm, self.shards, self.base = slurm, shards, base
        self.grid, self.runs = write(base), base / "runs" / NAME
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
        self.slurm.ended(f"clef-{NAME}")

    def launch(self) -> str:
        """Run the launcher; when it is the one to die, run it once more. What it said."""
        self.launches += 1
        assert self.launches < LAUNCHES
        words = ["--partition", "preempt", "--yes", *SETTINGS, f"runtime.faults={json.dumps(SLOW)}"]
        words += ["--retry-failed"] if self.cancelled else []
        if self.launches == self.dying:
            dying = wrapped(self.slurm.environment, self.base / "bin", '$real "$@" > /dev/null; kill -9 $PPID')
            print(f"{time.strftime('%X')} launcher {self.launches} is killed")
            killed = tiny_grid.launch(self.grid, self.shards, self.base, *words, environment=dying)
            assert killed.returncode == -9, killed.stderr
        done = tiny_grid.launch(self.grid, self.shards, self.base, *words, environment=self.slurm.environment)
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
        return bool({job["JobState"] for job in self.slurm.jobs(f"clef-{NAME}").values()} & BUSY)
