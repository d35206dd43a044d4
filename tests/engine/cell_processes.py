"""Runs of `python -m clef.train` in processes of their own, which real signals reach.

They are forked from a server that has imported torch already: a run costs a second instead of ten.
"""

import json
import multiprocessing
import os
import random
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from clef.engine import atomic_dir
from clef.yaml_config import merge, nest
from tests.conftest import TINY, TINY_METHOD
from tests.faults import Fault, install

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["clef.engine.run", "clef.train", "sklearn.metrics"])
NOT_EXACT = {"images_per_s", "data_wait", "memory_gb"}
"""What a log line says of speed."""


class Runs:
    """Runs of one cell, whose config is written to `base`; `out` names where each line of runs leaves its files."""

    def __init__(self, base: Path, shards: Path, method: str = "clef", **settings: Any) -> None:
        self.base = base
        base.mkdir(parents=True, exist_ok=True)
        runtime = {
            "shards": str(shards), "features": str(base / "features"), "num_workers": 0, "log_every": 4,
            "checkpoint_every": 3, "keep_checkpoints": True, "checkpoint_minutes": 0,
        }  # fmt: skip
        layer = {"dataset": "caer_s_demo", "epochs": 2, "batch_size": 16, "runtime": runtime}
        cell = merge(layer, TINY["emot_net"], TINY_METHOD[method], nest({"optimizer.lr": 0.03, **settings}))
        self.config = base / "cell.yaml"
        self.config.write_text(yaml.safe_dump(cell))

    def start(self, out: str, *arguments: str, ranks: int = 1, faults: Sequence[Fault] = ()) -> list[ForkServerProcess]:
        """Start a process for each rank. `arguments` are those of the command line."""
        port = _free_port()
        started = []
        for rank in range(ranks):
            several = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "localhost"}
            environment = {key: str(value) for key, value in (several | {"MASTER_PORT": port}).items()}
            command = ["--config", str(self.config), f"runtime.output_dir={self.base / out}", *arguments]
            said = self.base / f"{out}.{rank}.txt"
            process = _context.Process(
                target=_train, args=(command, environment if ranks > 1 else {}, str(said), faults)
            )
            process.start()
            started.append(process)
        return started

    def run(self, out: str, *arguments: str, ranks: int = 1, faults: Sequence[Fault] = ()) -> list[int | None]:
        """Run to the end; return the exit code of each rank, negative for a signal."""
        return ends(self.start(out, *arguments, ranks=ranks, faults=faults))

    def said(self, out: str, rank: int = 0) -> str:
        """All that a rank has said so far, in one line."""
        return " ".join((self.base / f"{out}.{rank}.txt").read_text().split())

    def cell(self, out: str) -> Path:
        """The folder of the cell."""
        [folder] = (self.base / out / "single").iterdir()
        return folder

    def state(self, out: str) -> dict[str, Any]:
        """What its state file says."""
        content: dict[str, Any] = json.loads((self.cell(out) / "state.json").read_text())
        return content


def ends(processes: Sequence[ForkServerProcess], seconds: float = 200) -> list[int | None]:
    """Wait for them: their exit codes."""
    for process in processes:
        process.join(seconds)
        if process.is_alive():
            process.kill()
            raise AssertionError(f"still running after {seconds} s")
    return [process.exitcode for process in processes]


def everything(folder: Path) -> dict[str, Any]:
    """All that a finished run leaves and that a broken one must leave too, to the bit."""
    newest = atomic_dir.complete(folder / "checkpoints")[-1]
    assert atomic_dir.verify(newest) is None
    progress = json.loads((newest / "progress.json").read_text())
    del progress["log_bytes"]  # lines tell speeds, which have more digits or fewer
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    result = json.loads((folder / "result.json").read_text())
    ranks = sorted(newest.glob("rank-*.pt"))
    return {
        "checkpoint": newest.name,
        "weights": (newest / "model.safetensors").read_bytes(),
        "best": (folder / "checkpoints" / "best.safetensors").read_bytes(),
        "optimizer": torch.load(newest / "optimizer.pt", weights_only=True),
        "ranks": [torch.load(path, weights_only=True) for path in ranks],
        "progress": progress,
        "log": [{key: value for key, value in line.items() if key not in NOT_EXACT} for line in log],
        "result": {key: result[key] for key in ("splits", "val", "best_epoch", "steps")},
        "predictions": {
            path.name: {key: value.tobytes() for key, value in np.load(path, allow_pickle=False).items()}
            for path in sorted(folder.glob("predictions-*.npz"))
        },
    }


Unbroken = Callable[[int], tuple[Runs, dict[str, Any]]]
"""Called with a number of ranks: runs of a cell on so many, and all that an unbroken one left (`everything`)."""


def unbroken_runs(folders: pytest.TempPathFactory, shards: Path, **settings: Any) -> Unbroken:
    """Return a function that trains a cell without a break, once for each number of ranks."""

    @cache
    def train(ranks: int) -> tuple[Runs, dict[str, Any]]:
        runs = Runs(folders.mktemp(f"ranks-{ranks}"), shards, **settings)
        assert runs.run("unbroken", ranks=ranks) == [0] * ranks, runs.said("unbroken")
        return runs, everything(runs.cell("unbroken"))

    return train


def _train(arguments: list[str], environment: dict[str, str], said: str, injected: Sequence[Fault]) -> None:
    from clef import train
    from clef.errors import run_command

    if injected:
        install(*injected)

    multiprocessing.set_start_method("fork", force=True)  # as in a process that a user starts, not as this one was
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.environ.update(environment)
    sys.argv = ["clef.train", *arguments]
    run_command(train.main)


def _free_port() -> int:
    """Below those that the system gives to whoever asks for any, until it is taken."""
    for port in random.SystemRandom().sample(range(12_000, 32_000), 50):
        with socket.socket() as one, suppress(OSError):
            one.bind(("localhost", port))
            return port
    raise OSError("no free port")
