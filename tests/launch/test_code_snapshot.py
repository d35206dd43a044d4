"""Snapshots of the code: what is in them, and that a job refuses any other code."""

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import submitit

from clef.cells import attempts, records
from clef.cells.identity import write_config
from clef.config import CellConfig
from clef.config.backbones import BACKBONES
from clef.engine.slurm_task import TrainCells
from clef.errors import ConfigError, SetupError
from launch import code_snapshot
from tests.launch import tiny_grid
from tests.processes import wait_for


def project(folder: Path) -> None:
    """Modules of one's own that import each other, and what must stay behind."""
    content = {
        "mine.py": "import os, torch, helper\nfrom family.child import x\nfrom clef import cell\n",
        "helper.py": "def late():\n    import latecomer\n",
        "latecomer.py": "import no_such_module\n",
        "family/__init__.py": "from . import child\n",
        "family/child.py": "x = 1\n",
        "family/data/table.txt": "1\n",
        "family/__pycache__/child.pyc": "",
        "family/.git/HEAD": "",
        "unrelated.py": "",
    }
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_modules_of_ones_own_come_with_what_they_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = code_snapshot.module_files({"mine"})
    assert {name: sorted(map(str, paths)) for name, paths in found.items()} == {
        "mine": ["mine.py"],
        "helper": ["helper.py"],
        "latecomer": ["latecomer.py"],
        "family": ["family/__init__.py", "family/child.py", "family/data/table.txt"],
    }
    with pytest.raises(ConfigError, match="no module named 'no_such_module', which the grid names"):
        code_snapshot.module_files({"no_such_module"})


ASKS = """
from pathlib import Path
from clef import yaml_config
from clef.cells import records
from clef.config import resolve
print(yaml_config.resource("shards/emotic.yaml"))
print(len(resolve.registered("backbones")))
print(records.code_version()["commit"])
from launch import code_snapshot
print(code_snapshot.take_snapshot(Path(), []).name)
"""


def inside(code: Path, folder: Path, first: str) -> list[str]:
    """What Python says in a snapshot when it is started from a folder far from any checkout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONSAFEPATH": "1"}
    command = [*shlex.split(code_snapshot.python_command(code)), "-c", first + ASKS]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_snapshot_is_made_once_and_runs_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., CellConfig]
) -> None:
    project(tmp_path / "own")
    monkeypatch.syspath_prepend(tmp_path / "own")
    cell = tiny()
    cell = cell.model_copy(update={"method": cell.method.model_copy(update={"name": "mine:Method"})})
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(code_snapshot.take_snapshot(tmp_path, [cell]))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [code] = set(made)
    assert len(made) == 4
    assert [path.name for path in (tmp_path / "code").iterdir()] == [code.name], "nothing half-made is left"
    assert not os.access(code / "helper.py", os.W_OK) or os.getuid() == 0
    assert (code / "helper.py").stat().st_mode & 0o777 == 0o444
    facts = records.read_json(code / records.CODE)
    assert facts["modules"] == ["family", "helper", "latecomer", "mine"]
    assert {key: facts[key] for key in ("commit", "dirty", "diff")} == {
        key: records.code_version()[key] for key in ("commit", "dirty", "diff")
    }

    # Cards, configs and the code's version are the snapshot's own, far from any checkout.
    (other := tmp_path / "other").mkdir()
    imported, card, backbones, commit, _ = inside(code, other, "import helper; print(helper.__file__)")
    assert imported == f"{code}/helper.py"
    assert card == f"{code}/shards/emotic.yaml"
    assert (int(backbones), commit) == (len(BACKBONES), str(facts["commit"]))
    plain = code_snapshot.take_snapshot(tmp_path, [])
    assert inside(plain, other, "")[-1] == plain.name, "a launcher in a snapshot makes the same"

    (tmp_path / "own/helper.py").write_text("edited = True\n")
    assert code_snapshot.take_snapshot(tmp_path, [cell]) != code
    assert "late" in (code / "helper.py").read_text()


def test_a_module_with_data_beside_it_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., CellConfig]
) -> None:
    project(tmp_path / "own")
    os.truncate(tmp_path / "own/family/data/table.txt", 65 * 1024**2)
    monkeypatch.syspath_prepend(tmp_path / "own")
    cell = tiny()
    cell = cell.model_copy(update={"method": cell.method.model_copy(update={"name": "mine:Method"})})
    with pytest.raises(SetupError, match=r"module family: 68 MB are in its folder.*; 67 MB is the most"):
        code_snapshot.take_snapshot(tmp_path, [cell])
    assert not (tmp_path / "code").exists()


HOOK = "import sys; sys.path.insert(0, {root!r}); import clef"


@pytest.mark.slow
def test_a_job_that_gets_other_code_ends_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., CellConfig]
) -> None:
    """Something imports the checkout's package before the job can: the worst that an installation may do."""
    write_config(cell := tmp_path / "cell", tiny())
    code = code_snapshot.take_snapshot(tmp_path, [])
    (hooks := tmp_path / "hooks").mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK.format(root=str(tiny_grid.ROOT)))
    monkeypatch.setenv("PYTHONPATH", str(hooks))
    executor = submitit.LocalExecutor(folder=tmp_path / "jobs", python=code_snapshot.python_command(code))
    job = executor.submit(TrainCells(), str(cell))
    wait_for("the job done", job.done)
    state = records.read_json(cell / records.STATE)
    assert state["state"] == "failed"
    expected = (
        f"clef is imported from {tiny_grid.ROOT}/clef/__init__.py, not from the snapshot of the code that this job"
    )
    assert state["reason"].startswith(expected)
    assert str(code) in state["reason"]
    assert [attempt.how for attempt in attempts.read(cell)] == ["failed"]
    assert sys.executable in code_snapshot.python_command(code)
