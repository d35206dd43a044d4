"""TensorBoard as an option: its own reader finds the numbers of log.jsonl, once each, also after a break."""

import builtins
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clef.config import CellConfig
from clef.engine.train_log import TENSORBOARD_FOLDER, TrainLog, scalars
from clef.errors import SetupError
from tests.engine.factories import train_cell

Make = Callable[..., CellConfig]
NEEDED = "tensorboard.backend.event_processing.event_accumulator"


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would show: (step, value) by tag."""
    reader = pytest.importorskip(NEEDED, reason="tensorboard is not installed").EventAccumulator(
        str(folder / TENSORBOARD_FOLDER)
    )
    reader.Reload()
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def logged(folder: Path) -> dict[str, dict[int, float]]:
    """The numbers of log.jsonl: value by step, by tag; of a step that was written twice, the later."""
    found: dict[str, dict[int, float]] = {}
    for line in (folder / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        for tag, value in scalars(record).items():
            found.setdefault(tag, {})[record["step"]] = value
    return found


def assert_same(shown: dict[str, list[tuple[int, float]]], written: dict[str, dict[int, float]]) -> None:
    assert shown.keys() == written.keys()
    for tag, values in written.items():
        assert [step for step, _ in shown[tag]] == sorted(values), tag
        assert [value for _, value in shown[tag]] == pytest.approx([values[step] for step in sorted(values)], rel=1e-6)


@pytest.mark.slow
def test_it_shows_what_the_log_says(tiny: Make) -> None:
    pytest.importorskip(NEEDED, reason="tensorboard is not installed")
    folder = train_cell(tiny(epochs=2), tensorboard=True, log_every=2)
    shown = events(folder)
    assert {"loss", "losses/factual", "losses/kl", "losses/counterfactual", "lr", "images_per_s", "val"} <= shown.keys()
    assert "epoch" not in shown
    assert len(shown["loss"]) > 4
    assert_same(shown, logged(folder))


def test_what_a_killed_process_did_after_its_checkpoint_is_not_shown_twice(tmp_path: Path) -> None:
    pytest.importorskip(NEEDED, reason="tensorboard is not installed")
    # The checkpoint is of step 5; this process got to 8 and was killed there: it closes nothing.
    killed = TrainLog(tmp_path, tensorboard=True, step=0)
    for step in (2, 4, 6, 8):
        killed.append({"step": step, "epoch": step / 4, "loss": 1.0 * step})
    killed.append({"step": 8, "epoch": 2, "val": 33.0})
    assert events(tmp_path) == {"loss": [(2, 2), (4, 4), (6, 6), (8, 8)], "val": [(8, 33)]}, "nothing waits in memory"
    resumed = TrainLog(tmp_path, tensorboard=True, step=5)
    for step in (7, 9):  # another interval
        resumed.append({"step": step, "epoch": step / 4, "loss": -1.0 * step})
    resumed.append({"step": 9, "epoch": 2, "val": 44.0})
    resumed.close()
    assert events(tmp_path) == {"loss": [(2, 2), (4, 4), (7, -7), (9, -9)], "val": [(9, 44)]}
    killed.close()


@pytest.mark.slow
def test_a_cell_broken_off_and_resumed_shows_each_step_once(tiny: Make) -> None:
    pytest.importorskip(NEEDED, reason="tensorboard is not installed")
    options: dict[str, Any] = {"tensorboard": True, "log_every": 2}
    for stop_after in (3, 10, None):
        folder = train_cell(tiny(method="vanilla", epochs=2), stop_after=stop_after, **options)
    assert_same(events(folder), logged(folder))


def test_scalars_are_the_numbers_of_a_record() -> None:
    record = {"step": 4, "epoch": 0.5, "loss": 2.0, "losses": {"kl": 0.5, "task": 1}, "val": None, "note": "x"}
    assert scalars(record) == {"loss": 2.0, "losses/kl": 0.5, "losses/task": 1}
    assert math.isnan(scalars({"loss": math.nan})["loss"])


@pytest.mark.slow
def test_without_the_package_the_option_is_refused(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SetupError, match=r"runtime.tensorboard=true: No module named 'tensorboard'; install it with"):
        train_cell(tiny(method="vanilla"), tensorboard=True)
    folder = train_cell(tiny(method="vanilla"))
    assert not (folder / TENSORBOARD_FOLDER).exists(), "it is off unless asked for"
