"""Trains a plan's cells in processes of this machine."""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import submitit

from clef import records
from clef.engine.task import TrainCell
from launch import snapshot
from launch.plan import PlannedCell
from launch.prepare import folder_of, prepare


def train(
    cells: list[PlannedCell], logs: Path, at_once: int, show: Callable[[dict[Path, str]], None]
) -> dict[Path, str]:
    """Train the cells in processes of this machine, at most `at_once` at a time. Returns why cells failed.

    A cell that fails doesn't stop the others. `show` is called twice a second with the state of every cell.
    """
    waiting = list(cells)
    running: dict[submitit.Job[str], tuple[PlannedCell, int]] = {}
    failed: dict[Path, str] = {}
    states = {folder_of(cell): "waiting" for cell in cells}
    slots = set(range(at_once))
    threads = max(1, (os.cpu_count() or 1) // at_once)
    python = snapshot.python(snapshot.take(logs.parent, [cell.config for cell in cells]))
    try:
        while waiting or running:
            while slots and (cell := _next(waiting, [cell for cell, _ in running.values()])):
                waiting.remove(cell)
                slot = slots.pop()
                running[_start(cell, logs, slot, threads, python)] = (cell, slot)
                states[folder_of(cell)] = "running"
            for job in [job for job in running if job.done()]:
                cell, slot = running.pop(job)
                slots.add(slot)
                reason = _failure(job, folder_of(cell))
                states[folder_of(cell)] = "failed" if reason else "done"
                if reason:
                    failed[folder_of(cell)] = reason
            show(states)
            time.sleep(0.5)
    finally:
        for job in running:  # Ctrl-C: what was saved is gone on with next time
            job.cancel()
    return failed


def _next(waiting: list[PlannedCell], running: list[PlannedCell]) -> PlannedCell | None:
    """The first cell whose parent, if it has one, is neither waiting nor running."""
    busy = {folder_of(cell) for cell in waiting + running}
    return next((cell for cell in waiting if cell.parent not in busy), None)


def _start(cell: PlannedCell, logs: Path, slot: int, threads: int, python: str) -> submitit.Job[str]:
    executor = submitit.LocalExecutor(folder=logs, python=python)
    gpus = cell.config.resources.gpus
    first = slot * gpus
    executor.update_parameters(
        timeout_min=math.ceil(cell.config.resources.hours * 60),
        tasks_per_node=max(1, gpus),
        gpus_per_node=gpus,
        visible_gpus=tuple(range(first, first + gpus)),
    )
    return executor.submit(TrainCell(), prepare(cell, threads))


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
