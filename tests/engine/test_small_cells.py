"""Cells of seconds, with runtime.checkpoints=false: few files, no weights, and the numbers of any other cell."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clef
from clef.audit.run import AuditSettings, audit_cell
from clef.cells import attempts, predictions, records
from clef.config import CellConfig
from clef.engine.rescore import rescore
from clef.engine.run import run_cell
from clef.engine.trainer import Trainer
from clef.errors import CellError, ConfigError, Preempted
from tests.engine.factories import train_cell

pytestmark = pytest.mark.slow
Make = Callable[..., CellConfig]
SMALL = {"checkpoints": False, "keep_checkpoints": False}
NO_WEIGHTS = r"keeps no weights \(runtime\.checkpoints=false\); to have them, remove this folder and train .* again"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("method", ["vanilla", "clef"])
def test_few_files_are_left_and_every_number_is_that_of_a_cell_with_checkpoints(
    tiny: Make, tmp_path: Path, method: str
) -> None:
    config = tiny("emotic_demo", method=method, epochs=2)
    usual = train_cell(config, output_dir=str(tmp_path / "usual"))
    small = train_cell(config, output_dir=str(tmp_path / "small"), **SMALL)
    bare = train_cell(config, output_dir=str(tmp_path / "bare"), predictions="none", **SMALL)
    assert usual.name == small.name == bare.name, "neither setting is part of the signature"
    assert files(bare) == ["config.yaml", "log.jsonl", "result.json"]
    assert files(small) == [*files(bare)[:2], "predictions.npz", "result.json"]
    one, *others = (records.read_json(folder / "result.json") for folder in (usual, small, bare))
    for other in others:
        assert {key: other[key] for key in ("splits", "val", "best_epoch", "steps")} == {
            key: one[key] for key in ("splits", "val", "best_epoch", "steps")
        }
        assert other["run"]["checkpoint"] == {"file": None, "sha256": one["run"]["checkpoint"]["sha256"]}
        assert other["environment"]["weights"] == one["environment"]["weights"]
    for split in ("test", "test_shift"):
        kept = [predictions.read(predictions.path_of(folder, split), split) for folder in (usual, small)]
        assert set(kept[0]) == set(kept[1])
        for name, values in kept[0].items():
            np.testing.assert_array_equal(kept[1][name], values, err_msg=name)
    assert records.state_of(bare) == "done"
    assert run_cell(bare) == others[1]
    assert files(bare) == ["config.yaml", "log.jsonl", "result.json"]


def test_an_interrupted_one_says_that_it_begins_anew_and_gives_the_same_numbers(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("caer_s_demo", "caer_net", "vanilla", epochs=2)
    unbroken = train_cell(config, output_dir=str(tmp_path / "unbroken"), **SMALL)
    step = Trainer._train

    def terminated_at_12(self: Trainer, batch: Any) -> Any:
        if self.progress.step == 11:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train", terminated_at_12)
        with pytest.raises(Preempted, match=r"it begins anew, as runtime\.checkpoints=false"):
            train_cell(config, output_dir=str(tmp_path / "broken"), **SMALL)
    [broken] = (tmp_path / "broken/single").iterdir()
    state = records.read_json(broken / "state.json")
    assert (state["state"], state["step"]) == ("preempted", 0)
    assert "begins anew" in state["reason"]
    assert records.state_of(broken) == "preempted"
    assert not (broken / "checkpoints").exists()
    torch.manual_seed(99)  # whatever this process did in between must not matter
    attempt = attempts.begin(broken, "1")
    result = run_cell(broken)
    attempts.end(broken, attempt, "done")  # as a Slurm task does
    assert files(broken) == files(unbroken)
    wanted = records.read_json(unbroken / "result.json")
    assert result["splits"] == wanted["splits"]
    assert result["run"]["checkpoint"] == wanted["run"]["checkpoint"]
    assert [past["from_step"] for past in result["environment"]["earlier"]] == [0]
    lines = [(folder / "log.jsonl").read_text().count('"grad_norm"') for folder in (broken, unbroken)]
    assert lines[0] == lines[1], "no line is there twice"


def test_what_wants_weights_says_that_none_are_kept_and_how_to_have_them(tiny: Make, tmp_path: Path) -> None:
    small = train_cell(tiny("caer_s_demo", "caer_net", "vanilla"), **SMALL)
    with pytest.raises(CellError, match=NO_WEIGHTS):
        clef.load(small)
    with pytest.raises(CellError, match=NO_WEIGHTS):
        rescore(small, "test")
    with pytest.raises(CellError, match=NO_WEIGHTS):
        audit_cell(small, AuditSettings(), {}, again=False, progress=lambda name, done, total: None)
    child = tiny("caer_s_demo", "caer_net", "clef", **{"method.start_from": str(small)})
    with pytest.raises(CellError, match=NO_WEIGHTS):
        train_cell(child)


@pytest.mark.parametrize("setting", [{"keep_checkpoints": True}, {"checkpoint_every": 3}, {"stop_after": 5}])
def test_a_setting_that_needs_checkpoints_is_refused_without_them(tiny: Make, setting: dict[str, Any]) -> None:
    [key] = setting
    runtime = {f"runtime.{name}": value for name, value in (SMALL | setting).items()}
    with pytest.raises(ConfigError, match=f"runtime: {key}: no checkpoint is written with checkpoints=false"):
        tiny("caer_s_demo", "caer_net", "vanilla", **runtime)
