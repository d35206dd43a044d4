"""`python -m clef.audit`: what it prints and writes, that it writes the same again, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import clef.audit.__main__ as command
from clef.cells import records
from clef.cells.audits import find_value, read_audit
from clef.cells.plan_file import PlannedRun, write_plan
from tests.conftest import Cells, Run

pytestmark = pytest.mark.xdist_group("audited")


@pytest.fixture
def run(run_of: Callable[..., Run]) -> Run:
    return run_of(command.main)


def plan(runs: Path, grid: str, folder: str | None) -> None:
    write_plan(runs, grid, [PlannedRun("caer_s_demo-emot_net-clef-s0", "caer_s_demo", "emot_net", "clef", 0, folder)])


@pytest.mark.slow
def test_an_audit_agrees_with_what_the_cell_recorded(run: Run, cells: Cells) -> None:
    folder = cells("caer_s_demo", "emot_net", "clef")
    code, said, told = run(folder, "--draws", 2, "--again")
    assert code == 0
    assert "the subject can be seen in scene too, so a swap also shows another subject" in said
    assert "test_shift: 315/315 predictions" in told
    for split in ("test", "test_shift"):
        assert f"{split}: mean effects, over who has the class" in said
    made = read_audit(folder)
    assert made is not None
    result = records.read_json(folder / records.RESULT)
    for split, recorded in result["splits"].items():
        assert find_value(made.rows, split, "value.score") == pytest.approx(recorded["value"])
        assert find_value(made.rows, split, "value.factual") == pytest.approx(recorded["variants"]["factual"])
        for label, value in recorded["per_class"].items():
            assert find_value(made.rows, split, "value.score", label) == pytest.approx(value)
    content = json.loads((folder / "audit.json").read_text())
    assert content["signature"] == folder.name[-16:]
    assert content["code"] == records.code_version()
    assert set(content["frames"]) == {"train", "test", "test_shift"}
    assert all(np.isfinite(row["value"]) and row["samples"] > 0 for row in content["rows"])
    keys = [(row["name"], row["split"], row["class"]) for row in content["rows"]]
    assert len(set(keys)) == len(keys)


@pytest.mark.slow
def test_an_audit_is_read_where_it_lies_and_comes_out_the_same_again(run: Run, cells: Cells, tmp_path: Path) -> None:
    folder = cells("caer_s_demo", "emot_net", "clef")
    path = folder / "audit.json"
    _, said, _ = run(folder, "--draws", 2, "--again")
    first, when = path.read_bytes(), path.stat().st_mtime_ns
    _, again, told = run(folder, "--draws", 2)
    assert (again, told, path.stat().st_mtime_ns) == (said, "", when), "it is read, not computed"
    run(folder, "--draws", 2, "--again", "--workers", 1)
    assert path.read_bytes() == first
    _, said, _ = run(folder, "--draws", 1)
    assert path.read_bytes() != first
    for name in (folder.name, f"{folder.name[:-16]}{'0' * 16}"):  # the other is of an earlier plan
        shutil.copytree(folder, tmp_path / "g" / name)
    plan(tmp_path, "g", folder.name)
    assert run(tmp_path / "g", "--draws", 1)[:2] == (0, said)


@pytest.mark.slow
def test_several_labels_and_a_grid_at_once(run: Run, cells: Cells, tmp_path: Path) -> None:
    trained = cells("emotic_demo", "emoticon", "vanilla"), cells("caer_s_demo", "emot_net", "clef")
    folder, *_ = (Path(shutil.copytree(one, tmp_path / "grid" / one.name)) for one in trained)
    code, said, told = run(folder.parent, "--draws", 1, "--split", "test", "--split", "test")
    assert code == 0
    assert "emotic_demo, emoticon: mAP, means over cells" in said
    assert "vanilla (1)" in said
    assert "clef (1)" in said
    assert "1/" in told
    made = read_audit(folder)
    assert made is not None
    assert {row.split for row in made.rows} == {"test"}
    assert made.facts["splits"] == ["test"]
    assert find_value(made.rows, "test", "blanked.TIE.own", "Engagement") is not None
    assert made.facts["context_shows_subject"] == ["depth"]


@pytest.mark.slow
def test_what_cannot_be_audited_is_refused(run: Run, cells: Cells, tmp_path: Path) -> None:
    folder = cells("caer_s_demo", "caer_net", "ccim")
    unfinished = Path(shutil.copytree(folder, tmp_path / "runs" / "grid" / folder.name))
    (unfinished / "result.json").unlink()
    shutil.copytree(folder, tmp_path / "runs" / "changed" / folder.name)
    plan(tmp_path / "runs", "changed", None)
    refusals: list[tuple[tuple, int, str]] = [
        (("nosuch",), 2, "nosuch: no such folder"),
        ((folder, "--split", "tset"), 2, "--split tset: no such split in"),
        ((folder, "--draws", 0), 2, "--draws 0: 1 or more are expected"),
        ((unfinished,), 6, "not trained to its end (new); an audit needs its result"),
        ((tmp_path / "runs" / "grid",), 2, "no cell of this grid is done yet"),
        ((tmp_path / "runs" / "changed",), 2, "no cell of this grid is done yet"),
        ((folder, "--shards", tmp_path), 4, "no shards here"),
    ]
    meddled = Path(shutil.copytree(folder, tmp_path / "meddled" / folder.name))
    (meddled / "result.json").write_text('{"run": {}}')
    refusals.append(((meddled,), 6, "an audit needs its result"))
    for arguments, code, message in refusals:
        found, _, said = run(*arguments)
        assert message in said
        assert found == code
    assert not (folder / "audit.json").exists()


def test_a_cell_that_cannot_be_audited_stops_no_other(run: Run, cells: Cells, tmp_path: Path) -> None:
    folder = cells("caer_s_demo", "caer_net", "ccim")
    spoilt, good = (Path(shutil.copytree(folder, tmp_path / "grid" / f"{n}-{folder.name}")) for n in "ab")
    (spoilt / "result.json").write_text('{"run": {}}')
    code, said, told = run(tmp_path / "grid", "--draws", 1, "--split", "test")
    assert code == 6
    assert f"{spoilt.name}: " in told
    assert "an audit needs its result" in told
    assert "ccim" in said
    assert (good / "audit.json").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [(np.zeros(1, int), "--split test: it holds one person"), (np.zeros((9, 7)), "--split test: nobody there has any")],
)
def test_a_split_of_which_an_audit_says_nothing_is_refused(
    run: Run, cells: Cells, monkeypatch: pytest.MonkeyPatch, target: np.ndarray, message: str
) -> None:
    folder = cells("caer_s_demo", "caer_net", "ccim")
    monkeypatch.setattr("clef.audit.run.load_targets", lambda shards: target)
    code, _, said = run(folder, "--split", "test")
    assert (code, message in said) == (2, True)
    assert not (folder / "audit.json").exists()


@pytest.mark.slow
def test_real_processes(tmp_path: Path) -> None:
    for words, code in ((("clef.audit", "--help"), 0), (("clef.audit", "nosuch"), 2)):
        done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True,
                              env=os.environ)  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
