"""Commands with a stdin, stdout or stderr that is closed, that nobody reads, that is full, or that lacks letters."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clef.console import out
from clef.errors import READER_GONE, run_command

ROOT = Path(__file__).parents[1]
MINE = (
    "from clef.console import err, out; from clef.errors import run_command\n"
    "def main():\n"
    "    with open('file', 'x') as file:\n"
    "        [console.print('line') for console in (out, err) for _ in range(2000)]\n"
    "        print('line'); import os; os.system('echo line; echo line >&2; read word')\n"
    "run_command(main)"
)
"""Prints, lets another program print and read, and keeps a file open meanwhile."""


def start(folder: Path, redirected: str, stdout: int = subprocess.PIPE) -> tuple[int, str]:
    """Run MINE with its streams redirected as a shell writes it; its exit code, and its stderr."""
    command = f'exec "$0" -c "$1" {redirected}'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = ["bash", "-c", command, sys.executable, MINE]
    done = subprocess.run(arguments, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment)
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_a_stream_that_was_closed_is_as_dev_null(closed: str, tmp_path: Path) -> None:
    assert start(tmp_path, closed)[0] == 0
    assert (tmp_path / "file").read_bytes() == b"", "what another program printed went into the file"


@pytest.mark.slow
@pytest.mark.parametrize("redirected", ["", "2>&1"])
def test_a_command_whose_reader_has_gone_ends_quietly(redirected: str, tmp_path: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    try:
        code, errors = start(tmp_path, redirected, writes)
    finally:
        os.close(writes)
    assert (code, errors.replace("line\n", "")) == (READER_GONE, "")


@pytest.mark.slow
def test_a_full_disk_under_the_output_is_named(tmp_path: Path) -> None:
    code, errors = start(tmp_path, ">/dev/full")
    assert code == 5
    assert errors.startswith("error: No space left on device")


def test_a_pipe_of_something_else_that_breaks_is_a_fault() -> None:
    def main() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_command(main)


def test_figures_do_not_depend_on_the_backend_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://not_installed.backend_inline")
    with pytest.raises(SystemExit) as left:
        run_command(lambda: None)
    assert not left.value.code
    assert "MPLBACKEND" not in os.environ


@pytest.mark.parametrize("say", [out.print, print])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "euc-jp", "utf-8"])
def test_letters_that_a_terminal_lacks_are_escaped(
    encoding: str, say: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "Glück – 喜び ± 😀 \udcff"
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=encoding))
    with pytest.raises(SystemExit) as left:
        run_command(lambda: say(json.dumps([text], ensure_ascii=False)))
    assert not left.value.code
    shown = printed.getvalue().decode(encoding)
    assert json.loads(shown) == [text], "JSON remains what it was"
    assert ("喜び" in shown) == (encoding in ("euc-jp", "utf-8"))


@pytest.mark.slow
def test_a_name_that_the_locale_lacks_is_named_with_what_to_set(tmp_path: Path) -> None:
    names = {"PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    script = "from clef.errors import run_command; run_command(lambda: open('\\u559c.yaml'))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | names)
    said = r"error: \u559c.yaml: a file can't have this name in ascii; set LC_ALL=C.UTF-8"
    assert (done.returncode, " ".join(done.stderr.split())) == (5, said)
