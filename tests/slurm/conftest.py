"""A Slurm of two nodes, for the tests of this folder that ask for `slurm`."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import DEV_CLUSTER, Slurm


@pytest.fixture(scope="package")
def slurm() -> Iterator[Slurm]:
    """A cluster of two nodes with one CPU each, without accounting."""
    check = subprocess.run([DEV_CLUSTER, "check"], capture_output=True, text=True)
    if check.returncode:
        reason = f"NOT TESTED ON SLURM: {' '.join(check.stderr.split())}"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must test on Slurm. {reason}")
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="clef-jobs-", dir="/tmp"))  # the paths of Unix sockets must be short
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
    cluster = Slurm(folder, environment)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)
