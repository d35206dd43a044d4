"""Numbers that are not finite: no update from the first of them on, and no wait for the device in any step."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from clef.config import CellConfig, FaultConfig
from clef.data import manifest as manifests
from clef.data.dataset import CellDataset
from clef.data.loader import loader, to_device
from clef.data.shards import SplitShards
from clef.engine.faults import Faults
from clef.engine.run import run_cell
from clef.engine.train_log import StepMeter
from clef.engine.train_step import NonFiniteGuard, TrainStep, micro_batches
from clef.errors import CellError, ConfigError
from tests.engine.equal import assert_equal

Make = Callable[..., CellConfig]


def updates(config: CellConfig, *faults: FaultConfig) -> tuple[TrainStep, Iterator[dict[str, Any]]]:
    """The updates of a cell, as its trainer makes them, and its train batches."""
    manifest = manifests.load(config.shards)
    split = SplitShards(config.shards, "train", manifest)
    counts = [manifest.splits["train"].classes[name] for name in manifest.classes]
    torch.manual_seed(0)

    def none(load: Any) -> Any:
        raise AssertionError("no dictionary here")

    method = methods.build(config, counts, len(split), none)
    made = TrainStep(config, method, Accelerator(cpu=True), Faults(faults, 0))
    made.method.train()
    size = config.batch_size
    items = [[(0, place) for place in range(first, first + size)] for first in range(0, len(split) - size, size)]
    dataset = CellDataset(split, config.inputs.present, 0, augment=True)
    return made, (to_device(b, config.inputs.present, torch.device("cpu")) for b in loader(dataset, items, 0))


def weights(made: TrainStep) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in made.parameters]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_from_the_first_bad_step_on_weights_and_optimiser_stand_still(tiny: Make, name: str) -> None:
    config = tiny(**{"optimizer.name": name})
    made, batches = updates(config, FaultConfig(kind="nan", step=3))
    for step in (1, 2):
        made(next(batches), step, 0.01, measured=False)
    before, state = weights(made), made.optimizer.state_dict()
    kept = json.loads(json.dumps(state, default=lambda tensor: tensor.tolist()))
    for step in (3, 4, 5):  # nobody has looked at the flag yet, as between two log lines on a GPU
        made(next(batches), step, 0.01, measured=False)
    assert_equal(weights(made), before)
    assert json.loads(json.dumps(made.optimizer.state_dict(), default=lambda tensor: tensor.tolist())) == kept
    assert made.guard.since.item() == 3
    assert np.isnan(made.guard.terms(made.accelerator, 3)).all()


def test_a_gradient_alone_is_enough_and_so_is_a_loss() -> None:
    guard, good = NonFiniteGuard(torch.device("cpu")), torch.ones(2)
    guard.watch(good.clone(), [good.clone()])
    assert not guard.found
    guard.watch(good.clone(), [good.clone(), torch.tensor([1.0, float("inf")])])
    assert guard.found
    other = NonFiniteGuard(torch.device("cpu"))
    other.watch(torch.tensor([float("nan"), 1.0]), [good])
    assert other.found
    other.watch(good * 5, [good])
    assert other.since.item() == 2
    assert np.isnan(other.terms(Accelerator(cpu=True), 2)).tolist() == [True, False]


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


@pytest.mark.parametrize("settings", [{}, {"optimizer.clip_norm": 1.0}, {"optimizer.accumulate": 2}])
def test_no_step_waits_for_the_device(tiny: Make, settings: dict[str, Any]) -> None:
    made, batches = updates(tiny(**settings))
    window = StepMeter(made.accelerator)
    first, second = next(batches), next(batches)
    made(first, 1, 0.01, measured=False)
    with no_waiting():
        window.add(*made(second, 2, 0.01, measured=True))
    with pytest.raises(AssertionError, match="_local_scalar_dense"), no_waiting():  # the test would notice
        made.guard.found.item()


def test_micro_batches_give_the_gradient_of_the_whole_batch(tiny: Make) -> None:
    settings = {"optimizer.momentum": 0.0, "backbone.dropout": 0.0}
    gradients = []
    for accumulate in (1, 4):
        made, batches = updates(tiny(method="vanilla", **settings, **{"optimizer.accumulate": accumulate}))
        made.method.eval()  # batch statistics are of a micro-batch, and not what is meant here
        before = weights(made)
        names, losses = made(next(batches), 1, 1.0, measured=False)
        gradients.append([old - new for old, new in zip(before, weights(made), strict=True)] + [losses])
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
        tiny("emotic_demo", **{"optimizer.accumulate": 2})
    tiny("emotic_demo", **{"optimizer.accumulate": 2, "loss.class_weights": "static"})
    with pytest.raises(ConfigError, match="must make up batch_size"):
        tiny(**{"optimizer.accumulate": 3})


def test_what_is_said_and_left_of_a_bad_batch(tiny: Make, tmp_path: Path) -> None:
    faults = [{"kind": "nan", "step": 6}]
    config = tiny(**{"runtime.faults": faults, "runtime.checkpoint_every": 2, "optimizer.lr": 0.02})
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
