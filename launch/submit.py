"""Hands a plan's cells to submitit: as Slurm job arrays with a gather job behind, or as local processes."""

import json
import math
import os
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError

from clef import records
from clef.config import CellConfig, ResourcesConfig
from clef.engine.task import TrainCell, gather
from clef.errors import SetupError
from clef.identity import write_config
from launch.plan import PlannedCell

SUBMISSIONS = "submissions.jsonl"
GATHER = ResourcesConfig(gpus=0, cpus=1, memory_gb=4, hours=1)


@dataclass(frozen=True)
class Site:
    """What the site wants to hear on every job."""

    partition: str | None
    sbatch: dict[str, str | bool]


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
        executor = _executor(folder, Site(site.partition, site.sbatch | behind), GATHER)
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
        jobs = [executor.submit(TrainCell(), _prepare(cell, shape.cpus)) for cell in group]
    return _record(folder, [(cell, job.job_id) for cell, job in zip(group, jobs, strict=True)])


def _submit_behind(folder: Path, site: Site, cell: PlannedCell, jobs: dict[str, str]) -> dict[str, str]:
    """One cell, once the one it starts from has ended well; Slurm drops it when that one fails."""
    assert cell.parent is not None
    behind: dict[str, str | bool] = {"dependency": f"afterok:{jobs[cell.parent.name]}", "kill_on_invalid_dep": "yes"}
    shape = cell.config.resources
    executor = _executor(folder, Site(site.partition, site.sbatch | behind), shape)
    job = executor.submit(TrainCell(), _prepare(cell, shape.cpus))
    return _record(folder, [(cell, job.job_id)])


def _array(job: str) -> str:
    """The array that a job belongs to; a group of one cell is a plain job."""
    return job.partition("_")[0]


def _executor(folder: Path, site: Site, shape: ResourcesConfig) -> submitit.Executor:
    try:
        executor = submitit.AutoExecutor(folder=folder / "slurm" / "%j", cluster="slurm")
    except RuntimeError as error:
        raise SetupError(f"{error}; is sbatch on this machine's PATH?") from None
    executor.update_parameters(
        name=f"clef-{folder.name}",
        timeout_min=math.ceil(shape.hours * 60),
        mem_gb=shape.memory_gb,
        cpus_per_task=shape.cpus,
        tasks_per_node=max(1, shape.gpus),
        nodes=1,
        # srun no longer takes the CPUs from sbatch (from 22.05 on), and a rank that died must not be waited for.
        slurm_srun_args=[f"--cpus-per-task={shape.cpus}", "--kill-on-bad-exit=1"],
        slurm_additional_parameters=site.sbatch,
    )
    if shape.gpus:
        executor.update_parameters(gpus_per_node=shape.gpus, slurm_setup=[f"export CLEF_GPUS_PER_NODE={shape.gpus}"])
    if site.partition:
        executor.update_parameters(slurm_partition=site.partition)
    return executor


def _prepare(cell: PlannedCell, threads: int) -> str:
    """Make the cell's folder, with its config in it and no state of an earlier try.

    All paths are absolute: the job may run elsewhere.
    """
    config = _with_absolute_paths(cell.config)
    runtime = config.runtime.model_copy(update={"threads": config.runtime.threads or threads})
    write_config(_folder(cell), config.model_copy(update={"runtime": runtime}))
    (_folder(cell) / records.STATE).unlink(missing_ok=True)
    return str(_folder(cell).resolve())


def _with_absolute_paths(config: CellConfig) -> CellConfig:
    """Every path in the config made absolute: places, weights named by their file, the cell to start from."""
    content = config.model_dump(mode="json")
    method, stated = content["method"], content["backbone"]["weights"]
    runtime = content["runtime"]
    found = [(runtime, key) for key in ("shards", "out", "weights", "features")]
    found += [(runtime, "scratch")] if runtime["scratch"] and "$" not in runtime["scratch"] else []
    found += [(method, "start_from")] if method.get("start_from") else []
    encoders = [encoder for encoder in (method.get("context_branch"), method.get("dictionary")) if encoder]
    named = [(stated, key) for key in stated] + [(encoder, "weights") for encoder in encoders]
    found += [(place, key) for place, key in named if "/" in place[key]]
    for place, key in found:
        place[key] = _absolute(place[key])
    return CellConfig.model_validate(content)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def _record(folder: Path, jobs: list[tuple[PlannedCell, str]]) -> dict[str, str]:
    """Write down which job trains which cell; the same by the cell's folder."""
    with (folder / SUBMISSIONS).open("a", encoding="utf-8") as file:
        for cell, job in jobs:
            file.write(json.dumps({"cell": _folder(cell).name, "job": job}) + "\n")
    return {_folder(cell).name: job for cell, job in jobs}


def to_local(
    cells: list[PlannedCell], logs: Path, at_once: int, show: Callable[[dict[Path, str]], None]
) -> dict[Path, str]:
    """Train the cells in processes of this machine, at most `at_once` at a time. Returns why cells failed.

    A cell that fails doesn't stop the others. `show` is called twice a second with the state of every cell.
    """
    waiting = list(cells)
    running: dict[submitit.Job[str], tuple[PlannedCell, int]] = {}
    failed: dict[Path, str] = {}
    states = {_folder(cell): "waiting" for cell in cells}
    slots = set(range(at_once))
    threads = max(1, (os.cpu_count() or 1) // at_once)
    try:
        while waiting or running:
            while slots and (cell := _next(waiting, [cell for cell, _ in running.values()])):
                waiting.remove(cell)
                slot = slots.pop()
                running[_start(cell, logs, slot, threads)] = (cell, slot)
                states[_folder(cell)] = "running"
            for job in [job for job in running if job.done()]:
                cell, slot = running.pop(job)
                slots.add(slot)
                reason = _failure(job, _folder(cell))
                states[_folder(cell)] = "failed" if reason else "done"
                if reason:
                    failed[_folder(cell)] = reason
            show(states)
            time.sleep(0.5)
    finally:
        for job in running:  # Ctrl-C: what was saved is gone on with next time
            job.cancel()
    return failed


def _next(waiting: list[PlannedCell], running: list[PlannedCell]) -> PlannedCell | None:
    """The first cell whose parent, if it has one, is neither waiting nor running."""
    busy = {_folder(cell) for cell in waiting + running}
    return next((cell for cell in waiting if cell.parent not in busy), None)


def _start(cell: PlannedCell, logs: Path, slot: int, threads: int) -> submitit.Job[str]:
    executor = submitit.LocalExecutor(folder=logs)
    gpus = cell.config.resources.gpus
    first = slot * gpus
    executor.update_parameters(
        timeout_min=math.ceil(cell.config.resources.hours * 60),
        tasks_per_node=max(1, gpus),
        gpus_per_node=gpus,
        visible_gpus=tuple(range(first, first + gpus)),
    )
    return executor.submit(TrainCell(), _prepare(cell, threads))


def _failure(job: submitit.Job[str], folder: Path) -> str | None:
    """Why a finished job has no result: what the cell says itself, else what its process said last."""
    if (folder / records.RESULT).exists():
        return None
    state = records.read_json(folder / records.STATE)
    if state.get("state") in ("failed", "preempted") and state.get("reason"):
        return str(state["reason"])
    said = [line.strip() for line in (job.stderr() or "").splitlines() if line.strip()]
    reason = "its process ended without a result" + (f"; the last it said: {said[-1]}" if said else "")
    records.write_state(folder, "failed", reason=reason, step=state.get("step"), steps=state.get("steps"))
    return reason


def _folder(cell: PlannedCell) -> Path:
    assert cell.folder is not None
    return cell.folder


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
