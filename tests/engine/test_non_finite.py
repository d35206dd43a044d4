"""Numbers that are not finite: no update from the first of them on, and no wait for the device in any step."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import TorchDispatchMode

from clef import methods
from clef.cells import records
from clef.cells.identity import write_config
from clef.config import CellConfig
from clef.data import manifest as manifests
from clef.data.dataset import CellDataset
from clef.data.loader import BatchLoader, to_device
from clef.data.shards import SplitShards
from clef.engine.run import run_cell
from clef.engine.train_log import StepMeter
from clef.engine.train_step import NonFiniteGuard, TrainStep, micro_batches, skips_on_device
from clef.errors import CellError, ConfigError
from clef.methods import Method, Prediction
from tests.assertions import assert_equal

Make = Callable[..., CellConfig]


def spoil_losses(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the losses of this step be no numbers."""
    forward, steps = Method.forward, count(1)

    def spoilt(self: Method, batch: dict[str, Any]) -> Prediction:
        prediction = forward(self, batch)
        if not self.training or next(steps) != step:
            return prediction
        return replace(prediction, losses={name: loss * torch.nan for name, loss in prediction.losses.items()})

    monkeypatch.setattr(Method, "forward", spoilt)


def prepare(config: CellConfig, scaler: Any = None) -> tuple[TrainStep, Iterator[dict[str, Any]]]:
    """Return the steps of a cell, as its trainer makes them, and its train batches. `scaler`: that of fp16."""
    manifest = manifests.load(config.shards)
    split = SplitShards(config.shards, "train", manifest)
    counts = [manifest.splits["train"].classes[name] for name in manifest.classes]
    torch.manual_seed(0)

    def none(load: Any) -> Any:
        raise AssertionError("no dictionary here")

    method = methods.build(config, counts, len(split), none)
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = scaler
    train_step = TrainStep(config, method, accelerator)
    train_step.method.train()
    size = config.batch_size
    items = [[(0, place) for place in range(first, first + size)] for first in range(0, len(split) - size, size)]
    dataset = CellDataset(split, config.inputs.present, 0, augment=True)
    return train_step, (
        to_device(b, config.inputs.present, torch.device("cpu")) for b in BatchLoader(dataset, items, 0)
    )


def weights(train_step: TrainStep) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in train_step.parameters]


@pytest.mark.parametrize(
    ("name", "on_device"),
    [
        ("sgd", True),
        ("adam", True),
        ("adamw", True),
        ("torch.optim:RMSprop", False),
        ("tests.engine.own_optimizers:SignMomentum", False),
        ("tests.engine.own_optimizers:DecayingSgd", False),
    ],
)
def test_from_the_first_bad_step_on_weights_and_optimizer_stand_still(
    tiny: Make, monkeypatch: pytest.MonkeyPatch, name: str, on_device: bool
) -> None:
    train_step, batches = prepare(tiny(**{"optimizer.name": name}))
    assert skips_on_device(train_step.optimizer) == on_device
    spoil_losses(monkeypatch, step=3)
    start = weights(train_step)
    for _ in range(2):
        train_step(next(batches), 0.01, measure_norm=False)
    before, state = weights(train_step), deepcopy(train_step.optimizer.state_dict())
    assert all(not torch.equal(old, new) for old, new in zip(start, before, strict=True))
    for _ in range(3):  # nobody has looked at the flag yet, as between two log lines on a GPU
        train_step(next(batches), 0.01, measure_norm=False)
    assert_equal(weights(train_step), before)
    assert_equal(train_step.optimizer.state_dict(), state)
    assert train_step.guard.steps_since_bad.item() == 3
    assert np.isnan(train_step.guard.loss_terms(train_step.accelerator, 3)).all()


def test_a_gradient_alone_is_enough_and_so_is_a_loss() -> None:
    guard, good = NonFiniteGuard(torch.device("cpu")), torch.ones(2)
    guard.check([good.clone(), good.clone()])
    assert not guard.nonfinite
    guard.check([good.clone(), torch.tensor([1.0, float("inf")]), good.clone()])
    assert guard.nonfinite
    other, bad = NonFiniteGuard(torch.device("cpu")), torch.tensor([float("nan"), 1.0])
    for losses in (bad, good * 5):
        other.check([good, losses])
        other.record_step(losses)
    assert other.nonfinite
    assert other.steps_since_bad.item() == 2
    assert np.isnan(other.loss_terms(Accelerator(cpu=True), 2)).tolist() == [True, False]


def test_micro_batches_of_a_scaled_step_count_as_one(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(method="vanilla", **{"optimizer.gradient_accumulation_steps": 4})
    train_step, batches = prepare(config, torch.amp.GradScaler("cpu", init_scale=2.0))
    spoil_losses(monkeypatch, step=6)  # the second micro-batch of the second step
    train_step(next(batches), 0.01, measure_norm=False)
    before = weights(train_step)
    for _ in range(2):
        train_step(next(batches), 0.01, measure_norm=False)
    assert_equal(weights(train_step), before)
    assert train_step.guard.steps_since_bad.item() == 2
    assert len(train_step.guard.recent_losses) == 3
    assert np.isnan(train_step.guard.loss_terms(train_step.accelerator, 2)).all()
    assert np.isfinite(train_step.guard.loss_terms(train_step.accelerator, 3)).all()


class NoWaiting(TorchDispatchMode):
    """Fails at whatever would make a host wait for its device."""

    WAITS = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "item"}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in self.WAITS, func
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting() -> Iterator[None]:
    with NoWaiting():
        yield


@pytest.mark.parametrize(
    "settings", [{}, {"optimizer.max_grad_norm": 1.0}, {"optimizer.gradient_accumulation_steps": 2}]
)
def test_no_step_waits_for_the_device(tiny: Make, settings: dict[str, Any]) -> None:
    train_step, batches = prepare(tiny(**settings))
    meter = StepMeter(train_step.accelerator)
    first, second = next(batches), next(batches)
    train_step(first, 0.01, measure_norm=False)
    with no_waiting():
        meter.add(*train_step(second, 0.01, measure_norm=True))
    with pytest.raises(AssertionError, match="_local_scalar_dense"), no_waiting():  # the test would notice
        train_step.guard.nonfinite.item()


def test_micro_batches_give_the_gradient_of_the_whole_batch(tiny: Make) -> None:
    settings = {"optimizer.momentum": 0.0, "backbone.dropout": 0.0}
    gradients = []
    for accumulate in (1, 4):
        train_step, batches = prepare(
            tiny(method="vanilla", **settings, **{"optimizer.gradient_accumulation_steps": accumulate})
        )
        train_step.method.eval()  # batch statistics are of a micro-batch, and not what is meant here
        before = weights(train_step)
        names, losses = train_step(next(batches), 1.0, measure_norm=False)
        gradients.append([old - new for old, new in zip(before, weights(train_step), strict=True)] + [losses])
        assert names == ["categories"]
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_micro_batches_are_the_batch_in_order() -> None:
    batch = {"index": torch.arange(6), "valid": {"body": torch.arange(6) > 2}}
    parts = list(micro_batches(batch, 3))
    assert [part["index"].tolist() for part, _ in parts] == [[0, 1], [2, 3], [4, 5]]
    assert [part["valid"]["body"].tolist() for part, _ in parts] == [[False, False], [False, True], [True, True]]
    assert [last for _, last in parts] == [False, False, True]


def test_a_loss_that_needs_the_whole_batch_is_refused_with_micro_batches(tiny: Make) -> None:
    with pytest.raises(ConfigError, match="counts the positives of a whole global batch"):
        tiny("emotic_demo", **{"optimizer.gradient_accumulation_steps": 2})
    tiny("emotic_demo", **{"optimizer.gradient_accumulation_steps": 2, "loss.class_weights": "static"})
    with pytest.raises(ConfigError, match="must make up batch_size"):
        tiny(**{"optimizer.gradient_accumulation_steps": 3})


@pytest.mark.slow
def test_what_is_said_and_left_of_a_bad_batch(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil_losses(monkeypatch, step=6)
    config = tiny(**{"runtime.checkpoint_every": 2, "optimizer.lr": 0.02})
    write_config(tmp_path, config)
    with pytest.raises(CellError) as error:
        run_cell(tmp_path)
    state = records.read_json(tmp_path / "state.json")
    assert state["state"] == "failed"
    assert state["reason"] == str(error.value)
    assert state["reason"].startswith("non-finite: the loss of step 6 is not finite (factual nan, counterfactual nan")
    assert "learning rate 0.02" in state["reason"]

    left = np.load(tmp_path / "bad-batch-000000006.npz", allow_pickle=False)
    split = SplitShards(config.shards, "train", manifests.load(config.shards))
    ids = [json.loads(split.read(int(place), "meta.json") or b"")["id"] for place in left["index"]]
    assert left["id"].tolist() == ids
    assert all(name in state["reason"] for name in ids[:6])
    assert len(ids) == 16
    assert left["body"].dtype == np.uint8
    assert set(left["epoch"]) == {0}
    assert [int(path.name[-1]) for path in sorted((tmp_path / "checkpoints").glob("step-*"))] == [2, 4]
