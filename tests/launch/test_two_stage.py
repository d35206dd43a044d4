"""Cells that start from their own vanilla cell: they wait for just that one, and are known by it."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from clef import methods
from clef.cells import records
from clef.cells.identity import signature_of, write_config
from clef.config import CellConfig, resolve
from clef.config import grid as grids
from clef.engine import model_io
from clef.errors import CellError, ConfigError
from clef.results import gather
from launch import local
from launch import plan as plans
from tests.launch import tiny_grid

PRESETS = {"two_stage": {"method": "clef", "set": {"method.start_from": "@vanilla"}}}
METHODS = ["two_stage", "vanilla"]


def write(path: Path, *overrides: dict[str, Any], **axes: Any) -> Path:
    """A grid that lists the cells that start from others first."""
    axes = {"datasets": ["caer_s_demo"], "backbones": ["caer_net"], "methods": METHODS} | axes
    return tiny_grid.write(path, *overrides, presets=PRESETS, **axes)


def planned(path: Path, shards: Path, out: Path) -> dict[str, plans.PlannedCell]:
    places = {"runtime": {"shards": str(shards), "output_dir": str(out)}}
    made = grids.resolve_cells(grids.load_grid(path), path.name, places)
    return {cell.config.name: cell for cell in plans.make_plan(path.stem, made).cells}


CHILD, PARENT = "caer_s_demo-caer_net-two_stage-s0", "caer_s_demo-caer_net-vanilla-s0"


def test_a_cell_knows_its_own_parent_and_is_known_by_it(shards: Path, tmp_path: Path) -> None:
    cells = planned(write(tmp_path / "a.yaml", seeds=[0, 1]), shards, tmp_path / "runs")
    for seed in (0, 1):
        child = cells[f"caer_s_demo-caer_net-two_stage-s{seed}"]
        folder = cells[f"caer_s_demo-caer_net-vanilla-s{seed}"].folder
        assert child.parent == folder
        assert child.config.method.parent == str(folder)
    longer = {"where": {"method": "vanilla"}, "set": {"epochs": 2}}
    other = planned(write(tmp_path / "b.yaml", longer), shards, tmp_path / "runs")
    assert other[CHILD].config.epochs == cells[CHILD].config.epochs
    assert other[CHILD].folder.name != cells[CHILD].folder.name, "another parent makes another cell"  # type: ignore[union-attr]


def test_a_parent_that_keeps_no_weights_is_refused_before_anything_is_trained(shards: Path, tmp_path: Path) -> None:
    small = {"where": {"method": "vanilla"}, "set": {"runtime.checkpoints": False}}
    cell = planned(write(tmp_path / "a.yaml", small), shards, tmp_path / "runs")[CHILD]
    assert (cell.folder, cell.state) == (None, "wrong config")
    assert f"starts from {PARENT}, which keeps no weights (runtime.checkpoints=false)" in str(cell.error)
    assert "set runtime.checkpoints=true where method=vanilla" in str(cell.error)


def test_where_the_parent_lies_does_not_matter(tiny: Callable[..., CellConfig], shards: Path) -> None:
    from clef.data import manifest as manifests

    manifest = manifests.load(shards / "caer_s_demo")
    marks = {
        signature_of(tiny(**{"method.start_from": f"{where}/name-{mark}"}), manifest)
        for where in ("here", "/over/there")
        for mark in ("0123456789abcdef",)
    }
    assert len(marks) == 1
    assert signature_of(tiny(**{"method.start_from": "here/name-fedcba9876543210"}), manifest) not in marks
    with pytest.raises(ConfigError, match="a cell's folder, NAME-SIGNATURE, is expected"):
        signature_of(tiny(**{"method.start_from": "@vanilla"}), manifest)


@pytest.mark.slow
def test_the_parent_is_trained_first_whatever_the_order(shards: Path, tmp_path: Path) -> None:
    grid = write(tmp_path / "two.yaml")
    done = tiny_grid.launch(grid, shards, tmp_path, "--local", "2")
    assert done.returncode == 0, done.stderr
    results = tiny_grid.results(tmp_path, "two")
    assert set(results) == {CHILD, PARENT}
    log = [line for line in done.stderr.splitlines() if "_net" in line]
    assert log.index(f"[2/2] {PARENT}: done") < log.index(f"[1/2] {CHILD}: running")
    config = resolve.from_yaml(results[CHILD].parent / "config.yaml")
    assert config.method.parent == str(results[PARENT].parent.resolve())
    table = (tmp_path / "results/two/tables.md").read_text()
    assert "| CAER-Net | two_stage° |" in table

    # The backbone that the child started from is the one that its parent was tested with.
    counts = [1] * 7
    made = methods.build(config, counts, 7, lambda load: pytest.fail("a dictionary"))
    model_io.load_parent_backbone(config, made)
    best = load_file(results[PARENT].parent / "checkpoints" / "best.safetensors")
    theirs = {key.removeprefix("backbone."): value for key, value in best.items()}
    assert all(torch.equal(value, theirs[key]) for key, value in made.backbone.state_dict().items())


@pytest.mark.slow
def test_when_the_parent_fails_the_child_says_so(shards: Path, tmp_path: Path) -> None:
    grid = write(tmp_path / "ill.yaml", {"where": {"method": "vanilla"}, "set": {"optimizer.lr": 1e30}})
    done = tiny_grid.launch(grid, shards, tmp_path, "--local", "2")
    assert done.returncode == CellError.exit_code
    table = (tmp_path / "results/ill/tables.md").read_text()
    assert f"no number from {PARENT}: failed" in table
    assert f"no number from {CHILD}: not run: the cell that it starts from has failed" in table
    cells = planned(grid, shards, tmp_path / "runs")
    assert [(cells[name].state, cells[name].todo) for name in (PARENT, CHILD)] == [("failed", False), ("new", False)]
    records.write_state(cells[PARENT].folder, "died")  # type: ignore[arg-type]
    assert all(cell.todo for cell in planned(grid, shards, tmp_path / "runs").values())


def test_weights_of_another_backbone_are_refused(tiny: Callable[..., CellConfig], tmp_path: Path) -> None:
    folder = tmp_path / "vanilla-0123456789abcdef"
    other = methods.build(
        tiny(backbone="caer_net", method="vanilla"), [1] * 7, 7, lambda load: pytest.fail("a dictionary")
    )
    (folder / "checkpoints").mkdir(parents=True)
    save_file(other.state_dict(), folder / "checkpoints" / "best.safetensors")
    (folder / records.RESULT).write_text(json.dumps({"val": 1.0}))
    write_config(folder, tiny(backbone="caer_net", method="vanilla"))
    config = tiny(**{"method.start_from": str(folder)})
    with pytest.raises(
        CellError, match=r"a vanilla cell of emot_net .* is expected to start from, not vanilla of caer_net"
    ):
        model_io.load_parent_backbone(
            config, methods.build(config, [1] * 7, 7, lambda load: pytest.fail("a dictionary"))
        )


def test_children_never_run_beside_their_parent(shards: Path, tmp_path: Path) -> None:
    cells = planned(write(tmp_path / "c.yaml"), shards, tmp_path / "runs")
    child, first = cells[CHILD], cells[PARENT]
    packs: list[local._Pack] = []

    def taken(waiting: list[plans.PlannedCell]) -> list[plans.PlannedCell] | None:
        pack = local._next_pack(waiting, packs, 2, lambda cell, state: None)
        if pack is not None:
            pack.workers = 1
        return pack and pack.cells

    assert taken([child, first]) == [first]
    assert taken([child]) is None, "its parent is in training"
    packs.clear()
    records.write_json(plans.cell_folder(first) / records.RESULT, {})
    assert taken([child]) == [child]


def test_debug_refuses_a_cell_whose_parent_is_not_trained(shards: Path, tmp_path: Path) -> None:
    plan = plans.Plan("d", list(planned(write(tmp_path / "d.yaml"), shards, tmp_path / "runs").values()))
    args = argparse.Namespace(cells="*two_stage*", out=str(tmp_path / "runs"))
    with pytest.raises(ConfigError, match=rf"--debug: {CHILD}: it starts from {PARENT}-\w+; train that first"):
        local.debug_cell(plan, args)


def test_cells_that_were_cancelled_are_trained_again_here(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list(planned(write(tmp_path / "e.yaml"), shards, tmp_path / "runs").values())
    for cell in made:
        records.write_json(plans.cell_folder(cell) / records.CANCELLED, {"by": "me"})
    plan = plans.make_plan("e", [cell.config for cell in made], retry=True)
    given_up: list[bool] = []

    def train(cells: list[plans.PlannedCell], *_: Any) -> dict[Path, str]:
        given_up.extend(local._is_cancelled(cell) for cell in cells)
        return {}

    monkeypatch.setattr(local, "_train_with_display", train)
    monkeypatch.setattr(gather, "gather_grid", lambda path, results: None)
    args = argparse.Namespace(out=str(tmp_path / "runs"), grid=Path("e.yaml"), results="results", local=1)
    assert local.train_grid(lambda: plan, args) == 0
    assert given_up == [False, False]
