"""Cells that one process trains one after the other: each as if it were alone, and none in the way of another."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clef import io, signals
from clef.cells import attempts, records
from clef.cells.identity import write_config
from clef.config import CellConfig
from clef.config.methods import METHODS
from clef.engine import cell_pack, slurm_task
from tests.assertions import assert_equal
from tests.engine.cell_processes import everything
from tests.soak import cases

Make = Callable[..., CellConfig]
AS_TASK = {
    "SUBMITIT_EXECUTOR": "local",
    "SUBMITIT_LOCAL_JOB_ID": "1",
    "SUBMITIT_LOCAL_GLOBALRANK": "0",
    "SUBMITIT_LOCAL_NTASKS": "1",
}
ALONE = ("clef", "ccim", "context_only", "context_swap")


@pytest.fixture
def as_task(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is a task that a local launcher started."""
    for name, value in AS_TASK.items():
        monkeypatch.setenv(name, value)
    yield
    signals._stop_reasons.clear()


def written(folder: Path, config: CellConfig) -> Path:
    write_config(folder, config)
    return folder


def states(cells: list[Path]) -> list[str]:
    return [records.state_of(cell) for cell in cells]


@pytest.mark.slow
@pytest.mark.usefixtures("as_task")
def test_packed_cells_are_those_of_cells_alone_bit_for_bit(tiny: Make, tmp_path: Path) -> None:
    """Some cells alone; and all methods in two packs, the second in the reverse order: nothing leaks either way."""
    settings = {"epochs": 2, "runtime.features": str(tmp_path / "cache")}
    trained = [name for name, entry in METHODS.items() if not entry.config(name=name).is_fitted]
    cells = [*(("emot_net", method) for method in trained), ("encoders", "clef")]
    configs = [tiny("emotic_demo", *cell, seed=seed, **settings) for seed, cell in enumerate(cells)]
    folders = {
        where: [written(tmp_path / where / str(i), config) for i, config in enumerate(configs)]
        for where in ("alone", "packed", "reversed")
    }
    alone = [i for i, (_, method) in enumerate(cells) if method in ALONE]
    code = "import sys; from pathlib import Path; from clef.engine.run import run_cell; run_cell(Path(sys.argv[1]))"
    for i in alone:  # each in a process of its own
        subprocess.run([sys.executable, "-c", code, folders["alone"][i]], check=True, capture_output=True)
    code = "import sys; from pathlib import Path; from clef.engine import cell_pack\n"
    code += "cell_pack.train_pack([Path(cell) for cell in sys.argv[1:]], 0.0)"
    subprocess.run([sys.executable, "-c", code, *reversed(folders["reversed"])], check=True, capture_output=True)
    cell_pack.train_pack(folders["packed"], launched=time.time())
    for i, packed in enumerate(folders["packed"]):
        assert_equal(everything(packed), everything(folders["reversed"][i]))
        if i in alone:
            assert_equal(everything(packed), everything(folders["alone"][i]))


@pytest.mark.usefixtures("as_task")
def test_what_is_settled_or_belongs_to_others_is_left_alone(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    monkeypatch.setattr(slurm_task, "train_cell", lambda cell, **_: (trained.append(cell.name), finish(cell)))
    names = ["new", "done", "killed_late", "cancelled", "failed", "failed_before", "died", "locked", "claimed", "child"]
    names.append("preempted")
    cells = {name: written(tmp_path / name, tiny()) for name in names}
    launched = time.time() - 100

    def finish(cell: Path) -> None:
        records.write_json(cell / records.RESULT, {})

    finish(cells["done"])
    write_config(cells["killed_late"], tiny(**{"runtime.keep_checkpoints": False, "runtime.checkpoints": False}))
    finish(cells["killed_late"])
    for cell in (cells["done"], cells["killed_late"]):
        (cell / records.LOCK).touch()
        records.write_state(cell, "running")
    records.write_json(cells["cancelled"] / records.CANCELLED, {})
    for name, state in (("failed", "failed"), ("failed_before", "failed"), ("died", "running"), ("preempted",) * 2):
        records.write_state(cells[name], state)
    before = records.read_json(cells["failed_before"] / records.STATE)
    records.write_json(cells["failed_before"] / records.STATE, before | {"updated": launched - 1})
    parent = written(tmp_path / "parent-0123456789abcdef", tiny(method="vanilla"))
    write_config(cells["child"], tiny(**{"method.start_from": str(parent)}))
    (cells["killed_late"] / ".predictions.npz.node.7.tmp").touch()
    with io.lock(cells["locked"] / records.LOCK), io.lock(cells["claimed"] / records.CONFIG):
        cell_pack.train_pack(list(cells.values()), launched)
    assert trained == ["new", "failed_before", "preempted"]
    assert sorted(path.name for path in cells["killed_late"].iterdir()) == [records.CONFIG, records.RESULT]
    assert (cells["done"] / records.STATE).exists(), "a cell with checkpoints keeps its files"
    finish(parent)
    cell_pack.train_pack(list(cells.values()), launched)
    assert trained[3:] == ["locked", "claimed", "child"]


@pytest.mark.usefixtures("as_task")
def test_an_error_of_one_cell_is_printed_and_the_next_is_trained(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, good = written(tmp_path / "broken", tiny()), written(tmp_path / "good", tiny())
    (broken / records.CONFIG).write_text("seed: [", encoding="utf-8")
    monkeypatch.setattr(slurm_task, "_train", lambda cell, *_: "done")
    cell_pack.train_pack([broken, good], time.time())
    assert records.read_state(broken).state == "failed"
    assert [past.how for past in attempts.read(broken)] == ["failed"]
    assert [past.how for past in attempts.read(good)] == ["done"]
    assert "broken: " in capsys.readouterr().err


@pytest.mark.usefixtures("as_task")
def test_no_cell_is_begun_that_the_time_limit_would_cut_off(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [written(tmp_path / str(i), tiny(**{"runtime.grace": 60.0})) for i in range(4)]
    clock, trained, queued = [0.0], list[str](), list[str]()

    def train(cell: Path, **_: Any) -> None:
        trained.append(cell.name)
        records.write_json(cell / records.RESULT, {})
        clock[0] += 100.0

    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(slurm_task, "train_cell", train)
    monkeypatch.setattr(cell_pack, "running_seconds", lambda: clock[0])
    monkeypatch.setattr(slurm_task, "requeue_job", queued.append)
    # 150 s are less than 1.2 times a cell's 100 s and its grace of 60 s.
    monkeypatch.setattr(slurm_task, "end_time", lambda facts: datetime.now() + timedelta(seconds=150))
    monkeypatch.setattr(slurm_task, "job_facts", lambda job: {})
    for begun in (1, 2):  # each start of the job trains one: it has no measure before
        with pytest.raises(SystemExit) as ended:
            cell_pack.train_pack(cells, time.time())
        assert ended.value.code == 75
        assert len(trained) == begun
    assert queued == ["7", "7"]
    monkeypatch.setattr(slurm_task, "end_time", lambda facts: datetime.now() + timedelta(seconds=500))
    cell_pack.train_pack(cells, time.time())
    assert trained == ["0", "1", "2", "3"]


@pytest.mark.usefixtures("as_task")
def test_a_signal_between_two_cells_leaves_the_rest_unbegun(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [written(tmp_path / str(i), tiny()) for i in range(3)]

    def train(cell: Path, **_: Any) -> None:
        records.write_json(cell / records.RESULT, {})
        signals._set_flag(signal.SIGUSR2, None)

    monkeypatch.setattr(slurm_task, "train_cell", train)
    with pytest.raises(SystemExit):
        cell_pack.train_pack(cells, time.time())
    assert states(cells) == ["done", "new", "new"]
    assert sorted(path.name for path in cells[1].iterdir()) == [records.CONFIG]


def _work(cells: list[Path], first: int) -> None:
    os.environ.update(AS_TASK | {"SUBMITIT_LOCAL_JOB_ID": str(first)})
    cell_pack.train_pack([*cells[first:], *cells[:first]], launched=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", cases(sample=2, full=20))
def test_a_killed_process_loses_the_cell_that_it_was_training_and_nothing_else(
    tiny: Make, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    settings = {"runtime.keep_checkpoints": False, "runtime.checkpoints": False}
    configs = [tiny(backbone="caer_net", method="vanilla", seed=i, **settings) for i in range(4)]
    cells = [written(tmp_path / f"cell-{i}", config) for i, config in enumerate(configs)]
    folders = [str(cell) for cell in cells]
    code = f"from pathlib import Path\nfrom clef.engine import cell_pack\ncells = map(Path, {folders!r})\n"
    code += "cell_pack.train_pack(list(cells), 1e18)"
    environment = os.environ | AS_TASK
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    at = draw.randrange(4)  # killed somewhere in this cell
    while records.read_state(cells[at]).state == "new" and process.poll() is None:
        time.sleep(0.01)
    time.sleep(draw.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = states(cells)
    done = found.count("done")
    assert found[:done] == ["done"] * done
    assert set(found[done : done + 1]) <= {"died", "new"}
    assert set(found[done + 1 :]) <= {"new"}
    kept = [io.sha256(cell / records.RESULT) for cell in cells[:done]]
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, stderr=subprocess.DEVNULL)
    assert states(cells) == ["done"] * 4
    assert [io.sha256(cell / records.RESULT) for cell in cells[:done]] == kept, "what was done is not trained again"
    assert all(len(list(cell.iterdir())) <= 4 for cell in cells)


@pytest.mark.slow
def test_processes_that_share_a_list_train_each_cell_once(tiny: Make, tmp_path: Path) -> None:
    cells = [written(tmp_path / str(i), tiny(backbone="caer_net", method="vanilla", seed=i)) for i in range(5)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(cells, first)) for first in (0, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert states(cells) == ["done"] * 5
    assert all(len(attempts.read(cell)) == 1 for cell in cells)
