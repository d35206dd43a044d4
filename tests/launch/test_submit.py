"""What is handed to Slurm, once, whatever goes wrong. Slurm is scripts here; tests/slurm has the real one."""

import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clef import io
from clef.cells import records
from clef.cells.plan_file import write_plan
from clef.engine.slurm_task import compute_features
from clef.errors import ConfigError, run_command
from clef.yaml_config import resource, to_yaml
from launch import grid as command
from launch import ledger, slurm_commands
from tests.launch import tiny_grid
from tests.launch.fake_slurm import FakeSlurm

Launch = Callable[..., int]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm.make(tmp_path / "slurm")
    monkeypatch.setenv("PATH", fake.path)
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.fixture
def launch(slurm: FakeSlurm, shards: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """The command in this process, submitting without a question. Returns its exit code."""

    def run(grid: Path, *arguments: str, yes: bool = True, where: Path = shards) -> int:
        slurm_commands.max_array_size.cache_clear()
        places = ["--grid", str(grid), "--shards", str(where), "--partition", "gpu", *(["--yes"] if yes else [])]
        monkeypatch.setattr(sys, "argv", ["grid.py", *arguments, *places])
        with pytest.raises(SystemExit) as ended:
            run_command(command.main)
        return int(ended.value.code or 0)

    return run


def entries(name: str) -> list[ledger.Submission]:
    return ledger.read_submissions(Path("runs") / name)


def by_kind(name: str) -> list[tuple[str, str | None, int]]:
    """Kind, job and number of cells of every submission that counts."""
    return [(entry.kind, entry.job, len(entry.cells)) for entry in entries(name) if not entry.dropped]


TWO_SHAPES = {"where": {"method": "clef"}, "set": {"resources.memory_gb": 2}}


def test_shapes_are_arrays_with_a_gather_job_behind(tmp_path: Path, slurm: FakeSlurm, launch: Launch) -> None:
    grid = tiny_grid.write(tmp_path / "two.yaml", TWO_SHAPES)
    assert launch(grid, "--sbatch", "account=lab", "--sbatch", "exclusive") == 0
    assert by_kind("two") == [("cells", "1", 4), ("cells", "2", 4), ("gather", "3", 0)]
    first, second, last = (slurm.options(job) for job in (1, 2, 3))
    assert (first["array"], second["array"]) == ("0-3%4", "0-3%4")
    assert (first["mem"], second["mem"]) == ("1GB", "2GB")
    assert last["dependency"] == "afterany:1:2"
    assert "array" not in last
    assert all(options["account"] == "lab" and options["exclusive"] is None for options in (first, second, last))
    names = [entry.tag for entry in entries("two")]
    assert [options["job-name"] for options in (first, second, last)] == names
    assert len(set(names)) == 3
    cells = [cell for entry in entries("two") for cell in entry.cells]
    assert len(set(cells)) == 8
    assert launch(grid) == 0
    assert slurm.calls == 3, "all is queued"


def test_what_a_task_runs_is_there_before_sbatch_is_called(tmp_path: Path, slurm: FakeSlurm, launch: Launch) -> None:
    grid = tiny_grid.write(tmp_path / "early.yaml")
    (slurm.state / "before").write_text(f'ls "$(dirname "$2")" > {slurm.state}/seen.$(cat {slurm.state}/count)\n')
    assert launch(grid) == 0
    assert (slurm.state / "seen.0").read_text().split() == [*(f"{i}.pkl" for i in range(8)), "submission.sh"]
    folder = ledger.job_folder(Path("runs/early"), entries("early")[0])
    assert slurm.options(1)["output"] == str(folder.resolve() / "%A_%a_0_log.out"), "Slurm makes no folders"


def test_arrays_end_where_the_site_says_and_share_the_throttle(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    (slurm.state / "bin/scontrol").write_text("#!/bin/sh\necho 'MaxArraySize            = 3'\n")
    grid = tiny_grid.write(tmp_path / "long.yaml")
    assert launch(grid, "--max-parallel", "4") == 0
    assert [slurm.options(job)["array"] for job in (1, 2, 3)] == ["0-1%1", "0-2%2", "0-2%1"]
    assert "8 to train, as 3 job arrays of up to 3, 1 + 2 + 1 at a time" in capsys.readouterr().out
    assert slurm.options(4)["dependency"] == "afterany:1:2:3"


def test_a_surrounding_job_is_not_passed_on(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What salloc sets would be options of the new job: sbatch and srun read these variables."""
    for name in ("SLURM_JOB_ID", "SLURM_MEM_PER_NODE", "SLURM_NTASKS", "SLURMD_NODENAME"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("SLURM_CONF", "/etc/other/slurm.conf")
    monkeypatch.setenv("SRUN_EXPORT_ENV", "NONE")
    assert launch(tiny_grid.write(tmp_path / "inside.yaml")) == 0
    assert {name for name in slurm.environment(1) if name.startswith(("SLURM", "SRUN"))} == {"SLURM_CONF"}


DECIDED = (
    "ARRAY_INX", "CLUSTERS", "CPUS_PER_GPU", "ERROR", "EXPORT", "GPUS", "GPUS_PER_NODE", "GRES", "JOB_NAME",
    "MEM_PER_CPU", "MEM_PER_NODE", "NO_REQUEUE", "OPEN_MODE", "OUTPUT", "PARTITION", "REQUEUE", "SIGNAL", "TIMELIMIT",
    "WAIT",
)  # fmt: skip


def test_variables_hold_for_what_the_plan_does_not_state(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """sbatch puts them before the script."""
    for name in (*DECIDED, "ACCOUNT", "QOS", "RESERVATION"):
        monkeypatch.setenv(f"SBATCH_{name}", "7")
    assert launch(tiny_grid.write(tmp_path / "own.yaml"), "--sbatch", "qos=long") == 0
    said = capsys.readouterr().out
    for job in (1, 2):
        passed = {name for name in slurm.environment(job) if name.startswith("SBATCH")}
        assert passed == {"SBATCH_ACCOUNT", "SBATCH_RESERVATION"}
    assert "also for these jobs, from your environment: SBATCH_ACCOUNT=7, SBATCH_RESERVATION=7\n" in said
    dropped = ", ".join(f"SBATCH_{name}" for name in sorted([*DECIDED, "QOS"]))
    assert f"but not for these jobs, which state it themselves: {dropped}\n" in said


LIMIT = """
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$2")
if [ $(( $(wc -l < $state/queue) + ${last:-0} + 1 )) -gt 5 ]; then
  echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2
  echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)' >&2
  exit 1
fi
"""
"""No user has more than five jobs, as sbatch says it."""


def test_of_an_array_that_is_too_long_as_much_is_submitted_as_the_user_may_have(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    (slurm.state / "before").write_text(LIMIT)
    grid = tiny_grid.write(tmp_path / "many.yaml")
    assert launch(grid, "--max-parallel", "4") == 0
    assert by_kind("many") == [("cells", "1", 4), ("cells", "2", 1)]
    assert slurm.options(1)["array"] == "0-3%2"
    said = capsys.readouterr()
    assert "submitted 5 of 8 cells as 2 job arrays: 1, 2; run it again for the rest\n" in said.out
    assert "AssocMaxSubmitJobLimit" in said.out
    assert ": 3 cells wait for the next run of the same command, when some of your jobs have ended\n" in said.out
    kept = {entry.tag for entry in entries("many") if not entry.dropped}
    assert {path.name for path in Path("runs/many/slurm").iterdir()} == kept, "nothing is left of what was refused"

    assert launch(grid) == 0, "nothing can be submitted yet, and nothing is wrong"
    slurm.end(1)
    for cell in entries("many")[-1].cells:
        assert not (Path("runs/many") / cell / records.RESULT).exists()
    assert launch(grid) == 0
    assert sum(len(entry.cells) for entry in entries("many") if entry.job) == 9, (
        "the four that are gone are cells again"
    )


def test_a_user_who_has_all_jobs_already_is_refused(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    (slurm.state / "before").write_text(LIMIT)
    (slurm.state / "queue").write_text("".join(f"{i}|N/A|RUNNING|None|node1|0:10|other\n" for i in range(90, 95)))
    assert launch(tiny_grid.write(tmp_path / "none.yaml")) == 5
    assert "error: sbatch refused a job: AssocMaxSubmitJobLimit" in capsys.readouterr().err


@pytest.mark.parametrize(("folder", "pattern"), [("run%j", "%j"), ("50%3A", "%3A"), ("a%%", "%%"), ("a\\b", "\\\\")])
def test_a_folder_whose_logs_would_lie_elsewhere_is_refused(
    folder: str, pattern: str, tmp_path: Path, slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(tiny_grid.write(tmp_path / "logs.yaml"), "--out", str(tmp_path / folder)) == 2
    assert f"Slurm would replace '{pattern}' in the names of logs; name another" in capsys.readouterr().err
    assert not (tmp_path / folder).exists()
    slurm_commands.check_log_folder(tmp_path / "50% ü 'x\" $y" / "100%")


def test_a_job_that_may_not_be_queued_again(tmp_path: Path, slurm: FakeSlurm, launch: Launch) -> None:
    assert launch(tiny_grid.write(tmp_path / "once.yaml"), "--sbatch", "no-requeue") == 0
    assert {"requeue", "no-requeue"} & set(slurm.options(1)) == {"no-requeue"}


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("--profile", "percpu.yaml"), {"mem-per-cpu": "1024MB"}),
        (("--profile", "none.yaml"), {}),
        (("--sbatch", "mem-per-gpu=40G"), {"mem-per-gpu": "40G"}),
        ((), {"mem": "1GB"}),
    ],
)
def test_how_memory_is_asked_for(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, arguments: tuple[str, ...], asked: dict[str, str]
) -> None:
    Path("percpu.yaml").write_text("memory: per-cpu")
    Path("none.yaml").write_text("memory: none")
    assert launch(tiny_grid.write(tmp_path / "mem.yaml"), *arguments) == 0
    assert {key: value for key, value in slurm.options(1).items() if key.startswith("mem")} == asked


def test_without_a_terminal_somebody_must_have_said_yes(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(tiny_grid.write(tmp_path / "ask.yaml"), yes=False) == 2
    assert slurm.calls == 0
    assert not Path("runs").exists()
    said = capsys.readouterr()
    assert "8 to train" in said.out
    assert "there is no terminal to ask on: Submit 8 cells? Add --yes; nothing submitted" in said.err


@pytest.mark.parametrize(("answer", "code", "calls"), [("y", 0, 2), ("n", 130, 0), ("", 130, 0)])
def test_the_answer_counts(
    tmp_path: Path,
    slurm: FakeSlurm,
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
    calls: int,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or answer)
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)}))
    assert launch(tiny_grid.write(tmp_path / "ask.yaml"), yes=False) == code
    assert asked == ["Submit 8 cells? [y/N] "]
    assert slurm.calls == calls


def test_what_another_launcher_took_during_the_question_is_left_to_it(
    tmp_path: Path,
    slurm: FakeSlurm,
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grid = tiny_grid.write(tmp_path / "ask.yaml")

    def other(_: str) -> str:
        assert launch(grid, yes=True) == 0
        return "y"

    monkeypatch.setattr("builtins.input", other)
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)}))
    assert launch(grid, yes=False) == 0
    assert slurm.calls == 2
    assert "8 of the cells shown are no longer to be submitted" in capsys.readouterr().err


def answer(monkeypatch: pytest.MonkeyPatch, during_question: Callable[[], None]) -> None:
    """Have somebody at a terminal say yes, after something has happened."""

    def say_yes(_: str) -> str:
        during_question()
        return "y"

    monkeypatch.setattr("builtins.input", say_yes)
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)}))


@pytest.fixture
def retried_child(tmp_path: Path, slurm: FakeSlurm, launch: Launch) -> tuple[Path, Path]:
    """A grid whose vanilla cell is job 1 and whose two-stage cell has failed; the vanilla cell's folder."""
    grid = tiny_grid.write(
        tmp_path / "pair.yaml",
        presets={"two_stage": {"method": "clef", "set": {"method.start_from": "@vanilla"}}},
        datasets=["caer_s_demo"], backbones=["caer_net"], methods=["vanilla", "two_stage"],
    )  # fmt: skip
    assert launch(grid) == 0
    slurm.end(2, 3)
    [parent], [child] = (entry.cells for entry in entries("pair") if entry.cells)
    records.write_state(Path("runs/pair") / child, "failed", reason="x")
    return grid, Path("runs/pair") / parent


@pytest.mark.parametrize("ending", ["died", "failed"])
def test_a_cell_whose_parent_ends_during_the_question_is_left_out(
    retried_child: tuple[Path, Path], slurm: FakeSlurm, launch: Launch, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], ending: str,
) -> None:  # fmt: skip
    grid, parent = retried_child

    def parent_ends() -> None:
        slurm.end(1)
        records.write_state(parent, ending, reason="x")

    answer(monkeypatch, parent_ends)
    assert launch(grid, "--retry-failed", yes=False) == 0
    said = capsys.readouterr()
    assert slurm.calls == 3, "nothing was submitted"
    assert "1 of the cells shown start from cells that have ended without a result; run it again" in said.err
    assert "1 of the cells that were not shown can be submitted now; run it again to submit them" in said.err
    assert launch(grid, "--retry-failed") == 0
    assert slurm.options(5)["dependency"] == "afterok:4"


def test_a_cell_whose_parent_another_launcher_trains_waits_for_it(
    retried_child: tuple[Path, Path], slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid, parent = retried_child
    slurm.end(1)
    with ledger.claim_cells(parent.parent, [parent.name]):
        assert launch(grid, "--retry-failed") == 0
    text = "not submitted yet: 1, which start from cells that are trained elsewhere; run it again after those"
    assert text in capsys.readouterr().out
    assert slurm.calls == 3


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--dry-run", "--retry-failed")])
def test_a_dry_run_writes_nothing(
    retried_child: tuple[Path, Path], slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:  # fmt: skip
    """Also where a job was cancelled with scancel, which a submission writes down."""
    grid, parent = retried_child
    queue = slurm.state / "queue"
    queue.write_text(queue.read_text().replace("PENDING", "CANCELLED"))
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")}
    assert launch(grid, *arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")} == before
    assert "in all: 1 cancelled, 1 failed" in capsys.readouterr().out
    assert launch(grid) == 0
    assert (parent / records.CANCELLED).exists()


def test_a_profile_reaches_the_job(tmp_path: Path, slurm: FakeSlurm, launch: Launch) -> None:
    profile = tmp_path / "own.yaml"
    profile.write_text("{setup: [module load cuda], scratch: $TMPDIR, gpus: {ask: gpus-per-task, type: a100}}")
    grid = tiny_grid.write(
        tmp_path / "site.yaml", {"where": {"method": "clef"}, "set": {"resources.gpus": 2, "runtime.scratch": "/own"}}
    )
    assert launch(grid, "--profile", str(profile)) == 0
    assert [slurm.options(job).get("gpus-per-task") for job in (1, 2, 3)] == [None, "a100:1", None]
    assert slurm.options(2)["ntasks-per-node"] == "2"
    script = (slurm.state / "script.2").read_text()
    order = ["module load cuda", "unset SLURM_GPUS_PER_TASK", "export CLEF_GPUS_PER_NODE=2", "\nln -s ", "\nsrun "]
    assert [script.index(text) for text in order] == sorted(script.index(text) for text in order)
    vanilla, clef = (next(iter(Path("runs/site").glob(f"*-{name}-*/config.yaml"))) for name in ("vanilla", "clef"))
    assert "scratch: $TMPDIR" in vanilla.read_text()
    assert "scratch: /own" in clef.read_text()


# ---- what goes wrong ----


def test_when_the_second_array_is_refused_the_first_stays_and_the_rest_comes_later(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tiny_grid.write(tmp_path / "half.yaml", TWO_SHAPES)
    slurm.refuse(2)
    assert launch(grid) == 5
    said = capsys.readouterr()
    reason = "sbatch refused a job: first reason; Batch job submission failed: second reason"
    assert said.err.splitlines()[-1] == f"error: {reason}"
    assert "Traceback" not in said.err
    assert "submitted 4 of 8 cells as 1 job array: 1; run it again for the rest\n" in said.out
    assert [(entry.kind, entry.job, entry.dropped) for entry in entries("half")] == [
        ("cells", "1", False), ("cells", None, True), ("gather", "3", False)
    ]  # fmt: skip
    assert launch(grid) == 0
    assert by_kind("half")[2:] == [("cells", "4", 4), ("gather", "5", 0)]
    assert slurm.options(5)["dependency"] == "afterany:1:4"


def test_a_refusal_that_was_none(tmp_path: Path, slurm: FakeSlurm, launch: Launch) -> None:
    """A busy controller: sbatch says that it timed out, and the job is there."""
    grid = tiny_grid.write(tmp_path / "busy.yaml")
    busy = "[ $n = 1 ] && { echo 'sbatch: error: Socket timed out' >&2; exit 1; }\n"
    (slurm.state / "after").write_text(busy)
    assert launch(grid) == 0
    assert by_kind("busy") == [("cells", "1", 8), ("gather", "2", 0)]


def test_neither_sbatch_nor_squeue_answer(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tiny_grid.write(tmp_path / "deaf.yaml")
    (slurm.state / "after").write_text("touch $state/deaf; echo 'sbatch: error: Socket timed out' >&2; exit 1\n")
    (slurm.state / "looks").write_text("[ -e $state/deaf ] && { echo 'Unable to contact' >&2; exit 1; }\n")
    assert launch(grid) == 5
    assert "sbatch: Socket timed out; run this again: it finds out" in capsys.readouterr().err
    assert next((entry.job, entry.dropped) for entry in entries("deaf")) == (None, False)
    for name in ("after", "looks"):
        (slurm.state / name).unlink()
    assert launch(grid) == 0
    assert [kind for kind in by_kind("deaf") if kind[0] == "cells"] == [("cells", "1", 8)], "found by its name"


@pytest.mark.parametrize("failing", [1, 2])
def test_a_disk_that_is_full_at_either_note(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], failing: int,
) -> None:  # fmt: skip
    """Before sbatch nothing is submitted; after it the job is found again by its name."""
    grid = tiny_grid.write(tmp_path / "full.yaml")
    notes = 0

    def full(path: Path, content: Any, durable: bool = True) -> None:
        nonlocal notes
        notes += path.parent.name == ledger.SUBMISSIONS
        if notes >= failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content, durable)

    write = io.write
    with monkeypatch.context() as patch:
        patch.setattr(io, "write", full)
        assert launch(grid) == 5
    said = capsys.readouterr().err
    assert re.search(r"error: .*runs/full.*No space left on device", said.splitlines()[-1])
    assert "Traceback" not in said
    assert slurm.calls == failing - 1
    assert launch(grid) == 0
    assert [len(entry.cells) for entry in entries("full") if entry.kind == "cells"] == [8]
    assert slurm.calls == 2, "one array, one gather job"


def test_ctrl_c_while_sbatch_runs_waits_for_its_answer(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tiny_grid.write(tmp_path / "stop.yaml", TWO_SHAPES)
    (slurm.state / "before").write_text("[ -e $state/env.1 ] || kill -INT $PPID\n")
    assert launch(grid) == 130
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == "interrupted"
    assert "submitted 4 of 8 cells as 1 job array: 1" in said.out
    assert by_kind("stop") == [("cells", "1", 4)]
    assert launch(grid) == 0
    assert by_kind("stop")[1:] == [("cells", "2", 4), ("gather", "3", 0)]


def test_a_folder_that_can_not_be_written(tmp_path: Path, launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert launch(tiny_grid.write(tmp_path / "g.yaml"), "--out", "file") == 5
    assert "file/g: Not a directory" in capsys.readouterr().err


# ---- launchers that died ----


def left(cells: list[str]) -> ledger.Submission:
    """What a launcher leaves that dies around sbatch."""
    entry = ledger.new_submission(Path("runs/dead"), "cells", cells, array=len(cells) > 1)
    ledger.begin_submission(Path("runs/dead"), entry)
    return entry


@pytest.fixture
def planned(tmp_path: Path, launch: Launch, slurm: FakeSlurm) -> tuple[Path, list[str]]:
    """A grid of eight cells, and the names of their folders, none of them submitted."""
    grid = tiny_grid.write(tmp_path / "dead.yaml")
    slurm.refuse(1)
    assert launch(grid) == 5
    [entry] = entries("dead")
    (Path("runs/dead/submissions") / f"{entry.tag}.json").unlink()
    return grid, entry.cells


def test_a_job_of_a_dead_launcher_is_adopted(
    planned: tuple[Path, list[str]], slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid, cells = planned
    entry = left(cells[:3])
    (slurm.state / "queue").write_text("".join(f"77|{i}|RUNNING|None|node1|0:10|{entry.tag}\n" for i in range(3)))
    assert launch(grid) == 0
    assert by_kind("dead") == [("cells", "77", 3), ("cells", "2", 5), ("gather", "3", 0)]
    assert slurm.options(3)["dependency"] == "afterany:2:77"
    assert (
        f"a launcher died while it submitted 3 cells ({entry.by}): Slurm has that as job 77" in capsys.readouterr().err
    )


def test_the_plan_alone_knows_them_too_and_writes_nothing(
    planned: tuple[Path, list[str]], slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid, cells = planned
    entry = left(cells[:1])
    (slurm.state / "queue").write_text(f"77|N/A|PENDING|Resources||0:00|{entry.tag}\n")
    assert launch(grid, "--dry-run") == 0
    assert "in all: 1 queued, 7 new" in capsys.readouterr().out
    assert entries("dead") == [entry]


def test_what_never_became_a_job_is_dropped_and_submitted_anew(
    planned: tuple[Path, list[str]], slurm: FakeSlurm, launch: Launch
) -> None:
    grid, cells = planned
    entry = left(cells[:3])
    assert launch(grid) == 0
    assert by_kind("dead") == [("cells", "2", 8), ("gather", "3", 0)]
    assert [made.dropped for made in entries("dead") if made.tag == entry.tag] == [True]


def test_a_job_that_turns_up_between_the_two_looks_is_cancelled_once_the_drop_is_on_disk(
    planned: tuple[Path, list[str]], slurm: FakeSlurm, launch: Launch
) -> None:
    """squeue first knows nothing of it, then that it runs; scancel notes what the ledger says at that time."""
    grid, cells = planned
    entry = left(cells[:1])
    record = Path("runs/dead/submissions").resolve() / f"{entry.tag}.json"
    late = f"echo '77|N/A|RUNNING|None|node1|0:10|{entry.tag}' > $state/queue"
    (slurm.state / "looks").write_text(f"[ -e $state/once ] && [ ! -e $state/gone ] && {late}; touch $state/once\n")
    scancel = f"cp {record} {slurm.state}/at_cancel; echo $@ > {slurm.state}/gone; : > {slurm.state}/queue"
    (slurm.state / "bin/scancel").write_text(f"#!/bin/sh\n{scancel}\n")
    assert launch(grid) == 0
    assert (slurm.state / "gone").read_text().split() == ["--quiet", "77"]
    assert '"dropped": true' in (slurm.state / "at_cancel").read_text()
    assert by_kind("dead") == [("cells", "2", 8), ("gather", "3", 0)]


def test_a_gather_job_that_is_missing_is_made_good(tmp_path: Path, slurm: FakeSlurm, launch: Launch) -> None:
    grid = tiny_grid.write(tmp_path / "late.yaml")
    slurm.refuse(2)
    assert launch(grid) == 5
    assert by_kind("late") == [("cells", "1", 8)]
    assert launch(grid) == 0
    assert by_kind("late")[1:] == [("gather", "3", 0)]
    assert launch(grid) == 0
    assert slurm.calls == 3


# ---- shards that are missing ----


def test_shards_are_made_first_and_the_launcher_runs_again_behind_them(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, shards: Path, sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some/emotic_demo").symlink_to(shards / "emotic_demo")
    grid, source = tiny_grid.write(tmp_path / "cut.yaml"), f"caer_s_demo={sources / 'caer_s_demo'}"
    arguments = (grid, "--source", source, "--sbatch", "dependency=after:9")
    assert launch(*arguments, where=tmp_path / "some") == 0
    said = capsys.readouterr().out
    assert "in all: 4 new, 4 sharding" in said
    assert "caer_s_demo: no shards yet; a job makes them from" in said
    assert "job 2 makes the shards of caer_s_demo; job 3 after it submits the cells" in said
    assert by_kind("cut") == [("cells", "1", 4), ("shards", "2", 0), ("launch", "3", 0), ("gather", "4", 0)]
    assert slurm.options(2)["cpus-per-task"] == "8"
    assert slurm.options(3)["dependency"] == "after:9,afterok:2"
    assert slurm.options(3)["kill-on-invalid-dep"] == "yes"

    assert launch(*arguments, where=tmp_path / "some") == 0
    assert "caer_s_demo: no shards yet; job 2 makes them, and job 3 after it submits its 4" in capsys.readouterr().out
    assert slurm.calls == 4

    slurm.end(3)  # the launcher behind was lost: the shards are still being made
    assert launch(*arguments, where=tmp_path / "some") == 0
    assert slurm.calls == 5
    assert slurm.options(5)["dependency"] == "after:9,afterok:2"

    slurm.end(2, 5)  # sharding failed
    capsys.readouterr()
    assert launch(*arguments, where=tmp_path / "some") == 0
    assert re.search(r"the last such job failed, see runs/cut/slurm/clef-cut-\w+/2_0_log.err", capsys.readouterr().out)
    assert by_kind("cut")[-2:] == [("shards", "6", 0), ("launch", "7", 0)]

    (tmp_path / "some/caer_s_demo").symlink_to(shards / "caer_s_demo")  # they are there: cells as usual
    assert launch(*arguments, where=tmp_path / "some") == 0
    assert by_kind("cut")[-2:] == [("cells", "8", 4), ("gather", "9", 0)]


def test_a_set_that_nobody_can_make_stops_no_other(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some/emotic_demo").symlink_to(shards / "emotic_demo")
    grid = tiny_grid.write(tmp_path / "gap.yaml", datasets=["emotic_demo", "caer_s"], exclude=[{"method": "clef"}])
    assert launch(grid, where=tmp_path / "some") == 4
    said = capsys.readouterr()
    assert by_kind("gap") == [("cells", "1", 2), ("gather", "2", 0)]
    assert "2 cells can't be trained:" in said.err
    assert "python -m clef.shard --dataset caer_s " in said.err


def test_a_source_must_be_there(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tiny_grid.write(tmp_path / "g.yaml")
    for text, expected in {
        "caer_s_demo=nowhere": "--source caer_s_demo=nowhere: no such folder",
        "caer_s=.": "caer_s: unknown (did you mean caer_s_demo?); valid: caer_s_demo, emotic_demo",
        "caer_s_demo": "DATASET=FOLDER is expected",
    }.items():
        assert launch(grid, "--source", text) == 2
        assert expected in capsys.readouterr().err
    assert slurm.calls == 0


# ---- grids of one name ----


def test_a_file_of_the_same_name_with_another_grid_is_refused(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("first", "second", "copy"):
        (tmp_path / folder).mkdir()
    first = tiny_grid.write(tmp_path / "first/own.yaml")
    second = tiny_grid.write(tmp_path / "second/own.yaml", seeds=[1])
    copy = tiny_grid.write(tmp_path / "copy/own.yaml")
    assert launch(first) == 0
    for arguments in ((), ("--dry-run",)):
        assert launch(second, *arguments) == 2
        said = capsys.readouterr().err
        assert f"{second}: runs/own holds the cells of another grid of this name, {first}; rename one" in said
    assert launch(second, "--out", "others") == 0
    assert launch(copy) == 0, "the same grid elsewhere"
    tiny_grid.write(first, seeds=[0, 1])
    assert launch(copy) == 0, "it was planned from this file last"
    tiny_grid.write(copy, seeds=[2])
    assert launch(copy) == 0, "edited where it lies"
    copy.unlink()
    assert launch(second) == 0, "the other one is gone"


@pytest.mark.parametrize("option", [("--status",), ("--cancel", "*"), ("--gather",)])
def test_no_command_mixes_up_grids_of_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tiny_grid.write(tmp_path / "demo.yaml")
    write_plan(Path("runs"), "demo", [], resource("configs/grids/demo.yaml"))
    assert '"file": "configs/grids/demo.yaml"' in Path("runs/demo/plan.json").read_text()
    monkeypatch.setattr(sys, "argv", ["grid.py", *option, "--grid", str(own)])
    with pytest.raises(ConfigError, match=r"another grid of this name, .*configs/grids/demo.yaml"):
        command.main()


def test_cells_of_encoders_are_packed_and_wait_for_the_job_that_computes_their_features(
    tmp_path: Path, slurm: FakeSlurm, launch: Launch, shards: Path
) -> None:
    stream = {"network": "resnet18", "width": 0.0625, "weights": "none"}
    settings = {
        "backbone.encoders": {"body": stream, "context": None},
        "inputs": {"body": {"size": [24, 24], "flip": False}},
        "resources.cells_per_task": 3,
        "runtime.num_workers": 0,
    }
    grid = tmp_path / "packed.yaml"
    content = {"datasets": ["caer_s_demo"], "backbones": ["encoders"], "methods": ["vanilla"], "seeds": list(range(7))}
    grid.write_text(to_yaml(content | {"overrides": [{"set": settings}]}), encoding="utf-8")
    assert launch(grid) == 0
    assert by_kind("packed") == [("features", "1", 0), ("cells", "2", 7), ("gather", "3", 0)]
    cells = entries("packed")[1]
    assert list(cells.jobs().values()) == ["2_0"] * 3 + ["2_1"] * 3 + ["2_2"]
    assert (slurm.options(2)["array"], slurm.options(2)["dependency"]) == ("0-2%3", "afterany:1")
    [folder] = [path.parent for path in Path("runs/packed").glob("*-s0-*/config.yaml")]
    made = compute_features(str(folder.resolve()))
    assert len(made) == 4
    assert all(Path(path).exists() for path in made)
