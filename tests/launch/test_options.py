"""The launcher's `--grid`: one that ships, by name; a file of one's own; or the name of one whose file is gone."""

import argparse
import sys
from pathlib import Path

import pytest

from clef.config import grid as grids
from clef.errors import ConfigError
from clef.yaml_config import resource
from launch.options import parse_arguments


def grid(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Path:
    monkeypatch.setattr(sys, "argv", ["grid", *arguments])
    path: Path = parse_arguments("").grid
    return path


def test_a_shipped_grid_by_its_name_or_by_its_path_in_a_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "configs/grids/demo.yaml"):
        assert grid(monkeypatch, "--dry-run", "--grid", name) == resource("configs/grids/demo.yaml")
    assert grid(monkeypatch, "--dry-run").stem == "paper"


def test_a_file_of_ones_own_wins_and_may_have_any_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.yml", "mine", "demo"):
        Path(name).write_text(FILE)
        assert grid(monkeypatch, "--dry-run", "--grid", name) == Path(name)


def test_an_unknown_name_is_answered_unless_the_grid_is_only_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--grid dmeo: unknown \(did you mean demo\?\).*or the path of your own"):
        grid(monkeypatch, "--dry-run", "--grid", "dmeo")
    for option in (["--status"], ["--watch"], ["--gather"], ["--logs", "x"], ["--cancel", "x"]):
        assert grid(monkeypatch, *option, "--grid", "old") == Path("old")


# ---- settings that can be stated in several places ----


def options(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["grid", "--dry-run", *arguments])
    return parse_arguments("")


FILE = """
datasets: [emotic_demo]
backbones: [emot_net]
methods: [vanilla]
seeds: [0]
overrides: [{set: {runtime.output_dir: ~/elsewhere, runtime: {shards: of_file}}}]
"""


@pytest.mark.parametrize(
    ("arguments", "out", "shards"),
    [
        ((), "HOME/elsewhere", "of_file"),
        (("runtime.output_dir=of_key", "runtime.shards=~/of_key"), "of_key", "HOME/of_key"),
        (("--out=~/of_option", "--shards", "of_option"), "HOME/of_option", "of_option"),
        (("--out", "same/", "runtime.output_dir=same"), "same", "of_file"),
    ],
)
def test_where_cells_and_shards_are_is_said_once_and_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], out: str, shards: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "mine.yaml"
    file.write_text(FILE)
    args = options(monkeypatch, "--grid", str(file), *arguments)
    [cell] = grids.resolve_cells(grids.load_grid(file), "mine", args.settings)
    assert Path(args.out) == Path(cell.runtime.output_dir) == Path(out.replace("HOME", str(tmp_path)))
    assert cell.runtime.shards == shards.replace("HOME", str(tmp_path))


def test_without_a_word_of_it_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    args = options(monkeypatch, "--grid", "demo")
    assert (args.out, args.settings) == ("runs", {})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--out", "a", "runtime.output_dir=b"), "--out a contradicts runtime.output_dir=b: state one of them"),
        (("--shards", "a", "runtime.shards=b"), "--shards a contradicts runtime.shards=b: state one of them"),
        (("epochs=1", "epochs=2"), "epochs=2 contradicts epochs=1: state one of them"),
    ],
)
def test_contradictions_are_refused(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        options(monkeypatch, "--grid", "demo", *arguments)


def test_a_grid_has_one_place_for_its_cells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(FILE.replace("{set:", "{where: {seed: 0}, set:"))
    with pytest.raises(ConfigError, match=r"output_dir=.*: a grid has one; state it in an override without where"):
        options(monkeypatch, "--grid", str(file))


def test_a_grid_that_is_looked_at_is_where_its_file_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(FILE)
    monkeypatch.setattr(sys, "argv", ["grid", "--status", "--grid", str(file)])
    assert parse_arguments("").out.endswith("/elsewhere")
