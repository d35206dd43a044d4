"""Hands a plan's cells to submitit: as Slurm job arrays with a gather job behind, or as local processes."""

import json
import math
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from clef import records
from clef.config import ResourcesConfig
from clef.engine.task import TrainCell, gather
from clef.errors import SetupError
from clef.identity import write_config
from launch.plan import PlannedCell

SUBMISSIONS = "submissions.jsonl"


@dataclass(frozen=True)
class Site:
    """What the site wants to hear on every job."""

    partition: str | None
    sbatch: dict[str, str]


def shapes(cells: list[PlannedCell]) -> dict[ResourcesConfig, list[PlannedCell]]:
    """The cells by resource shape, each of which becomes one job array."""
    groups: dict[ResourcesConfig, list[PlannedCell]] = defaultdict(list)
    for cell in cells:
        groups[cell.config.resources].append(cell)
    return dict(groups)


def to_slurm(cells: list[PlannedCell], plan: Path, results: Path, site: Site) -> tuple[list[str], str]:
    """Submit one array a resource shape, and the gather job. Returns the arrays' ids and the gather job's."""
    logs = plan.parent / "slurm"
    arrays = []
    for shape, group in shapes(cells).items():
        executor = _executor(logs, site, shape)
        with executor.batch():
            jobs = [executor.submit(TrainCell(), str(_prepared(cell))) for cell in group]
        arrays.append(jobs[0].job_id.partition("_")[0])
        _record(plan.parent, [(cell, job.job_id) for cell, job in zip(group, jobs, strict=True)])
    behind = {"dependency": "afterany:" + ":".join(arrays)}
    executor = _executor(
        logs, Site(site.partition, site.sbatch | behind), ResourcesConfig(gpus=0, cpus=1, memory_gb=4, hours=1)
    )
    return arrays, executor.submit(gather, str(plan), str(results)).job_id


def _executor(logs: Path, site: Site, shape: ResourcesConfig) -> submitit.Executor:
    try:
        executor = submitit.AutoExecutor(folder=logs / "%j", cluster="slurm")
    except RuntimeError as error:
        raise SetupError(f"{error}; is sbatch on this machine's PATH?") from None
    executor.update_parameters(
        name="clef",
        timeout_min=math.ceil(shape.hours * 60),
        mem_gb=shape.memory_gb,
        cpus_per_task=shape.cpus,
        tasks_per_node=max(1, shape.gpus),
        nodes=1,
        slurm_additional_parameters=site.sbatch,
    )
    if shape.gpus:
        executor.update_parameters(gpus_per_node=shape.gpus, slurm_setup=[f"export CLEF_GPUS_PER_NODE={shape.gpus}"])
    if site.partition:
        executor.update_parameters(slurm_partition=site.partition)
    return executor


def _prepared(cell: PlannedCell) -> Path:
    """The cell's folder, with its config in it, absolute: the job may run elsewhere."""
    assert cell.folder is not None
    write_config(cell.folder, _absolute(cell))
    return cell.folder.resolve()


def _absolute(cell: PlannedCell, threads: int | None = None) -> Any:
    runtime = cell.config.runtime
    places = {key: str(Path(getattr(runtime, key)).expanduser().resolve()) for key in ("shards", "out", "weights")}
    if threads and not runtime.threads:
        places["threads"] = threads  # type: ignore[assignment]
    return cell.config.model_copy(update={"runtime": runtime.model_copy(update=places)})


def _record(folder: Path, jobs: list[tuple[PlannedCell, str]]) -> None:
    with (folder / SUBMISSIONS).open("a", encoding="utf-8") as file:
        for cell, job in jobs:
            file.write(json.dumps({"cell": _folder(cell).name, "job": job}) + "\n")


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
            while waiting and slots:
                cell, slot = waiting.pop(0), slots.pop()
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
    write_config(_folder(cell), _absolute(cell, threads))
    return executor.submit(TrainCell(), str(_folder(cell).resolve()))


def _failure(job: submitit.Job[str], folder: Path) -> str | None:
    """Why a finished job has no result: what the cell says itself, else what the process said last."""
    if (folder / records.RESULT).exists():
        return None
    state = records.read_json(folder / records.STATE)
    if state.get("state") == "failed" and state.get("reason"):
        return str(state["reason"])
    error = job.exception()
    lines = [line for line in str(error).splitlines() if line.strip()] or ["no result was written"]
    reason = lines[-1].strip()
    records.write_state(folder, "failed", reason=reason)
    return reason


def _folder(cell: PlannedCell) -> Path:
    assert cell.folder is not None
    return cell.folder


def queued(folder: Path) -> Iterator[str]:
    """The cells of a grid whose Slurm job is still pending or running, by the name of their folder."""
    path = folder / SUBMISSIONS
    if not path.exists():
        return
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    listed = subprocess.run(["squeue", "-h", "-r", "-o", "%F_%K %A"], capture_output=True, text=True, timeout=60)
    if listed.returncode:
        raise SetupError(f"squeue: {listed.stderr.strip()}: can't tell which cells are queued; try again")
    alive = set(listed.stdout.split())
    yield from (entry["cell"] for entry in entries if entry["job"] in alive)
