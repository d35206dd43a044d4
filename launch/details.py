"""What the folders of cells say besides their state: progress, signs of life, and why a cell doesn't run."""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from clef.cells import attempts, records
from launch.known import ending
from launch.options import STUCK
from launch.outputs import last_line, outputs
from launch.scheduler import Job
from launch.status import CellStatus, Overview


def detailed(overview: Overview, cells: Iterable[CellStatus], stuck: float = STUCK) -> list[CellStatus]:
    """These cells with all that their folders say. `stuck`: minutes without a word."""
    now = time.time()
    return [_detailed(overview, cell, stuck, now) for cell in cells]


def _detailed(overview: Overview, cell: CellStatus, stuck: float, now: float) -> CellStatus:
    if cell.folder is None or cell.state == "new":
        return cell
    folder, job = overview.path / cell.folder, overview.jobs.get(cell.folder)
    told = records.said(folder)
    facts: dict[str, Any] = {
        key: getattr(told, key) for key in ("epoch", "epochs", "step", "steps", "metric", "images_per_s")
    }
    cell = replace(
        cell, attempt=len(attempts.read(folder)) or None, node=(job.node if job else None) or told.host, **facts
    )
    if cell.state not in ("running", "starting"):
        return replace(cell, images_per_s=None, error=_error(overview, cell, told.reason, job))
    quiet = _quiet(folder, job, now, overview.known.answered)
    return replace(
        cell,
        quiet_s=quiet,
        stuck=quiet is not None and quiet > 60 * stuck,
        left_s=None if told.left_s is None else max(0.0, told.left_s - (now - told.updated)),
    )


def _quiet(folder: Path, job: Job | None, now: float, answered: float) -> float | None:
    """Seconds since the cell's last word, or since its job began, if that was later."""
    ages = [now - path.stat().st_mtime for name in (records.LOG, records.STATE) if (path := folder / name).exists()]
    if job and job.running:
        ages.append(job.seconds + now - answered)
    return max(0.0, min(ages)) if ages else None


def _error(overview: Overview, cell: CellStatus, reason: str | None, job: Job | None) -> str | None:
    if cell.state in ("done", "queued", "stopped"):
        return None
    if cell.state == "cancelled" and (by := records.read_json(overview.path / str(cell.folder) / records.CANCELLED)):
        return f"by {by.get('by')}"
    if reason and cell.state in ("failed", "preempted", "died", "cancelled"):
        return reason
    words = [] if job is None or job.active else [ending(job)]
    if cell.state == "died" and (said := last_line(outputs(overview.path, str(cell.folder), cell.job))):
        words.append(said)
    return "; ".join(words) or None
