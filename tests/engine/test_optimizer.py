"""An optimizer of one's own, named as `module:Class`: it trains, resumes to the bit, and is guarded like torch's."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from clef.cells import records
from clef.cells.identity import compute_signature, write_config
from clef.config import CellConfig, OptimizerConfig
from clef.engine import atomic_dir
from clef.engine.checkpoint import read_weights
from clef.engine.run import run_cell
from clef.engine.train_step import build_optimizer
from clef.errors import CellError, ConfigError
from tests.assertions import assert_equal
from tests.engine.test_non_finite import prepare, spoil_losses

Make = Callable[..., CellConfig]
OWN = {"optimizer.name": "tests.engine.own_optimizers:SignMomentum", "optimizer.lr": 0.002}


def train(config: CellConfig, folder: Path, stop_after: int | None = None) -> dict:
    runtime = config.runtime.model_copy(update={"stop_after": stop_after, "checkpoint_every": 2})
    write_config(folder, config.model_copy(update={"runtime": runtime}))
    return run_cell(folder)


@pytest.mark.slow
def test_it_trains_and_resumes_to_the_bit(tiny: Make, tmp_path: Path) -> None:
    config = tiny(epochs=2, **OWN, **{"optimizer.options": {"beta": 0.8}, "optimizer.weight_decay": 0.01})
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    result = train(config, unbroken)
    assert train(config, broken, stop_after=5) == {}
    assert train(config, broken)["splits"] == result["splits"]
    newest = [atomic_dir.complete(folder / "checkpoints")[-1] for folder in (unbroken, broken)]
    assert_equal(*(read_weights(folder / "model.safetensors") for folder in newest))
    states = [torch.load(folder / "optimizer.pt", weights_only=True)["optimizer"] for folder in newest]
    assert_equal(*states)
    assert {group["beta"] for group in states[0]["param_groups"]} == {0.8}
    assert 0.01 in {group["weight_decay"] for group in states[0]["param_groups"]}
    assert all(set(state) == {"mean"} for state in states[0]["state"].values())


@pytest.mark.slow
def test_a_bad_step_ends_the_cell_with_the_weights_from_before(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_losses(monkeypatch, step=5)
    with pytest.raises(CellError, match="non-finite: the loss of step 5 is not finite"):
        train(tiny(**OWN), tmp_path)
    assert records.read_json(tmp_path / "state.json")["state"] == "failed"
    newest = atomic_dir.complete(tmp_path / "checkpoints")[-1]
    assert newest.name == "step-000000004"
    assert all(torch.isfinite(value).all() for value in read_weights(newest / "model.safetensors").values())


def test_it_steps_at_the_rate_of_each_group(tiny: Make) -> None:
    config = tiny(**OWN, **{"optimizer.head_lr_multiplier": 10.0, "backbone.weights.scene": "none"})
    train_step, batches = prepare(config)
    train_step(next(batches), 0.5, measure_norm=False)
    for group in train_step.optimizer.param_groups:
        assert group["lr"] == 0.5 * group["lr_multiplier"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "tests.engine.own_optimizers:Missing"}, "has no 'Missing'"),
        ({"name": "no_such_module:Adam"}, "is its folder on PYTHONPATH"),
        ({"name": "torch.optim:Adam", "options": {"betta": 1}}, "betta.*see optimizer.options"),
        ({"name": "torch.optim:LBFGS"}, "see optimizer.options"),
        ({"name": "collections:OrderedDict"}, "see optimizer.options|not a torch.optim.Optimizer"),
        ({"name": "torch.optim:Rprop", "weight_decay": 0.1}, "has no weight decay; set optimizer.weight_decay=0"),
    ],
)
def test_what_can_not_be_used_is_refused(tiny: Make, settings: dict, message: str) -> None:
    method = prepare(tiny(method="vanilla"))[0].method
    with pytest.raises(ConfigError, match=message):
        build_optimizer(method, OptimizerConfig(**settings))


def test_its_options_are_part_of_the_signature_and_nothing_else_is(tiny: Make) -> None:
    plain, own = tiny(), tiny(**OWN)
    assert "options" in plain.model_dump()["optimizer"]
    other = tiny(**OWN, **{"optimizer.options": {"beta": 0.8}})
    assert len({compute_signature(config, {}, {}) for config in (plain, own, other)}) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer.name": "sgdd"}, "optimizer.name: sgd, adam, adamw or module:Class is expected, not 'sgdd'"),
        ({"optimizer.options": {"beta": 0.8}}, "sgd takes none"),
        ({**OWN, "optimizer.options": {"lr": 0.8}}, "lr can't be an option; set optimizer.lr"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tiny: Make, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**settings)
