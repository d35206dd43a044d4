"""Progress in plain lines: a few, with the rate of what is being done and the time that is left. And questions."""

import contextlib
import io
from pathlib import Path

import pytest
from rich.console import Console

from clef import console
from clef.console import ProgressBars
from clef.errors import ConfigError


class Clock:
    """Time that passes when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=text, width=140))
    return text


def test_what_was_done_before_does_not_count_for_the_rate(said: io.StringIO) -> None:
    clock = Clock()
    with ProgressBars("people", clock) as show:
        show("train", 9000, 10_000)  # resumed
        for second in range(1, 21):
            clock.now = second
            show("train", 9000 + 20 * second, 10_000)
    lines = said.getvalue().splitlines()
    assert len(lines) == 3  # 20 seconds, a line every five
    assert lines[-1] == "train: 9360/10000 people, 20/s, 32 s left"


def test_the_last_line_comes_at_once_and_pauses_of_other_splits_do_not_count(said: io.StringIO) -> None:
    clock = Clock()
    with ProgressBars("MB", clock) as show:
        show("train", 0, 40)
        show("val", 0, 400_000)
        for second in range(1, 5):
            clock.now = second
            show("train", 10 * second, 40)
        for second in range(100, 120):
            clock.now = second
            show("val", 50 * (second - 99), 400_000)
    lines = said.getvalue().splitlines()
    assert lines[0] == "train: 40/40 MB"
    assert lines[-1].startswith("val: ")
    assert lines[-1].endswith("MB, 50/s, 2 h 13 min left")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert console.format_duration(seconds) == text


@pytest.mark.parametrize(("answer", "yes"), [("y", True), (" Yes ", True), ("", False), ("yep", False)])
def test_only_yes_is_yes(answer: str, yes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda text: answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with console.out.capture() as said:
        assert console.confirm("Really?", "nothing done") is yes
    assert said.get() == ("" if yes else "nothing done\n")


@pytest.mark.parametrize(("error", "said"), [(EOFError, "\nnothing done\n"), (KeyboardInterrupt, "\n")])
def test_what_is_said_after_a_question_that_was_left_is_on_a_line_of_its_own(
    error: type[BaseException], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(_: str) -> str:
        raise error

    monkeypatch.setattr("builtins.input", leave)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with console.out.capture() as printed, contextlib.suppress(KeyboardInterrupt):
        assert not console.confirm("Really?", "nothing done")
    assert printed.get() == said


def outputs(*names: str, inputs: tuple[str, ...] = ("photo.png", "cell", "gone"), force: bool = False) -> None:
    """Ask whether files may be written, as a command does that reads `inputs`."""
    console.check_outputs({f"--{n}": Path(name) for n, name in enumerate(names)}, map(Path, inputs), force)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A photograph, a link to it, a cell's folder with a file, a file of the user's, and an empty folder."""
    monkeypatch.chdir(tmp_path)
    Path("cell/sub").mkdir(parents=True)
    for name in ("photo.png", "cell/sub/result.json", "mine.json"):
        Path(name).write_text("mine")
    Path("link.png").symlink_to("photo.png")
    Path("folder").mkdir()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", ["photo.png", "./cell/../photo.png", "link.png", "cell/sub/result.json", "cell"])
@pytest.mark.parametrize("force", [False, True])
def test_what_a_command_reads_is_never_written_over(name: str, force: bool) -> None:
    with pytest.raises(ConfigError, match=f"--0 {Path(name)}: that is a file .*this command reads; name another"):
        outputs(name, force=force)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("answer", "allowed"), [("y", True), ("", False), (None, False)])
def test_another_file_is_written_over_after_a_yes_or_with_force(
    answer: str | None, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs("mine.json", force=True)
    outputs("new.json", "cell/new.json")
    monkeypatch.setattr("builtins.input", lambda _: answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: answer is not None, raising=False)
    expected = contextlib.nullcontext() if allowed else pytest.raises(ConfigError, match=r"mine\.json")
    with expected as caught:
        outputs("mine.json")
    if answer is None:
        assert "mine.json is there already. Write over it? Add --force; mine.json stays as it is" in str(caught.value)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("names", [("folder",), ("a.json", "./folder/../a.json")])
def test_a_folder_or_one_file_for_two_outputs_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"is no file; name another|--0 and --1: each needs a file of its own"):
        outputs(*names, force=True)
