"""Cells that were cancelled with Slurm's own commands: planning goes by what is noted in their folders."""

from pathlib import Path

from clef.cells import records
from launch import known
from launch.status import busy_and_jobs, state_of


def note(grid: Path) -> None:
    """Note in their folders which cells were cancelled by other means than --cancel.

    Asks Slurm now, if anything was ever submitted. A job that Slurm dropped because it waited for one that failed was
    not cancelled by anyone.
    """
    busy, jobs = busy_and_jobs(grid)
    jobs = {cell: job for cell, job in jobs.items() if not (grid / cell / records.RESULT).exists()}
    told = known.look(grid, set(jobs.values()), every=0.0).jobs if jobs else {}
    for cell, number in jobs.items():
        job, path = told.get(number), grid / cell / records.CANCELLED
        if job and cell not in busy and not path.exists() and state_of(grid / cell, number, job) == "cancelled":
            records.write_json(path, {"by": f"scancel, job {number}", "at": None})
