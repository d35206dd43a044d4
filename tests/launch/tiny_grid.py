"""Writes grids of tiny cells and runs the launcher on them, as a user would."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import TINY, TINY_METHOD

ROOT = Path(__file__).parents[2]
AXES: dict[str, list[Any]] = {
    "datasets": ["emotic_demo", "caer_s_demo"],
    "backbones": ["emot_net", "caer_net"],
    "methods": ["vanilla", "clef"],
    "seeds": [0],
}


def write(
    path: Path,
    *overrides: dict[str, Any],
    exclude: Sequence[dict[str, Any]] = (),
    presets: Mapping[str, Any] | None = None,
    **axes: list[Any],
) -> Path:
    """A grid file: one epoch of tiny networks on one CPU, with the axes above where no others are given."""
    axes = AXES | axes
    behind = {preset["method"] for preset in (presets or {}).values()} | set(axes["methods"])
    settings = {
        "epochs": 1,
        "batch_size": 32,
        "resources": {"gpus": 0, "cpus": 1, "memory_gb": 1, "hours": 1},
        "runtime": {"num_workers": 0},
    }
    tiny = [
        {"set": settings},
        *({"where": {"backbone": name}, "set": TINY[name]} for name in axes["backbones"]),
        *({"where": {"method": name}, "set": TINY_METHOD[name]} for name in TINY_METHOD if name in behind),
    ]
    path.write_text(
        yaml.safe_dump(
            {**axes, "presets": dict(presets or {}), "exclude": list(exclude), "overrides": [*tiny, *overrides]}
        )
    )
    return path


def launch(
    grid: Path, shards: Path, base: Path, *arguments: str, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """`python launch/grid.py` on this grid, with everything that it writes below `base`."""
    places = ["--grid", grid, "--shards", shards, "--out", base / "runs", "--results", base / "results"]
    return subprocess.run(
        [sys.executable, ROOT / "launch/grid.py", *arguments, *map(str, places)],
        cwd=base, env=dict(environment), capture_output=True, text=True, timeout=400,
    )  # fmt: skip


def results(base: Path, grid: str) -> dict[str, Path]:
    """The result files of a grid's finished cells, by cell name."""
    found = (base / "runs" / grid).glob("*/result.json")
    return {path.parent.name.rpartition("-")[0]: path for path in found}


def change_times(base: Path, grid: str) -> dict[str, int]:
    """When each result was written, by cell name."""
    return {name: path.stat().st_mtime_ns for name, path in results(base, grid).items()}


def cut_short(shards: Path, target: Path, dataset: str) -> Path:
    """A copy of these shards in `target` in which the training tar of one dataset is cut short. Returns that tar."""
    for folder in shards.iterdir():
        if folder.name != dataset:
            (target / folder.name).symlink_to(folder)
            continue
        (target / dataset).mkdir()
        for file in folder.iterdir():
            (target / dataset / file.name).write_bytes(file.read_bytes())
    tar = target / dataset / "train-000000.tar"
    os.truncate(tar, tar.stat().st_size // 2)
    return tar
