"""What --status, --watch and --logs print."""

import json
import threading
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from clef.cells import records
from clef.cells.plan_file import PlannedRun, write_plan
from clef.errors import ConfigError
from launch import ledger, logs, status_view
from launch.status_view import ViewOptions

EVERYTHING, INTERESTING = ViewOptions(None, True, 15.0), ViewOptions(None, False, 15.0)
LONG = "caer_s_demo-emot_net-two_stage-s"


@pytest.fixture
def plan(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a grid of so many cells: 0 runs, 1 and 2 failed alike, 3 is done, the others are new."""

    def make(count: int) -> Path:
        names = [f"{LONG}{i}" for i in range(count)]
        path = write_plan(tmp_path, "g", [PlannedRun(name, "d", "b", "m", 0, f"{name}-00") for name in names])
        folders = [path.parent / f"{name}-00" for name in names]
        for folder in folders[:4]:
            folder.mkdir(exist_ok=True)
        place = {"step": 120, "steps": 4000, "epoch": 1.25, "epochs": 20}
        records.write_state(folders[0], "running", metric=31.234, images_per_s=312.3, left_s=4000.0, **place)
        for folder in folders[1:3]:
            records.write_state(folder, "failed", reason="non-finite: the loss of step 2 is not finite " + "x" * 400)
        records.write_json(folders[3] / records.RESULT, {})
        return path

    return make


def rendered(path: Path, view: ViewOptions, width: int, reasons: int | None = None) -> list[str]:
    with ledger.claim_cells(path.parent, [f"{LONG}0-00"]):  # a launcher has it, and its lock says that it runs
        from clef import io

        with io.lock(path.parent / f"{LONG}0-00" / records.LOCK):
            picture = status_view.make_listing(path, view)
    text = StringIO()
    Console(file=text, width=width).print(status_view.render(picture, width, reasons))
    return text.getvalue().splitlines()


def test_eighty_columns_hold_a_row_a_cell(plan: Callable[[int], Path]) -> None:
    lines = rendered(plan(5), INTERESTING, 80)
    assert max(map(len, lines)) <= 80
    assert lines[0] == "grid g: 5 cells: 1 done, 1 running, 1 new, 2 failed"
    assert lines[1].split() == ["cell", "state", "epoch", "best", "val", "left", "last", "log"]
    assert lines[2].split()[:6] == [f"{LONG}0", "running", "1.2/20", "31.23", "67", "min"]
    assert [line.split()[1] for line in lines[3:7]] == ["failed", "failed", "done", "new"]
    assert lines[7].startswith(f"- 2 cells ({LONG}1, ...): failed: non-finite: the loss")
    assert lines[-1].endswith(" ...")


def test_a_wide_terminal_has_more_of_it(plan: Callable[[int], Path]) -> None:
    lines = rendered(plan(5), INTERESTING, 160)

    assert {"node", "step", "images/s"} <= set(lines[1].split())
    assert "120/4000" in lines[2]
    assert "312" in lines[2].split()


def test_of_many_cells_those_of_interest_are_listed_and_the_others_counted(plan: Callable[[int], Path]) -> None:
    lines = rendered(plan(40), INTERESTING, 80)
    assert [line.split()[0] for line in lines[2:5]] == [f"{LONG}{i}" for i in range(3)]
    assert lines[5] == "not listed: 37 cells; --all lists them"
    assert sum(line.startswith(LONG) for line in rendered(plan(40), EVERYTHING, 80)) == 40
    some = rendered(plan(40), ViewOptions("*-s1*", False, 15.0), 80)
    assert some[0] == "grid g: 11 cells: 10 new, 1 failed"
    assert len(rendered(plan(5), INTERESTING, 80, reasons=1)[7:]) == 1, "where it is live, a reason is one line"


def test_rows_fit_where_epochs_are_many(plan: Callable[[int], Path]) -> None:
    path = plan(5)
    place = {"step": 120, "steps": 4000, "epoch": 191.25, "epochs": 300}
    records.write_state(path.parent / f"{LONG}0-00", "running", metric=31.2, left_s=300.0, **place)
    records.write_json(path.parent / f"{LONG}1-00" / records.CANCELLED, {"by": "me"})
    assert [line.split()[0] for line in rendered(path, INTERESTING, 80)[2:7]] == [f"{LONG}{i}" for i in range(5)]


def test_a_pattern_that_fits_no_cell_is_an_error(plan: Callable[[int], Path]) -> None:
    for show in (status_view.print_status, status_view.print_json, status_view.watch_status):
        with pytest.raises(ConfigError, match=rf"--cells x\*: no cell matches; names are like {LONG}0"):
            show(plan(4), ViewOptions("x*", False, 15.0))


def test_json_has_all_cells_and_what_is_known_of_them(
    plan: Callable[[int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_view.print_json(plan(40), INTERESTING) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["grid"], found["counts"]) == ("g", {"done": 1, "new": 36, "died": 1, "failed": 2})
    assert len(found["cells"]) == 40
    assert found["cells"][1]["error"].startswith("non-finite")
    assert (found["cells"][0]["step"], found["cells"][0]["state"]) == (120, "died")


def test_watching_ends_when_nothing_waits_or_runs_any_more(
    plan: Callable[[int], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_view, "LOOK_INTERVAL_S", 0.05)
    path, looks = plan(5), []
    fresh = f"{LONG}4-00"
    taken = status_view.make_listing

    def take(*arguments: object) -> status_view.Listing:
        looks.append(taken(*arguments))  # type: ignore[arg-type]
        if len(looks) == 2:
            (path.parent / fresh).mkdir()
            records.write_json(path.parent / fresh / records.RESULT, {})
            stopped.set()
            launcher.join()
        return looks[-1]

    monkeypatch.setattr(status_view, "make_listing", take)
    started, stopped = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger.claim_cells(path.parent, [fresh]):
            started.set()
            stopped.wait(30)

    launcher = threading.Thread(target=hold)
    launcher.start()
    started.wait(30)
    assert status_view.watch_status(path, INTERESTING) == 0
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines[-2:] == [f"{LONG}4: done", "grid g: 5 cells: 2 done, 1 died, 2 failed"]
    assert len(looks) == 3


# ---- logs ----


def test_a_done_cells_output_on_slurm_is_shown_and_silence_is_said(
    plan: Callable[[int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = plan(5)
    entry = ledger.new_submission(path.parent, "cells", [f"{LONG}3-00", f"{LONG}4-00"], array=True)
    (path.parent / ledger.SUBMISSIONS).mkdir()
    ledger.complete_submission(path.parent, entry, "12")
    said = ledger.job_folder(path.parent, entry) / "12_0_0_log.err"
    said.parent.mkdir(parents=True)
    said.write_text("test: accuracy 14.29\n")
    assert logs.print_logs(path, "stage-s3", follow=False) == 0
    assert "test: accuracy 14.29" in capsys.readouterr().out.splitlines()
    assert logs.print_logs(path, "stage-s4", follow=False) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "it has no output yet"


def test_a_log_line_is_words_and_any_other_line_itself() -> None:
    record = {"step": 20, "epoch": 1.25, "loss": 0.51234567, "losses": {"kl": 0.1}, "grad_norm": None}
    assert logs.format_line(json.dumps(record)) == "step 20  epoch 1.25  loss 0.5123  kl 0.1"
    assert logs.format_line("{ cut") == "{ cut"


def test_logs_of_one_cell_by_a_part_of_its_name(
    plan: Callable[[int], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = plan(4)
    folder = path.parent / f"{LONG}1-00"
    (folder / records.LOG).write_text("".join(f'{{"step": {i}}}\n' for i in range(1, 101)))
    for number, text in ((7, "old"), (8, "loading\r 50%\r100%\nboom\n")):
        place = path.parent / "local" / folder.name / f"{number}_0_log.err"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    assert logs.print_logs(path, "stage-s1", follow=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "step 86" in lines
    assert "step 85" not in lines
    assert lines[-2:] == ["100%", "boom"]
    assert "old" not in lines
    for name, said in (("two_stage", "4 cells match"), ("nobody", "no cell matches")):
        with pytest.raises(ConfigError, match=said):
            logs.print_logs(path, name, follow=False)
