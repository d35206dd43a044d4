"""What is said of cells whose real Slurm jobs ended in every way there is, with accounting and without."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from clef.cells import records
from clef.cells.plan_file import PlannedRun, write_plan
from launch.ledger import SUBMISSIONS, Submission
from launch.status import find_cancelled, note_cancelled
from tests.launch import tiny_grid

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm"), pytest.mark.timeout(900)]
DEV_CLUSTER = tiny_grid.ROOT / "slurm/dev-cluster"
CELLS = ("runs", "fails", "killed", "cancelled", "wordless", "done", "waits", "dropped", "left", "child")
"""What becomes of each; all but the last are tasks of one array, of which five run at the same time."""
SCRIPT = """#!/bin/bash
#SBATCH --array=0-8%5
#SBATCH --output={grid}/slurm/tag/%A_%a_0_log.out
#SBATCH --error={grid}/slurm/tag/%A_%a_0_log.err
folder=({folders}); cd {grid}/${{folder[$SLURM_ARRAY_TASK_ID]}}
say() {{ printf '{{"state": "%s", "step": 3, "steps": 9, "updated": %s%s}}' "$1" "$(date +%s)" "$2" >state.json; }}
export -f say
case $SLURM_ARRAY_TASK_ID in
0) say running; echo '{{"step": 3}}' >log.jsonl; srun sleep 200;;
1) say failed ', "reason": "non-finite loss"'; exit 6;;
2) srun bash -c 'say running; kill -9 $$';;
3) trap 'say preempted; exit 75' TERM; say running; sleep 200 & wait;;
4) echo 'no such module' >&2; exit 1;;
5) echo '{{}}' >result.json;;
*) srun sleep 200;;
esac
"""


@pytest.fixture(scope="module", params=["no accounting", "accounting"])
def cluster(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Points this process at a cluster of its own; whether it has accounting."""
    accounting = request.param == "accounting"
    check = subprocess.run([DEV_CLUSTER, "check"], capture_output=True, text=True)
    lacks = [
        name for name in ("slurmdbd", "mariadbd") if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    ]
    if check.returncode or (accounting and lacks):
        what = "WITH ACCOUNTING" if accounting else "ON SLURM"
        reason = f"NOT TESTED {what}: {' '.join(check.stderr.split()) or f'missing: {lacks}'}"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must test on Slurm. {reason}")
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="clef-slurm-", dir="/tmp"))  # the paths of Unix sockets must be short
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
            patch.delenv(name)
        patch.setenv("CLEF_SLURM_SACCT", "yes" if accounting else "no")
        try:
            subprocess.run([DEV_CLUSTER, "start", folder], check=True, capture_output=True)
            patch.setenv("SLURM_CONF", str(folder / "etc/slurm.conf"))
            yield accounting
        finally:
            subprocess.run([DEV_CLUSTER, "stop", folder], check=True, capture_output=True)
            shutil.rmtree(folder)


@pytest.fixture
def grid(tmp_path: Path, cluster: bool) -> Path:
    """A grid whose cells were submitted as the launcher does: an array, and a job behind the task that fails."""
    grid = tmp_path / "runs/ends"
    folders = [f"{cell}-0123456789abcdef" for cell in CELLS]
    write_plan(
        tmp_path / "runs", "ends", [PlannedRun(c, "d", "b", "m", 0, f) for c, f in zip(CELLS, folders, strict=True)]
    )
    for folder in (*folders, "slurm/tag"):
        (grid / folder).mkdir(parents=True)
    script = tmp_path / "array.sh"
    script.write_text(SCRIPT.format(grid=grid, folders=" ".join(folders)))
    array = sbatch(script)
    child = sbatch(f"--dependency=afterok:{array}_1", "--kill-on-invalid-dep=yes", "--output=/dev/null", "--wrap=true")
    for tag, cells, job in (("clef-ends-1", folders[:-1], array), ("clef-ends-2", folders[-1:], child)):
        submission = Submission(
            tag=tag, kind="cells", cells=cells, array=len(cells) > 1, job=job, created="2026-01-01T00:00:00"
        )
        records.write_json(grid / SUBMISSIONS / f"{tag}.json", asdict(submission))
    return grid


def sbatch(*arguments: object) -> str:
    done = subprocess.run(["sbatch", "--parsable", *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def launcher(grid: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, tiny_grid.ROOT / "launch/grid.py", "--grid", "ends.yaml", *arguments]
    return subprocess.run(
        command, cwd=grid.parents[1], env=os.environ | environment, capture_output=True, text=True, timeout=240
    )


def status(grid: Path, **environment: str) -> dict[str, dict[str, Any]]:
    done = launcher(grid, "--status", "--json", **environment)
    assert done.returncode == 0, done.stderr
    return {cell["name"]: cell for cell in json.loads(done.stdout)["cells"]}


def until(fits: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not fits():
        assert time.monotonic() < end
        time.sleep(0.3)


def squeue(task: str) -> str:
    command = ["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={task}"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def forgetful(folder: Path) -> dict[str, str]:
    """A PATH on which squeue knows only of jobs that wait or run, as when MinJobAge is over for the others."""
    folder.mkdir()
    real = shutil.which("squeue")
    (folder / "squeue").write_text(f'#!/bin/bash\nexec {real} "${{@/--states=all/--states=PENDING,RUNNING}}"\n')
    (folder / "squeue").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_every_end_is_told_by_its_name(cluster: bool, grid: Path, tmp_path: Path) -> None:
    array = json.loads((grid / SUBMISSIONS / "clef-ends-1.json").read_text())["job"]
    until(lambda: (grid / f"{CELLS[5]}-0123456789abcdef" / "result.json").exists())
    child = json.loads((grid / SUBMISSIONS / "clef-ends-2.json").read_text())["job"]
    until(lambda: {squeue(f"{array}_{task}") for task in (3, 6, 7)} == {"RUNNING"})
    until(lambda: squeue(child) == "CANCELLED")
    until(lambda: records.read_json(grid / "cancelled-0123456789abcdef/state.json").get("state") == "running")
    done = launcher(grid, "--cancel", "left", "--yes")
    assert (done.returncode, done.stdout) == (0, "cancelled: 1 cell; --retry-failed trains them again\n"), done.stderr
    subprocess.run(["scancel", f"{array}_3"], check=True)
    until(lambda: squeue(f"{array}_3") == "CANCELLED")
    (grid / "scheduler.json").unlink()

    found = status(grid)
    expected = {
        "runs": "running", "fails": "failed", "killed": "died", "cancelled": "cancelled", "wordless": "died",
        "done": "done", "waits": "starting", "dropped": "starting", "left": "cancelled", "child": "new",
    }  # fmt: skip
    assert {name: cell["state"] for name, cell in found.items()} == expected
    assert found["runs"]["node"] in ("node1", "node2")
    assert (found["runs"]["step"], found["runs"]["steps"], found["runs"]["stuck"]) == (3, 9, False)
    assert found["runs"]["quiet_s"] < 300
    assert found["fails"]["error"] == "non-finite loss"
    assert found["killed"]["error"].startswith("FAILED (NonZeroExitCode); srun: error: ")
    assert "Killed" in found["killed"]["error"]
    assert found["wordless"]["error"] == "FAILED (NonZeroExitCode); no such module"
    assert found["cancelled"]["error"] == "CANCELLED"
    assert found["left"]["error"].startswith("by ")

    without_memory = status(grid, **forgetful(tmp_path / "bin"))
    assert {name: cell["state"] for name, cell in without_memory.items()} == expected, "what was seen is kept"
    (grid / "scheduler.json").unlink()
    again = status(grid, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert again["killed"]["state"] == again["wordless"]["state"] == "died"
    if cluster:
        assert {name: cell["state"] for name, cell in again.items()} == expected, "accounting remembers"
        assert again["wordless"]["error"] == "FAILED; no such module"
        assert again["cancelled"]["error"].startswith("CANCELLED (by ")

    note_cancelled(grid, find_cancelled(grid))
    noted = {path.parent.name.partition("-")[0] for path in grid.glob("*/cancelled.json")}
    assert noted == {"cancelled", "left"}
    subprocess.run(["scancel", array], check=True)


def test_a_task_that_is_cancelled_before_it_begins_is_cancelled_though_slurm_forgets_it(
    cluster: bool, grid: Path
) -> None:
    array = json.loads((grid / SUBMISSIONS / "clef-ends-1.json").read_text())["job"]
    subprocess.run(["scancel", f"{array}_8"], check=True)
    until(lambda: squeue(f"{array}_0") == "RUNNING")
    until(lambda: squeue(f"{array}_8") in ("", "CANCELLED"))
    assert status(grid)["left"]["state"] == "cancelled"
    note_cancelled(grid, find_cancelled(grid))
    assert (grid / "left-0123456789abcdef" / records.CANCELLED).exists()
    subprocess.run(["scancel", array], check=True)
