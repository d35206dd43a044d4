"""A dev cluster as tests see it: start, stop, ask, wait."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.launch import tiny_grid

DEV_CLUSTER = tiny_grid.ROOT / "slurm/dev-cluster"
SETTINGS = {"CLEF_SLURM_CPUS": "1", "CLEF_SLURM_SACCT": "no"}
BUSY = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}


@dataclass(frozen=True)
class Slurm:
    """A cluster in a folder, and the environment that its commands run in."""

    folder: Path
    plain: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return {**self.plain, "SLURM_CONF": str(self.folder / "etc/slurm.conf")}

    def start(self) -> None:
        """Also again, for daemons that were killed."""
        command, environment = [DEV_CLUSTER, "start", self.folder], {**self.plain, **SETTINGS}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        subprocess.run([DEV_CLUSTER, "stop", self.folder], check=True, capture_output=True, env=dict(self.plain))

    def run(self, *command: str) -> str:
        """A command's output, once it has ended well."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sbatch(self, *words: str | Path) -> str:
        """Submit from the checkout, with this Python first on the PATH; the job's id."""
        path = f"{Path(sys.executable).parent}:{self.plain['PATH']}"
        done = subprocess.run(
            ["sbatch", "--parsable", *map(str, words)],
            cwd=tiny_grid.ROOT, env=self.environment | {"PATH": path}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def jobs(self, name: str) -> dict[str, dict[str, str]]:
        """What Slurm knows of each job whose name begins so, ended ones too, by array task (`3_0`) or job (`4`)."""
        shown = self.run("scontrol", "show", "job", "--oneliner")
        found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in shown.splitlines()]
        return {_label(job): job for job in found if job.get("JobName", "").startswith(name)}

    def ended(self, name: str, seconds: float = 200) -> dict[str, dict[str, str]]:
        """The same once none of them waits or runs."""
        self.wait(lambda: not {job["JobState"] for job in self.jobs(name).values()} & BUSY, f"{name} ended", seconds)
        return self.jobs(name)

    def wait(self, happened: Callable[[], Any], what: str, seconds: float = 100) -> None:
        """Until something has happened."""
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, f"not yet: {what}; {self.run('squeue')}"
            time.sleep(0.2)


def wrapped(cluster: Mapping[str, str], folder: Path, script: str) -> dict[str, str]:
    """A cluster's environment with another sbatch in front: a script, in which $real is the real one."""
    folder.mkdir()
    (folder / "sbatch").write_text(f"#!/bin/sh\nreal={shutil.which('sbatch')}\n{script}\n")
    (folder / "sbatch").chmod(0o755)
    return dict(cluster) | {"PATH": f"{folder}:{cluster['PATH']}"}


def _label(job: Mapping[str, str]) -> str:
    return f"{job['ArrayJobId']}_{job['ArrayTaskId']}" if "ArrayJobId" in job else job["JobId"]
