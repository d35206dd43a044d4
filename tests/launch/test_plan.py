"""From a grid's YAML to its cells and their states, and what the command says before anything trains."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from clef import io, networks
from clef.cells import records
from clef.cells.identity import check_cell
from clef.cells.plan_file import PlannedRun, write_plan
from clef.config import CellConfig, resolve
from clef.config import grid as grids
from clef.config.grid import Grid
from clef.data import manifest as manifests
from clef.errors import ConfigError, SetupError, ShardError
from clef.networks import NetworkRecord
from clef.results import gather
from clef.yaml_config import nest, read_yaml, resource
from launch import ledger, local, plan_table
from launch import plan as plans
from launch.ledger import ActiveJobs
from tests.launch import tiny_grid

Point = tuple[str, str, str, int]


def configs(path: Path, **extra: Any) -> list[CellConfig]:
    return grids.resolve_cells(grids.load_grid(path), path.name, nest(extra))


def grid(**changes: Any) -> Grid:
    return Grid.model_validate(tiny_grid.AXES | changes)


def points(made: list[CellConfig]) -> list[Point]:
    return [(c.dataset, c.backbone.name, c.method.name, c.seed) for c in made]


def refusal(act: Callable[[], Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        act()
    return str(caught.value)


# ---- which cells there are ----


def test_a_grid_is_the_product_of_its_axes_in_the_order_given() -> None:
    made = grids.resolve_cells(grid(seeds=[2, 0]), "grid", {})
    assert points(made) == [
        (dataset, backbone, method, seed)
        for dataset in ("emotic_demo", "caer_s_demo")
        for backbone in ("emot_net", "caer_net")
        for method in ("vanilla", "clef")
        for seed in (2, 0)
    ]


def test_an_exclusion_takes_out_the_cells_that_match_on_all_it_names() -> None:
    excluded = [{"dataset": "emotic_demo", "method": "clef"}, {"backbone": ["caer_net"]}]
    made = grids.resolve_cells(grid(exclude=excluded), "grid", {})
    assert points(made) == [
        ("emotic_demo", "emot_net", "vanilla", 0),
        ("caer_s_demo", "emot_net", "vanilla", 0),
        ("caer_s_demo", "emot_net", "clef", 0),
    ]
    several = [{"dataset": ["emotic_demo", "caer_s_demo"], "method": ["clef"]}, {"backbone": "caer_net"}]
    made = grids.resolve_cells(grid(exclude=several), "grid", {})
    assert points(made) == [("emotic_demo", "emot_net", "vanilla", 0), ("caer_s_demo", "emot_net", "vanilla", 0)]


def test_later_overrides_win_over_earlier_ones_and_the_command_line_over_all() -> None:
    overrides = [
        {"set": {"epochs": 3, "optimizer.lr": 0.5, "batch_size": 8}},
        {"where": {"method": "clef"}, "set": {"epochs": 4, "optimizer": {"lr": 0.25}}},
    ]
    made = grids.resolve_cells(grid(overrides=overrides), "grid", {"batch_size": 64})
    by_method = {c.method.name: (c.epochs, c.optimizer.lr, c.batch_size) for c in made}
    assert by_method == {"vanilla": (3, 0.5, 64), "clef": (4, 0.25, 64)}


def test_a_recipe_is_below_the_overrides() -> None:
    plain = grids.resolve_cells(grid(backbones=["caer_net"]), "grid", {})
    changed = grids.resolve_cells(grid(backbones=["caer_net"], overrides=[{"set": {"epochs": 3}}]), "grid", {})
    assert {c.epochs for c in changed} == {3}
    assert [c.model_copy(update={"epochs": 3}) for c in plain] == changed


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"dataset": ["emotic"]}, "dataset: unknown (did you mean datasets?)"),
        ({"exclude": [{"backbon": "emot_net"}]}, "exclude.0.backbon: unknown (did you mean backbone?)"),
        ({"overrides": [{"when": {}, "set": {}}]}, "overrides.0.when: unknown"),
        ({"seeds": []}, "seeds:"),
        ({"seeds": ["one"]}, "seeds.0:"),
    ],
)
def test_a_grid_file_that_is_wrong_is_told_where(tmp_path: Path, content: dict[str, Any], expected: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(json.dumps(tiny_grid.AXES | content))
    text = refusal(lambda: grids.load_grid(path))
    assert str(path) in text
    assert expected in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"overrides": [{"set": {"epoch": 1}}]}, "epoch: unknown (did you mean epochs?)"),
        ({"overrides": [{"set": {"optimizer.rl": 1}}]}, "optimizer.rl: unknown (did you mean lr?)"),
        ({"backbones": ["emotnet"]}, "backbones: 'emotnet': unknown (did you mean emot_net?); valid: caer_net"),
        ({"methods": ["clf"]}, "methods: 'clf': unknown (did you mean clef?)"),
        ({"seeds": [0, 1, 0]}, "lists a value twice"),
        ({"exclude": [{"backbone": "emotnet"}]}, "exclude.backbone: 'emotnet': unknown (did you mean emot_net?)"),
        ({"overrides": [{"where": {"seed": 5}, "set": {}}]}, "overrides.where.seed: 5: unknown; valid: 0"),
        ({"overrides": [{"set": {"seed": 5}}]}, "seed=5: seed is an axis of the grid; change seeds"),
        ({"overrides": [{"set": {"backbone.name": "caer_net"}}]}, "backbone=caer_net: backbone is an axis"),
        ({"exclude": [{"method": "vanilla"}, {"method": "clef"}]}, "no cell is left"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(changes: dict[str, Any], expected: str) -> None:
    assert expected in refusal(lambda: grids.resolve_cells(grid(**changes), "grid", {}))


def test_an_axis_is_not_changed_from_the_command_line() -> None:
    assert "method is an axis" in refusal(lambda: grids.resolve_cells(grid(), "grid", {"method": "clef"}))


# ---- what state they are in ----


@pytest.fixture
def one_cell(shards: Path, tmp_path: Path) -> list[CellConfig]:
    path = tiny_grid.write(tmp_path / "one.yaml", datasets=["caer_s_demo"], backbones=["caer_net"], methods=["vanilla"])
    return configs(path, **{"runtime.shards": str(shards), "runtime.output_dir": str(tmp_path / "runs")})


def planned(made: list[CellConfig], live: bool = False) -> plans.PlannedCell:
    cell = plans.make_plan("one", made).cells[0]
    names = [cell.folder.name] if live and cell.folder else []
    return plans.make_plan("one", made, names).cells[0]


def folder_of(made: list[CellConfig]) -> Path:
    folder = planned(made).folder
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_a_cell_that_left_nothing_is_new(one_cell: list[CellConfig], tmp_path: Path) -> None:
    cell = planned(one_cell)
    assert (cell.state, cell.todo, cell.error) == ("new", True, None)
    assert cell.folder is not None
    assert cell.folder.parent == tmp_path / "runs" / "one"
    assert cell.folder.name.startswith("caer_s_demo-caer_net-vanilla-s0-")


@pytest.mark.parametrize(
    ("written", "state"), [("stopped", "stopped"), ("preempted", "preempted"), ("running", "died")]
)
def test_a_cell_that_no_process_holds_is_to_do(one_cell: list[CellConfig], written: str, state: str) -> None:
    records.write_state(folder_of(one_cell), written, reason="x")
    cell = planned(one_cell)
    assert (cell.state, cell.todo, cell.skipped) == (state, True, False)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_what_failed_or_was_cancelled_is_to_do_only_when_asked_for(one_cell: list[CellConfig], state: str) -> None:
    folder = folder_of(one_cell)
    records.write_state(folder, "failed" if state == "failed" else "preempted", reason="x")
    if state == "cancelled":
        records.write_json(folder / records.CANCELLED, {"by": "me"})
    cell = planned(one_cell)
    assert (cell.state, cell.todo, cell.skipped) == (state, False, True)
    again = plans.make_plan("one", one_cell, retry=True).cells[0]
    assert (again.state, again.todo, again.skipped) == (state, True, False)


def test_a_cell_with_a_result_is_done(one_cell: list[CellConfig]) -> None:
    records.write_state(folder_of(one_cell), "failed", reason="an earlier try")
    records.write_json(folder_of(one_cell) / records.RESULT, {"val": 1.0})
    cell = planned(one_cell, live=True)
    assert (cell.state, cell.todo) == ("done", False)


@pytest.mark.parametrize("written", ["running", "failed"])
def test_a_cell_whose_lock_is_held_is_running(one_cell: list[CellConfig], written: str) -> None:
    folder = folder_of(one_cell)
    records.write_state(folder, written)
    with io.lock(folder / records.LOCK):
        cell = planned(one_cell)
        assert (cell.state, cell.todo) == ("running", False)
    assert planned(one_cell).todo == (written == "running")


@pytest.mark.parametrize(("written", "state"), [(None, "queued"), ("failed", "queued"), ("running", "running")])
def test_a_cell_with_a_live_job_is_left_to_it(one_cell: list[CellConfig], written: str | None, state: str) -> None:
    if written:
        records.write_state(folder_of(one_cell), written)
    cell = planned(one_cell, live=True)
    assert (cell.state, cell.todo) == (state, False)


def test_no_shards_stand_in_the_way(one_cell: list[CellConfig], tmp_path: Path) -> None:
    runtime = one_cell[0].runtime.model_copy(update={"shards": str(tmp_path / "nowhere")})
    cell = planned([one_cell[0].model_copy(update={"runtime": runtime})])
    assert (cell.state, cell.folder, cell.todo) == ("no shards", None, False)
    assert isinstance(cell.error, ShardError)
    assert "python -m clef.shard --dataset caer_s_demo" in str(cell.error)
    assert cell.as_run().reason == str(cell.error)


@pytest.mark.parametrize("done", [True, False])
def test_what_is_done_is_gathered_though_the_rest_cannot_be_trained(
    one_cell: list[CellConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    runtime = one_cell[0].runtime.model_copy(update={"shards": str(tmp_path / "nowhere")})
    blocked = one_cell[0].model_copy(update={"runtime": runtime, "seed": 1})
    made = [*one_cell, blocked] if done else [blocked]
    records.write_json(folder_of(one_cell) / records.RESULT, {})
    gathered: list[Path] = []
    monkeypatch.setattr(gather, "gather_grid", lambda path, results: gathered.append(path))
    args = argparse.Namespace(out=str(tmp_path / "runs"), grid=Path("one.yaml"), results="results", local=1)
    with pytest.raises(ShardError, match="1 cell can't be trained"):
        local.train_grid(lambda: plans.make_plan("one", made), args)
    assert len(gathered) == done


@pytest.mark.parametrize(
    ("setting", "state", "error"),
    [
        ({"method.context_branch.input": "scene_without_person"}, "wrong shards", "made without the cue `person`"),
        ({"method.start_from": "no-signature"}, "wrong config", "a cell's folder, NAME-SIGNATURE, is expected"),
    ],
)
def test_the_state_of_an_untrainable_cell_says_what_is_wrong(
    setting: dict[str, Any], state: str, error: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_cues = plans.manifests.load(shards / "caer_s_demo").model_copy(update={"cues": {}})
    monkeypatch.setattr(plans.manifests, "load", lambda _: without_cues)
    path = tiny_grid.write(tmp_path / "one.yaml", datasets=["caer_s_demo"], backbones=["caer_net"], methods=["clef"])
    cell = planned(configs(path, **{"runtime.shards": str(shards)}, **setting))
    assert (cell.state, cell.todo, cell.folder) == (state, False, None)
    assert error in str(cell.error)


@pytest.mark.parametrize(("name", "mode"), [("", 0o755), ("checkpoints", 0o755), ("log.jsonl", 0o644), ("lock", 0o644)])
def test_a_cell_that_a_colleague_may_not_write_is_not_trained(
    one_cell: list[CellConfig], monkeypatch: pytest.MonkeyPatch, name: str, mode: int
) -> None:
    """What a member of no group may do, by the modes alone."""
    monkeypatch.setattr(os, "access", lambda path, needed, **_: os.stat(path).st_mode & needed == needed)
    folder = folder_of(one_cell)
    (folder / "checkpoints").mkdir()
    for path in (folder / "checkpoints", folder):
        path.chmod(0o777)
    for file in ("log.jsonl", "lock", "state.json"):
        (folder / file).touch()
        (folder / file).chmod(0o666)
    (folder / "state.json").chmod(0o644)  # a new one takes its place
    assert planned(one_cell).todo
    (folder / name).chmod(mode)
    cell = planned(one_cell)
    assert (cell.state, cell.todo, cell.folder) == ("not writable", False, folder)
    assert str(cell.error).startswith(f"{folder / name}: you may not write to it")
    assert f"chmod -R g+rwX {folder}" in str(cell.error)
    records.write_state(folder, "failed", reason="x")
    assert planned(one_cell).state == "failed", "it is not to be trained"


def test_missing_weights_stand_in_the_way(shards: Path, tmp_path: Path) -> None:
    extra = nest({"runtime": {"shards": str(shards), "weights": str(tmp_path)}})
    made = grids.resolve_cells(grid(backbones=["emot_net"]), "grid", extra)
    cell = planned(made)
    assert (cell.state, cell.todo) == ("no weights", False)
    assert isinstance(cell.error, SetupError)
    assert str(tmp_path) in str(cell.error)


def test_missing_weights_of_an_encoder_by_name_are_one_line_with_the_command(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = NetworkRecord("timm:a", (32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 8)
    monkeypatch.setitem(networks._known, "timm:a", record)
    extra = nest({"runtime": {"shards": str(shards), "weights": str(tmp_path)}})
    extra["backbone"] = {"encoders": {"context": None, "body": {"network": "timm:a", "weights": "published"}}}
    cell = planned(grids.resolve_cells(grid(backbones=["encoders"], methods=["vanilla"]), "grid", extra))
    assert cell.state == "no weights"
    assert f"run `python -m clef.weights --fetch timm:a --folder {tmp_path}`" in str(cell.error)
    assert "\n" not in str(cell.error)


def test_only_what_changes_the_result_changes_the_folder(one_cell: list[CellConfig], tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    same = {
        "runtime.shards": one_cell[0].runtime.shards, "runtime.output_dir": one_cell[0].runtime.output_dir,
        "runtime.num_workers": 3, "runtime.threads": 2, "runtime.log_every": 7, "resources": {"gpus": 4, "hours": 99},
    }  # fmt: skip
    assert folder_of(configs(path, **same)) == folder_of(one_cell)
    for setting in ({"epochs": 2}, {"batch_size": 8}, {"optimizer.lr": 0.5}, {"backbone.dropout": 0.1}):
        assert folder_of(configs(path, **same, **setting)) != folder_of(one_cell)


def test_a_cell_of_relative_paths_is_the_same_cell_to_whatever_reads_its_folder(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(b"weights")
    (tmp_path / "shards").symlink_to(shards)
    card = read_yaml(resource("shards/caer_s_demo.yaml")) | {"title": "Mine"}
    (tmp_path / "caer_s_demo.yaml").write_text(yaml.safe_dump(card))
    path = tiny_grid.write(
        tmp_path / "one.yaml", datasets=["./caer_s_demo.yaml"], backbones=["emot_net"], methods=["clef"]
    )
    relative = {"backbone.weights.body": "./w.pth", "method.context_branch.weights": "./w.pth"}
    cell = planned(configs(path, **relative))
    assert (cell.state, cell.as_run().dataset) == ("new", "caer_s_demo")
    folder = Path(plans.prepare_cell(cell, threads=1))
    monkeypatch.chdir("/")
    config = resolve.from_yaml(folder / "config.yaml")
    assert config.dataset == str(tmp_path / "caer_s_demo.yaml")
    check_cell(folder, config, manifests.load(config.shards))


def test_plan_names_folders_beside_it_so_that_it_can_be_moved(one_cell: list[CellConfig]) -> None:
    folder = planned(one_cell).folder
    assert folder is not None
    assert planned(one_cell).as_run().folder == folder.name


def test_seeds_in_a_row_are_shown_as_a_span() -> None:
    assert plan_table._seed_ranges([0, 1, 2]) == "0 1 2"
    assert plan_table._seed_ranges([*range(334), 400, 401, 7]) == "0-333 400 401 7"


def test_cells_that_differ_in_their_seed_alone_share_the_rest_and_still_obey_its_overrides() -> None:
    overrides = [{"where": {"seed": 2}, "set": {"epochs": 9}}, {"set": {"batch_size": 16}}]
    made = grids.resolve_cells(grid(seeds=[0, 1, 2], overrides=overrides), "grid", {})
    assert all(c.batch_size == 16 and (c.epochs == 9) == (c.seed == 2) for c in made)
    for config in made:
        axes = {"datasets": [config.dataset], "backbones": [config.backbone.name], "methods": [config.method.name]}
        fitting = overrides if config.seed == 2 else overrides[1:]  # an override of no cell is refused
        alone = grids.resolve_cells(grid(seeds=[config.seed], overrides=fitting, **axes), "grid", {})
        assert alone == [config]
    with pytest.raises(ValueError, match=r"seeds\.1"):
        grid(seeds=[0, -1])


# ---- which cells Slurm still holds ----


def fake_command(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def submissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grid's folder: cells a and b were tasks of array 12, c job 15, and d was sent twice. squeue is a script."""
    for job, cells in {"12": ["a", "b", "d"], "15": ["c"], "3": ["x", "d"]}.items():
        entry = ledger.new_submission(tmp_path, "cells", cells, array=len(cells) > 1)
        ledger.complete_submission(tmp_path, entry, job)
    ledger.drop_submission(tmp_path, ledger.new_submission(tmp_path, "cells", ["a"]))
    (tmp_path / "x").mkdir()
    (tmp_path / "x/result.json").write_text("{}")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    return tmp_path


QUEUE = """
12|0|COMPLETED|None|node1|0:10|clef-g-1
12|1|RUNNING|None|node1|0:10|clef-g-1
12|2|PENDING|Resources||0:10|clef-g-1
15|N/A|PENDING|Resources||0:10|clef-g-2
3|1|TIMEOUT|TimeLimit|node2|0:10|clef-g-3
40|0|RUNNING|None|node2|0:10|other
""".strip()


def test_a_cell_is_queued_while_its_array_task_or_job_is_alive(submissions: Path) -> None:
    fake_command(submissions / "bin", "squeue", f"cat <<END\n{QUEUE}\nEND")
    assert ledger.query_active_jobs(submissions).cells == {"b": "12_1", "c": "15", "d": "12_2"}


def test_the_users_filters_for_squeue_hide_no_job(submissions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(submissions / "bin", "squeue", f'[ -n "$SQUEUE_PARTITION" ] || cat <<END\n{QUEUE}\nEND')
    monkeypatch.setenv("SQUEUE_PARTITION", "debug")
    assert set(ledger.query_active_jobs(submissions).cells) == {"b", "c", "d"}


def test_no_answer_from_squeue_is_an_error_and_not_an_empty_queue(submissions: Path) -> None:
    fake_command(submissions / "bin", "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(SetupError, match=r"Unable to contact slurm controller.*try again"):
        ledger.query_active_jobs(submissions)


def test_squeue_is_not_asked_about_a_grid_that_is_done(submissions: Path) -> None:
    fake_command(submissions / "bin", "squeue", "exit 1")
    ledger.complete_submission(submissions, ledger.new_submission(submissions, "gather", [], after=["12"]), "16")
    for cell in "abcd":
        (submissions / cell).mkdir()
        (submissions / cell / "result.json").write_text("{}")
    assert ledger.query_active_jobs(submissions) == ActiveJobs()


def test_without_squeue_nothing_is_queued(submissions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(submissions / "bin"))
    assert ledger.query_active_jobs(submissions) == ActiveJobs()


def test_a_record_that_is_none_is_named(submissions: Path) -> None:
    (submissions / "submissions/clef-g-0.json").write_text('{"tag": "x", "jobs": 3}')
    with pytest.raises(SetupError, match=r"clef-g-0.json: no record of a submission; look at squeue"):
        ledger.read_submissions(submissions)


# ---- the command ----


def command(*arguments: str, base: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, tiny_grid.ROOT / "launch/grid.py", *arguments],
        cwd=base, env=os.environ | environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


@pytest.mark.slow
def test_planning_and_status_import_nothing_slow(tmp_path: Path) -> None:
    write_plan(tmp_path / "runs", "paper", [PlannedRun("c", "emotic", "emot_net", "clef", 0, "c")])
    code = """
import sys
import launch.submit, clef.engine.slurm_task
from launch import grid
for options in (["--dry-run"], ["--dry-run", "--partition", "gpu"], ["--status"]):
    sys.argv = ["grid.py", *options]
    assert grid.main() == 0
slow = {"torch", "torchvision", "pandas", "scipy", "sklearn", "matplotlib", "cv2", "accelerate"}
sys.exit(f"imported: {slow & sys.modules.keys()}" if slow & sys.modules.keys() else 0)
"""
    environment = os.environ | {"PYTHONPATH": str(tiny_grid.ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_plan_of_the_paper_names_what_is_missing(tmp_path: Path) -> None:
    done = command("--dry-run", base=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "grid paper: 150 cells" in done.stdout
    assert "left out" not in done.stdout
    assert done.stdout.count("5 no shards") == 30
    assert "python -m clef.shard --dataset emotic " in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_grid_without_its_shards_is_not_begun(tmp_path: Path) -> None:
    done = command("--local", base=tmp_path)
    assert done.returncode == ShardError.exit_code
    assert "150 cells can't be trained" in done.stderr
    assert "python -m clef.shard --dataset caer_s " in done.stderr


@pytest.mark.slow
def test_without_slurm_the_way_out_is_named(tmp_path: Path) -> None:
    done = command("--partition", "gpu", base=tmp_path, PATH=str(tmp_path))
    assert done.returncode == SetupError.exit_code
    assert "sbatch" in done.stderr
    assert "--local" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--partition NAME (Slurm) or --local [N]"),
        (["--local", "epochs=1"], "put key=value before --local"),
        (["--local", "0"], "a number of cells is expected, not '0'"),
        (["--dry-run", "epohcs=1"], "epohcs: unknown (did you mean epochs?)"),
        (["--dry-run", "seed=3"], "seed is an axis of the grid"),
        (["--dry-run", "--all"], "--all: needs --status or --watch"),
        (["--status", "--follow"], "--follow: needs --logs"),
        (["--dry-run", "--grid", "nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)
def test_a_slip_on_the_command_line_is_explained(tmp_path: Path, arguments: list[str], expected: str) -> None:
    done = command(*arguments, base=tmp_path)
    assert done.returncode == ConfigError.exit_code
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_tables_of_a_grid_that_was_never_planned_are_refused(tmp_path: Path) -> None:
    done = command("--gather", base=tmp_path)
    assert done.returncode == 6
    assert "run the grid first" in done.stderr
