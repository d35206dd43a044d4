"""Where a number comes from: what is recorded of the machine, the code and the data, and of the run itself.

`environment.json` describes the process that trains, and in brief the earlier ones of a cell that was interrupted.
`result.json` holds both, and what the whole run took.
"""

import os
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from clef import weights
from clef.cells import attempts, code_snapshot, records
from clef.cells.identity import content_of
from clef.config import CellConfig
from clef.data.manifest import Manifest
from clef.engine import distributed, variables

_KEPT_OF_EARLIER = (
    "started", "from_step", "command", "host", "slurm", "code", "device", "ranks", "threads", "variables", "dtype",
)  # fmt: skip
"""What stays of an earlier process of a cell, besides how it ended."""
_MAY_MOVE_SCORES = (
    "code", "python", "packages", "cpu", "device", "cuda", "cudnn", "determinism", "ranks", "threads", "variables",
    "dtype", "protocol", "content",
)  # fmt: skip
"""What may move a score, were it only by a bit."""
_SLURM_VARIABLES = {
    "job": "SLURM_JOB_ID",
    "array_job": "SLURM_ARRAY_JOB_ID",
    "array_task": "SLURM_ARRAY_TASK_ID",
    "node": "SLURMD_NODENAME",
    "restarts": "SLURM_RESTART_COUNT",
}


def process_facts(config: CellConfig, manifest: Manifest, accelerator: Accelerator) -> dict[str, Any]:
    """Return the facts of this process: its ranks, device, code and data."""
    on_gpu = accelerator.device.type == "cuda"
    return records.environment() | {
        "started": utc_now(),
        "snapshot": os.environ.get(code_snapshot.CODE),
        "command": shlex.join(sys.orig_argv),
        "slurm": _slurm(),
        "ranks": accelerator.num_processes,
        "distributed": str(accelerator.distributed_type.value),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "threads": torch.get_num_threads(),
        "variables": variables.recorded(),
        "determinism": _determinism(),
        "mixed_precision": config.mixed_precision,
        "dtype": distributed.matmul_dtype(accelerator),
        "shards": manifest.source,
        "protocol": manifest.protocol,
        "content": content_of(config, manifest),
    }


def session_record(folder: Path, config: CellConfig, manifest: Manifest, accelerator: Accelerator) -> dict[str, Any]:
    """Return the facts of a process that begins to train a cell, or continues it, with `earlier` ones in brief.

    Call it before anything else is written to the folder: the last line of its log says how long the process before
    was alive.
    """
    facts = process_facts(config, manifest, accelerator)
    return facts | {"weights": weights.hashes(config), "earlier": _earlier_sessions(folder)}


def run_record(session: dict[str, Any], samples: int, scored: dict[str, str | None]) -> dict[str, Any]:
    """Return what a finished run took, over all its processes.

    `scored`: the weights that were tested, their sha256 and their file below the cell's folder, if it keeps them.
    Seconds count everything: start-up, validation, checkpoints, tests; not the time between two processes.
    """
    ended = utc_now()
    seconds = _seconds_between(session["started"], ended)
    seconds += sum(_seconds_between(past["started"], past["last_seen"]) for past in session["earlier"])
    return {
        "started": [*session["earlier"], session][0]["started"],
        "ended": ended,
        "wall_seconds": seconds,
        "samples_seen": samples,
        "images_per_s": round(samples / max(seconds, 1e-3), 1),
        "checkpoint": scored,
    }


def differences(recorded: dict[str, Any], current: dict[str, Any]) -> dict[str, list[Any]]:
    """Return what may move a score and isn't as recorded: by its name, what was recorded, and what is now."""
    before, after = (_flat({key: side.get(key) for key in _MAY_MOVE_SCORES}) for side in (recorded, current))
    keys = sorted(before.keys() | after.keys())
    return {key: [before.get(key), after.get(key)] for key in keys if before.get(key) != after.get(key)}


def utc_now() -> str:
    """Return the time, UTC, ISO 8601."""
    return _iso(datetime.now(timezone.utc))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _seconds_between(start: str, end: str) -> float:
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 3)


def _earlier_sessions(folder: Path) -> list[dict[str, Any]]:
    """Return the processes before this one, oldest first, each with when it was last seen: its last line in the log."""
    before = records.read_json(folder / records.ENVIRONMENT)
    if "started" not in before:
        return []
    seen, log = before["started"], folder / records.LOG
    if log.exists():
        seen = max(seen, _iso(datetime.fromtimestamp(log.stat().st_mtime, timezone.utc)))
    brief = {key: before.get(key) for key in _KEPT_OF_EARLIER}
    brief |= {
        "torch": before["packages"].get("torch"),
        "last_seen": seen,
        "how": _how_job_ended(folder, before.get("slurm")),
    }
    return [*before.get("earlier", []), brief]


def _how_job_ended(folder: Path, job: dict[str, str] | None) -> str | None:
    """Return how the Slurm job's attempt ended in which an earlier process ran; None where none was recorded."""
    if not job:
        return None
    task = f"{job['array_job']}_{job['array_task']}" if "array_task" in job else job["job"]
    ends = {(past.job, past.restart): past.how for past in attempts.read(folder)}
    return ends.get((task, int(job.get("restarts", 0))))


def _slurm() -> dict[str, str] | None:
    """Return the Slurm job that this runs in, if any."""
    job = {name: os.environ[variable] for name, variable in _SLURM_VARIABLES.items() if variable in os.environ}
    return job if "job" in job else None


def _determinism() -> dict[str, Any]:
    """Return how torch is set to compute, as it reports it itself."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return {
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": cudnn.deterministic,
        "cudnn_benchmark": cudnn.benchmark,
        "tf32_matmul": cuda.fp32_precision,
        "tf32_conv": cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
    }


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined by dots."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result
