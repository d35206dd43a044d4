"""Where a number comes from: what is recorded of the machine, the code and the data, and of the run itself.

`environment.json` says it of the process that trains; a cell that was broken off keeps what it said of the earlier
ones, in brief. `result.json` holds both, and what the whole run took.
"""

import os
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from clef import io, weights
from clef.cells import attempts, code_snapshot, records
from clef.cells.identity import content_of
from clef.config import CellConfig
from clef.data.manifest import Manifest
from clef.engine import distributed

_SESSION = ("started", "from_step", "command", "host", "slurm", "code", "device", "ranks", "threads", "dtype")
"""What stays of an earlier process of a cell."""
_MATTERS = (
    "code", "python", "packages", "cpu", "device", "cuda", "cudnn", "determinism", "ranks", "threads", "dtype",
    "protocol", "content",
)  # fmt: skip
"""What may move a score, were it only by a bit."""
_SLURM = {
    "job": "SLURM_JOB_ID",
    "array_job": "SLURM_ARRAY_JOB_ID",
    "array_task": "SLURM_ARRAY_TASK_ID",
    "node": "SLURMD_NODENAME",
    "restarts": "SLURM_RESTART_COUNT",
}


def facts(config: CellConfig, manifest: Manifest, accelerator: Accelerator) -> dict[str, Any]:
    """The ranks, the device, the code and the data of this process."""
    on_gpu = accelerator.device.type == "cuda"
    return records.environment() | {
        "started": now(),
        "snapshot": os.environ.get(code_snapshot.CODE),
        "command": shlex.join(sys.orig_argv),
        "slurm": _slurm(),
        "ranks": accelerator.num_processes,
        "distributed": str(accelerator.distributed_type.value),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "threads": torch.get_num_threads(),
        "determinism": _determinism(),
        "mixed_precision": config.mixed_precision,
        "dtype": distributed.resolved(accelerator),
        "shards": manifest.source,
        "protocol": manifest.protocol,
        "content": content_of(config, manifest),
    }


def session(folder: Path, config: CellConfig, manifest: Manifest, accelerator: Accelerator) -> dict[str, Any]:
    """The facts of a process that begins to train a cell, or goes on with it: `earlier` ones are kept in brief.

    Called before anything else is written to the folder: the last line of its log tells how long the process before
    was alive.
    """
    started_from = {"weights": weights.hashes(config)}
    return facts(config, manifest, accelerator) | started_from | {"earlier": _earlier(folder)}


def run(recorded: dict[str, Any], samples: int, folder: Path, scored: Path) -> dict[str, Any]:
    """What a finished run took, over all its processes. `scored`: the weights, below `folder`, that were tested.

    Seconds count everything: start-up, validation, checkpoints, tests; not the time between two processes.
    """
    ended = now()
    seconds = _seconds(recorded["started"], ended)
    seconds += sum(_seconds(past["started"], past["last_seen"]) for past in recorded["earlier"])
    return {
        "started": [*recorded["earlier"], recorded][0]["started"],
        "ended": ended,
        "wall_seconds": seconds,
        "samples_seen": samples,
        "images_per_s": round(samples / max(seconds, 1e-3), 1),
        "checkpoint": {"file": str(scored.relative_to(folder)), "sha256": io.sha256(scored)},
    }


def differences(recorded: dict[str, Any], found: dict[str, Any]) -> dict[str, list[Any]]:
    """What may move a score and isn't as recorded: its name, what was recorded, and what is found."""
    before, after = (_flat({key: side.get(key) for key in _MATTERS}) for side in (recorded, found))
    keys = sorted(before.keys() | after.keys())
    return {key: [before.get(key), after.get(key)] for key in keys if before.get(key) != after.get(key)}


def now() -> str:
    """The time, UTC, ISO 8601."""
    return _iso(datetime.now(timezone.utc))


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _seconds(start: str, end: str) -> float:
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 3)


def _earlier(folder: Path) -> list[dict[str, Any]]:
    """The processes before this one, oldest first, each with when it was last seen: its last line in the log."""
    before = records.read_json(folder / records.ENVIRONMENT)
    if "started" not in before:
        return []
    seen, log = before["started"], folder / records.LOG
    if log.exists():
        seen = max(seen, _iso(datetime.fromtimestamp(log.stat().st_mtime, timezone.utc)))
    brief = {key: before.get(key) for key in _SESSION}
    brief |= {"torch": before["packages"].get("torch"), "last_seen": seen, "how": _how(folder, before.get("slurm"))}
    return [*before.get("earlier", []), brief]


def _how(folder: Path, job: dict[str, str] | None) -> str | None:
    """How the Slurm job's attempt ended in which an earlier process ran; None where it has not said."""
    if not job:
        return None
    task = f"{job['array_job']}_{job['array_task']}" if "array_task" in job else job["job"]
    ends = {(past.job, past.restart): past.how for past in attempts.read(folder)}
    return ends.get((task, int(job.get("restarts", 0))))


def _slurm() -> dict[str, str] | None:
    """The Slurm job that this runs in, if any."""
    found = {name: os.environ[variable] for name, variable in _SLURM.items() if variable in os.environ}
    return found if "job" in found else None


def _determinism() -> dict[str, Any]:
    """How torch is set to compute, as it reports it itself."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return {
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": cudnn.deterministic,
        "cudnn_benchmark": cudnn.benchmark,
        "tf32_matmul": cuda.fp32_precision,
        "tf32_conv": cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
    }


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return result
