"""Hands a plan's cells to submitit as Slurm job arrays with a gather job behind."""

import json
import math
import shutil
import subprocess
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError

from clef import records
from clef.config import ResourcesConfig
from clef.engine.task import TrainCell, gather
from clef.errors import SetupError
from launch import snapshot
from launch.plan import PlannedCell
from launch.prepare import folder_of, prepare

SUBMISSIONS = "submissions.jsonl"
GATHER = ResourcesConfig(gpus=0, cpus=1, memory_gb=4, hours=1)


@dataclass(frozen=True)
class Site:
    """What the site wants to hear on every job."""

    partition: str | None
    sbatch: dict[str, str | bool]
    python: str | None = None
    """What starts Python in the snapshot of the code."""


def shapes(cells: list[PlannedCell]) -> dict[ResourcesConfig, list[PlannedCell]]:
    """The cells by resource shape, each of which becomes one job array."""
    groups: dict[ResourcesConfig, list[PlannedCell]] = defaultdict(list)
    for cell in cells:
        groups[cell.config.resources].append(cell)
    return dict(groups)


def to_slurm(cells: list[PlannedCell], plan: Path, results: Path, site: Site) -> tuple[list[str], str]:
    """Submit one array a resource shape, and the gather job. Returns the arrays' ids and the gather job's.

    A cell that starts from another one is a job of its own that waits for just that one. The gather job runs when no
    cell of the grid is queued any more, those of earlier submissions included.
    """
    folder = plan.parent
    site = replace(site, python=snapshot.python(snapshot.take(folder, [cell.config for cell in cells])))
    jobs = queued(folder)
    earlier = {_array(job) for job in jobs.values()}
    arrays: list[str] = []
    waits = [cell for cell in cells if _waits(cell, cells, jobs)]
    try:
        for shape, group in shapes([cell for cell in cells if cell not in waits]).items():
            made = _submit_array(folder, site, shape, group)
            arrays.append(_array(next(iter(made.values()))))
            jobs |= made
        for cell in waits:
            made = _submit_behind(folder, site, cell, jobs)
            arrays += made.values()
            jobs |= made
        behind: dict[str, str | bool] = {"dependency": ":".join(["afterany", *sorted(earlier), *arrays])}
        executor = _executor(folder, replace(site, sbatch=site.sbatch | behind), GATHER)
        return arrays, executor.submit(gather, str(plan.resolve()), str(results)).job_id
    except FailedJobError as error:
        sent = f"; submitted before that: {', '.join(arrays)}" if arrays else ""
        said = str(error).strip() or "it gave no reason"
        raise SetupError(f"sbatch refused a job: {said.splitlines()[-1]}{sent}") from None


def _waits(cell: PlannedCell, cells: list[PlannedCell], jobs: dict[str, str]) -> bool:
    """Whether the cell that this one starts from is yet to be trained."""
    return cell.parent is not None and (cell.parent.name in jobs or any(other.folder == cell.parent for other in cells))


def _submit_array(folder: Path, site: Site, shape: ResourcesConfig, group: list[PlannedCell]) -> dict[str, str]:
    executor = _executor(folder, site, shape)
    with executor.batch():
        jobs = [executor.submit(TrainCell(), prepare(cell, shape.cpus)) for cell in group]
    return _record(folder, [(cell, job.job_id) for cell, job in zip(group, jobs, strict=True)])


def _submit_behind(folder: Path, site: Site, cell: PlannedCell, jobs: dict[str, str]) -> dict[str, str]:
    """One cell, once the one it starts from has ended well; Slurm drops it when that one fails."""
    assert cell.parent is not None
    behind: dict[str, str | bool] = {"dependency": f"afterok:{jobs[cell.parent.name]}", "kill_on_invalid_dep": "yes"}
    shape = cell.config.resources
    executor = _executor(folder, replace(site, sbatch=site.sbatch | behind), shape)
    job = executor.submit(TrainCell(), prepare(cell, shape.cpus))
    return _record(folder, [(cell, job.job_id)])


def _array(job: str) -> str:
    """The array that a job belongs to; a group of one cell is a plain job."""
    return job.partition("_")[0]


def _executor(folder: Path, site: Site, shape: ResourcesConfig) -> submitit.Executor:
    try:
        executor = submitit.AutoExecutor(folder=folder / "slurm" / "%j", cluster="slurm", slurm_python=site.python)
    except RuntimeError as error:
        raise SetupError(f"{error}; is sbatch on this machine's PATH?") from None
    executor.update_parameters(
        name=f"clef-{folder.name}",
        timeout_min=math.ceil(shape.hours * 60),
        mem_gb=shape.memory_gb,
        cpus_per_task=shape.cpus,
        tasks_per_node=max(1, shape.gpus),
        nodes=shape.nodes,
        # srun no longer takes the CPUs from sbatch (from 22.05 on), and a rank that died must not be waited for.
        slurm_srun_args=[f"--cpus-per-task={shape.cpus}", "--kill-on-bad-exit=1"],
        slurm_additional_parameters={"requeue": True} | site.sbatch,
    )
    if shape.gpus:
        executor.update_parameters(gpus_per_node=shape.gpus, slurm_setup=[f"export CLEF_GPUS_PER_NODE={shape.gpus}"])
    if site.partition:
        executor.update_parameters(slurm_partition=site.partition)
    return executor


def _record(folder: Path, jobs: list[tuple[PlannedCell, str]]) -> dict[str, str]:
    """Write down which job trains which cell; the same by the cell's folder."""
    with (folder / SUBMISSIONS).open("a", encoding="utf-8") as file:
        for cell, job in jobs:
            file.write(json.dumps({"cell": folder_of(cell).name, "job": job}) + "\n")
    return {folder_of(cell).name: job for cell, job in jobs}


def queued(folder: Path) -> dict[str, str]:
    """The unfinished cells of a grid whose Slurm job still waits or runs: the name of their folder, and the job."""
    path = folder / SUBMISSIONS
    if not (path.exists() and shutil.which("squeue")):
        return {}
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError:
        raise SetupError(f"{path}: a line was cut short; look at squeue, and mend or remove the line") from None
    entries = [entry for entry in entries if not (folder / entry["cell"] / records.RESULT).exists()]
    if not entries:  # all done: tables can be had where Slurm is out of reach
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%F_%K %A"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except subprocess.SubprocessError as error:
        reason = str(getattr(error, "stderr", None) or error).strip()
        raise SetupError(f"squeue: {reason}: can't tell which cells are queued; try again") from None
    alive = set(listed.split())
    return {entry["cell"]: entry["job"] for entry in entries if entry["job"] in alive}
