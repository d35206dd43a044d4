"""`clef COMMAND`: the same commands under one name."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import clef
from clef import cli
from launch import grid

ROOT = Path(__file__).parents[1]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `clef ARGUMENTS` in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/clef", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_every_module_that_can_be_run_is_a_command() -> None:
    package = ROOT / "clef"
    modules = {path.stem for path in package.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    folders = {path.parent.name for path in package.glob("*/__main__.py")}
    assert set(cli.COMMANDS) == modules | folders | {"grid", "demo"}
    for module, _ in cli.COMMANDS.values():
        assert callable(importlib.import_module(module).main)


def test_help_lists_them_and_version_is_the_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in cli.COMMANDS)
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"clef {clef.__version__}\n"


def test_an_unknown_command_is_answered_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "grdi") == 2
    assert "did you mean grid?" in capsys.readouterr().err


def test_a_command_gets_its_options_and_shows_its_own_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "weights", "--help") == 0
    assert capsys.readouterr().out.startswith("usage: clef weights ")
    assert call(monkeypatch, "shard") == 2
    assert "required: --dataset" in capsys.readouterr().err


def test_demo_is_the_shipped_grid_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(grid, "main", lambda: seen.extend(sys.argv))
    assert call(monkeypatch, "demo", "--dry-run") == 0
    assert seen == ["clef demo", "--local", "--grid", "demo", "--dry-run"]


def test_the_console_script_is_declared() -> None:
    assert '[project.scripts]\nclef = "clef.cli:main"\n' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.slow
def test_help_waits_for_nothing_slow() -> None:
    script = "import sys; sys.argv = ['clef']; from clef import cli; cli._dispatch(); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "numpy", "pandas", "submitit"} & set(done.stdout.splitlines()[-1].strip("[]'").split("', '"))
