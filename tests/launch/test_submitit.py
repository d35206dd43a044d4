"""What the launcher uses of submitit beyond its documented interface. An update that takes it away fails here first."""

import inspect
import pickle
from pathlib import Path

import pytest
import submitit
from submitit.core.utils import CommandFunction, JobPaths
from submitit.helpers import DelayedSubmission
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

from launch import job_output, slurm_commands
from tests.launch.fake_slurm import FakeSlurm

GONE = "submitit has changed its private interface: see launch/slurm_commands.py: write_script"


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> submitit.SlurmExecutor:
    monkeypatch.setenv("PATH", FakeSlurm.make(tmp_path / "slurm").path)
    return submitit.SlurmExecutor(folder=tmp_path / "jobs", python="the_python")


def test_an_executor_still_makes_the_text_of_a_script(executor: submitit.SlurmExecutor) -> None:
    for name in ("_make_submission_file_text", "_submitit_command_str", "parameters", "max_num_timeout", "folder"):
        assert hasattr(executor, name), f"{GONE} ({name})"
    assert list(inspect.signature(executor._make_submission_file_text).parameters) == ["command", "uid"], GONE
    assert executor._submitit_command_str.startswith("the_python -u -m submitit.core._submit "), GONE


def test_a_script_has_all_that_the_launcher_asks_for(executor: submitit.SlurmExecutor) -> None:
    executor.update_parameters(time=90, job_name="tag", setup=["module load x"], srun_args=["--own"])
    executor.update_parameters(array_parallelism=1)
    executor.parameters["additional_parameters"] = {"requeue": True, "nice": "5"}
    script = slurm_commands.write_script(executor, [(print, ("a",)), (print, ("b",))], array=True).read_text()
    lines = script.splitlines()
    stated = ["array=0-1%1", "job-name=tag", "time=90", "nice=5", "requeue", "open-mode=append", "signal=USR2@90"]
    for option in stated:
        assert f"#SBATCH --{option}" in lines, f"{GONE}: --{option}"
    output = f"#SBATCH --output={executor.folder}/%A_%a_0_log.out"
    assert output in lines, f"{GONE}: {output}"
    [srun] = [line for line in lines if line.startswith("srun ")]
    assert "--own" in srun, GONE
    assert "the_python -u -m submitit.core._submit" in srun, GONE
    assert lines.index("module load x") < lines.index(srun), GONE


def test_what_a_task_runs_lies_where_submitit_looks_for_it(executor: submitit.SlurmExecutor) -> None:
    """The script links `i.pkl` to the name below, which Slurm's ids make up."""
    executor.update_parameters(time=90)
    script = slurm_commands.write_script(executor, [(sorted, ([2, 1],))], array=False).read_text()
    submitted = JobPaths(executor.folder, "12_3").submitted_pickle
    assert submitted == executor.folder / "12_3_submitted.pkl", f"{GONE} (JobPaths.submitted_pickle)"
    assert '_submitted.pkl"' in script
    delayed = DelayedSubmission.load(executor.folder / "0.pkl")
    assert delayed.result() == [1, 2], f"{GONE} (DelayedSubmission)"
    with (executor.folder / "0.pkl").open("rb") as file:
        assert isinstance(pickle.load(file), DelayedSubmission)


def test_logs_lie_where_they_are_looked_for(tmp_path: Path) -> None:
    for job, folder in (("12_3", tmp_path / "slurm/tag"), ("4711", tmp_path / "local/cell")):
        path = Path(str(JobPaths(folder, job, 0).stderr).replace("%t", "0"))
        path.parent.mkdir(parents=True)
        path.write_text("")
        found = job_output.output_files(tmp_path, "cell", "12_3" if "slurm" in folder.parts else None)
        assert found == [path], f"submitit names its logs otherwise: see launch/job_output.py ({path.name})"


def test_other_parts_are_still_there() -> None:
    assert isinstance(LOCAL_REQUEUE_RETURN_CODE, int)
    assert CommandFunction(["true"], cwd=".")() == ""
    assert submitit.JobEnvironment.USR_SIG in ("USR1", "USR2")
