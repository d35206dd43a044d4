"""The launcher's `--grid`: one that ships, by name; a file of one's own; or the name of one whose file is gone."""

import sys
from pathlib import Path

import pytest

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
        Path(name).write_text("")
        assert grid(monkeypatch, "--dry-run", "--grid", name) == Path(name)


def test_an_unknown_name_is_answered_unless_the_grid_is_only_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"--grid dmeo: unknown \(did you mean demo\?\).*or the path of your own"):
        grid(monkeypatch, "--dry-run", "--grid", "dmeo")
    for option in (["--status"], ["--watch"], ["--gather"], ["--logs", "x"], ["--cancel", "x"]):
        assert grid(monkeypatch, *option, "--grid", "old") == Path("old")
