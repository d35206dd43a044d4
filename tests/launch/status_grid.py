"""A grid that has nothing but folders and records, and a Slurm whose commands print what they are told to."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from clef.cells import records
from clef.cells.plan_file import PlannedRun, write_plan
from launch import status
from launch.ledger import SUBMISSIONS, Submission
from launch.status_view import add_details

# An array of which 0 ended, 1 failed, 2 was killed, 3, 6 and 7 were cancelled while they ran, 4 runs; a job behind 1.
SQUEUE = """1|7|CANCELLED|None|node1|0:03|clef-x-00000001
1|3|CANCELLED|None|node1|0:04|clef-x-00000001
2|N/A|CANCELLED|DependencyNeverSatisfied||0:00|clef-x-00000002
3|N/A|CANCELLED|JobHeldUser||0:00|clef-x-00000003
1|0|COMPLETED|None|node1|0:00|clef-x-00000001
1|1|FAILED|NonZeroExitCode|node1|0:00|clef-x-00000001
1|2|FAILED|NonZeroExitCode|node1|0:00|clef-x-00000001
1|4|RUNNING|None|node2|1-01:01:12|clef-x-00000001
13|5|PENDING|JobArrayTaskLimit||0:00|clef-y
12|N/A|TIMEOUT|TimeLimit|node1|1:01|clef-t
14|N/A|NODE_FAIL|NodeDown|node2|0:02|clef-n
"""


class Slurm:
    """Commands that print what a real Slurm printed, and count how often they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        self.says("squeue", SQUEUE)
        self.says("sacct", "Slurm accounting storage is disabled", code=1)
        self.says("scancel", "")

    def says(self, command: str, text: str, code: int = 0) -> None:
        """From now on."""
        (self.folder / f"{command}.txt").write_text(text)
        stream = 1 if code == 0 else 2
        lines = ["#!/bin/sh", f'echo "{command} $*" >>{self.calls}', f"/bin/cat {self.folder}/{command}.txt >&{stream}"]
        (self.folder / command).write_text("\n".join([*lines, f"exit {code}", ""]))
        (self.folder / command).chmod(0o755)

    def called(self, command: str) -> list[str]:
        """The arguments of each call so far."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{command} ")]


def submitted(grid: Path, job: str, *cells: str, array: bool = True, created: str = "2026-01-01", **facts: Any) -> None:
    kind = facts.pop("kind", "cells")
    entry = Submission(tag=f"t{job}", kind=kind, cells=list(cells), array=array, job=job, created=created, **facts)
    records.write_json(grid / SUBMISSIONS / f"{entry.tag}.json", asdict(entry))


def planned(tmp_path: Path, *cells: str) -> Path:
    """A grid whose cells' folders are called like the cells."""
    write_plan(tmp_path / "runs", "g", [PlannedRun(cell, "d", "b", "m", 0, cell) for cell in cells])
    for cell in cells:
        (tmp_path / "runs/g" / cell).mkdir()
    return tmp_path / "runs/g"


def states(grid: Path) -> dict[str, str]:
    return {cell.name: cell.state for cell in status.read_status(grid / "plan.json").cells}


def details(grid: Path, name: str, stuck: float = 15.0) -> status.CellStatus:
    grid_status = status.read_status(grid / "plan.json")
    return add_details(grid_status, [cell for cell in grid_status.cells if cell.name == name], stuck)[0]
