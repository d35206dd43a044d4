"""What is shown of a process's end, from stderr as shells, Python and a real Slurm (22.05) write it."""

from pathlib import Path

import pytest

from launch import job_output, status
from launch.job_output import last_error
from tests.launch.status_grid import Slurm, details, planned, submitted

EXITED = "srun: error: node1: task 0: Exited with exit code 2\n"
OVER = "srun: launch/slurm: _step_signal: Terminating StepId=15.0\n"
STEP_CANCELLED = "slurmstepd-node1: error: *** STEP 15.0 ON node1 CANCELLED AT 2026-11-30T23:23:47 ***\n"
TERMINATED = "srun: error: node1: task 0: Terminated\nsrun: Force Terminated StepId=15.0\n"
TRACEBACK = """Traceback (most recent call last):
  File "x.py", line 1, in <module>
    go()
RuntimeError: CUDA error: device-side assert triggered
CUDA kernel errors might be asynchronously reported at some other API call.
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("slurm_script: 4: cd: can't cd to /nope\n", "slurm_script: 4: cd: can't cd to /nope"),
        ("bash: line 1: cd: /nope: No such file or directory\n" + EXITED + OVER + STEP_CANCELLED + TERMINATED,
         "bash: line 1: cd: /nope: No such file or directory"),
        ("bash: /opt/env/bin/python: Permission denied\n" + EXITED, "bash: /opt/env/bin/python: Permission denied"),
        ("FileNotFoundError: no such file\n" + EXITED + OVER, "FileNotFoundError: no such file"),
        ("UserWarning: error bars are left out\nKilled\n", "UserWarning: error bars are left out; Killed"),
        ("loading\nsrun: error: node1: task 0: Bus error\n" + OVER, "loading; srun: error: node1: task 0: Bus error"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=5.0.\n" + TERMINATED,
         "slurmstepd: error: Detected 1 oom_kill event in StepId=5.0."),
        (TRACEBACK + EXITED,
         "RuntimeError: CUDA error: device-side assert triggered; "
         "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."),
        ("Illegal instruction (core dumped)\n", "Illegal instruction (core dumped)"),
        ("x.py:3: UserWarning: 3 leaked semaphores\n  warnings.warn(\n", "x.py:3: UserWarning: 3 leaked semaphores"),
        ("slurmstepd: error: *** JOB 7 ON n CANCELLED AT 2026-11-30T23:23:02 DUE TO PREEMPTION ***\n"
         "sh: 4: cd: can't cd to /nope\n" + EXITED, "sh: 4: cd: can't cd to /nope"),
        (EXITED, EXITED.strip()),
        (OVER, OVER.strip()),
    ],
)  # fmt: skip
def test_the_cause_is_shown_whatever_its_words(said: str, shown: str, tmp_path: Path) -> None:
    path = tmp_path / "12_0_log.err"
    path.write_text(said)
    assert last_error([path]) == shown


def test_output_without_read_access_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    assert last_error([tmp_path / "12_0_log.err"]) is None
    monkeypatch.setattr(Path, "open", refuse)
    assert job_output.last_lines(tmp_path / "12_0_log.err", 1) == ["(can't be read: Permission denied)"]


def test_it_follows_slurms_reason(slurm: Slurm, tmp_path: Path) -> None:
    grid = planned(tmp_path, "c")
    submitted(grid, "12", "c", array=False)
    (grid / "slurm/tag").mkdir(parents=True)
    said = "loading\nsrun: error: node1: task 0: Out Of Memory\nsrun: Force Terminated StepId=5.0\n"
    (grid / "slurm/tag/12_0_log.err").write_text(said)
    assert details(grid, "c").error == "TIMEOUT (TimeLimit); loading; srun: error: node1: task 0: Out Of Memory"
    assert status.read_status(grid / "plan.json").counts == {"died": 1}
