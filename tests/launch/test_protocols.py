"""Two protocols of one dataset in one grid: shards, cells and tables of their own."""

import json
from pathlib import Path

import pytest

from clef.config import CellConfig
from clef.config import grid as grids
from clef.data import manifest as manifests
from clef.demo import caer_s
from clef.errors import ConfigError
from launch import plan
from launch import plan as plans
from tests.launch import tiny_grid

PAPER = {"where": {"backbone": "emot_net"}, "set": {"protocol": "paper", "selection": "last"}}


def configs(path: Path, extra: dict | None = None) -> list[CellConfig]:
    return grids.resolve_cells(grids.load_grid(path), path.name, extra or {})


def test_an_override_sets_the_protocol_and_names_and_shards_tell_it(tmp_path: Path) -> None:
    path = tiny_grid.write(tmp_path / "g.yaml", PAPER, datasets=["emotic_demo"], methods=["vanilla"])
    made = configs(path)
    assert {c.name: str(c.shards) for c in made} == {
        "emotic_demo-paper-emot_net-vanilla-s0": "shards/emotic_demo-paper",
        "emotic_demo-caer_net-vanilla-s0": "shards/emotic_demo",
    }
    plan = plans.make_plan("g", made)
    assert {cell.as_run().protocol for cell in plan.cells} == {"paper", "leak_free"}
    assert {c.dataset_name for c in configs(path, {"protocol": "port"})} == {"emotic_demo-port"}


def test_demo_shards_are_to_make_for_each_protocol(tmp_path: Path) -> None:
    path = tiny_grid.write(tmp_path / "g.yaml", PAPER, methods=["vanilla"])
    made = configs(path, {"runtime": {"shards": str(tmp_path)}})
    wanted = {(each.card, each.protocol) for each in plan.missing_shards(made, {}).values()}
    assert wanted == {(name, p) for name in ("emotic_demo", "caer_s_demo") for p in ("leak_free", "paper")}


def test_without_val_the_best_epoch_is_refused(tmp_path: Path) -> None:
    path = tiny_grid.write(tmp_path / "g.yaml", datasets=["caer_s_demo"])
    with pytest.raises(ConfigError, match="selection=best: the protocol paper of caer_s_demo has no val"):
        configs(path, {"protocol": "paper"})
    assert configs(path, {"protocol": "paper", "selection": "last"})


def test_an_unknown_protocol_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"protocol 'papre': unknown \(did you mean paper\?\)"):
        configs(tiny_grid.write(tmp_path / "g.yaml"), {"protocol": "papre"})


def test_a_cell_cannot_start_from_one_of_another_protocol(tmp_path: Path) -> None:
    path = tiny_grid.write(
        tmp_path / "g.yaml",
        {"where": {"method": "two_stage"}, "set": {"protocol": "paper"}},
        presets={"two_stage": {"method": "clef", "set": {"method.start_from": "@vanilla"}}},
        datasets=["emotic_demo"],
        backbones=["caer_net"],
        methods=["vanilla", "two_stage"],
    )
    with pytest.raises(ConfigError, match="this grid has no emotic_demo-paper-caer_net-vanilla-s0; do overrides"):
        plans.make_plan("g", configs(path))


def _small_set(source: Path, target: Path) -> None:
    """The small demo set where the command looks for the whole one, in whose name it stands there."""
    target.mkdir(parents=True)
    for part in ("main", "shift"):
        (target / part).symlink_to(source / part)
    arguments = json.loads((source / "demo.json").read_text())
    (target / "demo.json").write_text(json.dumps(arguments | {"people": caer_s.DEFAULT_PEOPLE}))


@pytest.mark.slow
def test_a_grid_of_both_makes_its_shards_and_two_tables(shards: Path, sources: Path, tmp_path: Path) -> None:
    """The shards of one protocol are there, those of the other are made on first use."""
    _small_set(sources / "caer_s_demo", tmp_path / "data/caer_s_demo")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/caer_s_demo").symlink_to(shards / "caer_s_demo")
    grid = tiny_grid.write(tmp_path / "both.yaml", PAPER, datasets=["caer_s_demo"], methods=["vanilla"])
    done = tiny_grid.launch(grid, tmp_path / "shards", tmp_path, "--local", "2")
    assert done.returncode == 0, done.stderr
    assert "making the shards of caer_s_demo-paper" in done.stderr

    results = tiny_grid.results(tmp_path, "both")
    names = {"caer_s_demo-paper-emot_net-vanilla-s0": "paper", "caer_s_demo-caer_net-vanilla-s0": "leak_free"}
    assert set(results) == set(names)
    for name, protocol in names.items():
        found = json.loads(results[name].read_text())["data"]
        manifest = manifests.load(tmp_path / "shards" / name.split("-caer_net")[0].split("-emot_net")[0])
        assert (found["protocol"], found["shards"]) == (protocol, manifest.source)
        assert found["policies"] == manifest.policies
        assert set(found["splits"]) == {"train", "test", "test_shift"} | ({"val"} if protocol == "leak_free" else set())
        for split, facts in found["splits"].items():
            stored = manifest.splits[split]
            assert facts == {key: getattr(stored, key) for key in ("listed", "samples", "left_out", "notes")}

    page = (tmp_path / "results/both/tables.md").read_text()
    tables = page.split("## ")[1:]
    starts = ("CAER-S demo, protocol paper: ", "CAER-S demo, protocol leak_free: ")
    papers, ours = ("".join(table for table in tables if table.startswith(start)) for start in starts)
    assert len(papers) + len(ours) == sum(map(len, tables)), "each is of one of the two"
    assert papers.startswith(f"{starts[0]}accuracy, percent\n")
    assert ours.startswith(f"{starts[1]}accuracy, percent\n")
    assert "EMOT-Net" in papers
    assert "EMOT-Net" not in ours
    assert "CAER-Net" in ours
    assert "CAER-Net" not in papers
    assert "the gap between train and val" in ours
    assert "the gap between train and val" not in papers
