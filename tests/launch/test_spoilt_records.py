"""Whatever lies where records lie: commands say so in a line, or go on without it."""

import json
from pathlib import Path
from typing import Any

import pytest

from clef.cells import records
from clef.cells.plan_file import PlannedRun, plan_path, read_plan, write_plan
from clef.console import out
from clef.errors import CellError, SetupError
from launch import ledger, slurm_answer, status, status_view
from launch.status_view import ViewOptions

RUN = PlannedRun("a", "emotic", "emot_net", "clef", 0, "a")
GARBAGE = [b"", b"\xff\xfe\x00", b"[]", b"3", b'"x"', b"{", b'{"x": [1]}']
ENTRY: dict[str, Any] = {"tag": "t", "kind": "cells", "cells": ["a"], "job": "7"}
CLAIM = {"created": "2026", "by": "", "cells": ["a"], "unfinished": ["a"]}
JOB = {"state": "FAILED", "reason": "", "node": "", "name": ""}


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A grid of one cell whose folder is there."""
    write_plan(tmp_path, "g", [RUN])
    for name in ("a", ledger.SUBMISSIONS, ledger.CLAIMS):
        (tmp_path / "g" / name).mkdir()
    return tmp_path / "g"


def shown(grid: Path) -> str:
    """What --status prints."""
    with out.capture() as said:
        status_view.print_status(grid / "plan.json", ViewOptions(None, True, 15))
    return said.get()


def spoilt(sound: dict[str, Any], *changes: dict[str, Any]) -> list[bytes]:
    """Garbage, and a record with something in it of another kind."""
    return GARBAGE + [json.dumps(sound | change).encode() for change in changes]


@pytest.mark.parametrize(
    "content",
    spoilt(ENTRY, {"cells": 3}, {"job": 7}, {"tag": 7}, {"tag": "other"}, {"kind": "zzz"}, {"jobs": "7"}, {"after": 1}),
)
def test_a_spoilt_ledger_is_named_by_all_that_read_it(grid: Path, content: bytes) -> None:
    (grid / ledger.SUBMISSIONS / "t.json").write_bytes(content)
    for look in (
        lambda: status.read_status(grid / "plan.json"),
        lambda: ledger.read_submissions(grid),
        lambda: ledger.unanswered_submissions(grid),
    ):
        with pytest.raises(SetupError, match=r"t\.json: no record of a submission; look at squeue"):
            look()


@pytest.mark.parametrize("content", spoilt(CLAIM, {"created": 3}, {"cells": 3}, {"unfinished": [4]}))
def test_a_spoilt_claim_holds_no_cell(grid: Path, content: bytes) -> None:
    (grid / ledger.CLAIMS / "host-1.json").write_bytes(content)
    (grid / ledger.CLAIMS / "host-2.json").write_text(json.dumps(CLAIM))
    assert ledger.claimed_cells(grid) == set()
    assert "1 new" in shown(grid)


@pytest.mark.parametrize(
    "content",
    spoilt({"jobs": {"7": JOB}}, {"jobs": {"7": 3}}, {"jobs": {"7": JOB | {"node": None}}}, {"tried": None}),
)
def test_a_spoilt_answer_of_slurm_is_asked_for_anew(
    grid: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (grid / ledger.SUBMISSIONS / "t.json").write_text(json.dumps(ENTRY))
    (grid / slurm_answer.ANSWER_FILE).write_bytes(content)
    monkeypatch.setenv("PATH", "")
    assert "Slurm doesn't answer" in shown(grid)


@pytest.mark.parametrize(
    "content",
    spoilt({"state": "failed"}, {"state": 3}, {"state": "odd"}, {"reason": 3}, {"epoch": "x"}, {"left_s": "y"}),
)
def test_a_cell_whose_own_word_is_spoilt_is_new(grid: Path, content: bytes) -> None:
    (grid / "a" / records.STATE).write_bytes(content)
    assert records.state_of(grid / "a") == "new"
    assert "1 new" in shown(grid)


@pytest.mark.parametrize("content", GARBAGE)
def test_spoilt_attempts_and_notes_hinder_no_look(grid: Path, content: bytes) -> None:
    (grid / "a/attempts.jsonl").write_bytes(content)
    (grid / "a" / records.CANCELLED).write_bytes(content)
    assert "1 cancelled" in shown(grid)


def test_a_cell_whose_result_was_removed_is_to_be_trained_again(tmp_path: Path) -> None:
    records.write_state(tmp_path, "done")
    assert records.state_of(tmp_path) == "new"


@pytest.mark.parametrize("cell", [3, {"name": "a"}, RUN.__dict__ | {"name": 3}, RUN.__dict__ | {"folder": 3}])
def test_a_spoilt_plan_is_named(tmp_path: Path, cell: Any) -> None:
    path = plan_path(tmp_path, "g")
    records.write_json(path, {"grid": "g", "cells": [cell]})
    with pytest.raises(CellError, match=r"plan\.json: not a plan"):
        read_plan(path)
