"""Training a whole cell: resume to the bit, what is recorded, and what is refused."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clef.cells import records
from clef.cells.identity import write_config
from clef.config import CellConfig, resolve
from clef.data import manifest as manifests
from clef.data.dataset import CellDataset
from clef.data.shards import SplitShards
from clef.engine import atomic_dir, checkpoint, distributed
from clef.engine.run import run_cell
from clef.errors import CellError, ConfigError, SetupError
from clef.metrics import headline_score
from tests.assertions import assert_equal

Make = Callable[..., CellConfig]


def train(config: CellConfig, folder: Path, **runtime: Any) -> dict[str, Any]:
    changed = config.model_copy(update={"runtime": config.runtime.model_copy(update=runtime)})
    write_config(folder, changed)
    return run_cell(folder)


def state(folder: Path) -> tuple[dict[str, torch.Tensor], Any, Any]:
    """Weights, optimiser, random states and open sums of the newest checkpoint."""
    newest = atomic_dir.complete(folder / "checkpoints")[-1]
    weights = checkpoint.read_weights(newest / "model.safetensors")
    optimizer = torch.load(newest / "optimizer.pt", weights_only=True)
    return weights, optimizer, torch.load(newest / "rank-0.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "backbone"), [(0, "emot_net"), (2, "caer_net")])
def test_a_run_stopped_in_mid_epoch_and_resumed_equals_an_unbroken_one(
    tiny: Make, tmp_path: Path, workers: int, backbone: str
) -> None:
    config = tiny(backbone=backbone, epochs=2, **{"optimizer.lr": 0.05, "schedule.name": "cosine"})
    unbroken = train(config, tmp_path / "unbroken", workers=workers)
    assert train(config, tmp_path / "broken", workers=workers, stop_after=3) == {}
    assert records.read_json(tmp_path / "broken" / "state.json")["state"] == "stopped"
    assert train(config, tmp_path / "broken", workers=workers, stop_after=10) == {}
    torch.manual_seed(99)  # whatever this process did in between must not matter
    broken = train(config, tmp_path / "broken", workers=workers)
    assert_equal(state(tmp_path / "unbroken"), state(tmp_path / "broken"))
    assert broken["splits"] == unbroken["splits"]
    for split in ("test", "test_shift"):
        one, two = (np.load(tmp_path / name / f"predictions-{split}.npz") for name in ("unbroken", "broken"))
        assert all(np.array_equal(one[key], two[key]) for key in one.files)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["caer_s_demo", "emotic_demo"])
def test_a_cell_leaves_a_complete_record(tiny: Make, tmp_path: Path, dataset: str) -> None:
    config = tiny(dataset=dataset)
    result = train(config, tmp_path)
    manifest = manifests.load(Path(config.runtime.shards) / dataset)
    assert records.read_json(tmp_path / "result.json") == json.loads(json.dumps(result))
    assert records.read_json(tmp_path / "state.json")["state"] == "done"
    assert result["random_init"] == ["body", "context_branch", "scene"]
    assert result["environment"]["dtype"] == "float32"
    assert result["environment"]["ranks"] == 1
    for split in ("test", "test_shift"):
        arrays = np.load(tmp_path / f"predictions-{split}.npz", allow_pickle=False)
        assert np.array_equal(arrays["index"], np.arange(manifest.splits[split].samples))
        vad = {"vad", "vad_target"} if dataset == "emotic_demo" else set()
        assert set(arrays.files) == {"index", "target", "scores", "group", "Y_c", "Y_e", "Y_e*"} | vad
        assert result["splits"][split]["value"] == headline_score(arrays["scores"], arrays["target"])
        if vad:
            shards = SplitShards(Path(config.runtime.shards) / dataset, split)
            stated = [json.loads(shards.read(place, "meta.json") or b"")["vad"] for place in range(len(shards))]
            np.testing.assert_array_equal(arrays["vad_target"], np.array(stated, np.float32))
            assert arrays["vad"].shape == (len(shards), 3)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    terms = {"factual", "counterfactual", "kl"} | ({"vad"} if dataset == "emotic_demo" else set())
    steps = [line for line in lines if "losses" in line]
    page = (Path(__file__).parents[2] / "docs/training.md").read_text()
    stated = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`.*?) \|", page.partition("## Logs")[2], re.M)[:7]))
    for line in steps:
        assert set(line["losses"]) == terms
        assert line["grad_norm"] > 0
        assert set(line) == set(stated)
    assert [line["epoch"] for line in lines if "val" in line] == [1]


def test_a_method_without_a_trained_weight_is_scored_without_a_step(tiny: Make, tmp_path: Path) -> None:
    stated = tiny(method="vanilla", epochs=2).model_dump(mode="json")
    config = resolve.resolve(stated | {"backbone": {"name": "tests.engine.own_backbones:Fixed"}})
    result = train(config, tmp_path)
    assert (result["steps"], result["best_epoch"], result["run"]["samples_seen"]) == (0, 0, 0)
    [line] = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert line == {"epoch": 0, "step": 0, "val": result["val"]}
    assert records.read_json(tmp_path / "state.json")["state"] == "done"
    image = config.inputs.images["scene"]
    shards = SplitShards(config.shards, "test")
    scores = np.load(tmp_path / "predictions-test.npz")["scores"]
    matrix = np.linspace(-1, 1, 3 * len(config.card.classes)).reshape(-1, 3)
    for place in range(0, len(shards), 7):
        picture = CellDataset(shards, {"scene": image}, 0, augment=False)[(0, place)]["scene"]
        color = (picture.double().mean((1, 2)).numpy() / 255 - image.mean) / image.std
        np.testing.assert_allclose(scores[place], matrix @ color, rtol=1e-4)


@pytest.mark.slow
def test_a_finished_cell_is_not_trained_again(tiny: Make, tmp_path: Path) -> None:
    first = train(tiny(method="vanilla"), tmp_path)
    before = (tmp_path / "log.jsonl").read_text()
    assert train(tiny(method="vanilla"), tmp_path) == json.loads(json.dumps(first))
    assert (tmp_path / "log.jsonl").read_text() == before


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_cell_with_its_reason(tiny: Make, tmp_path: Path) -> None:
    with pytest.raises(CellError, match="non-finite: the loss of step 2 is not finite"):
        train(tiny(**{"optimizer.lr": 1e30}), tmp_path)
    failed = records.read_json(tmp_path / "state.json")
    assert failed["state"] == "failed"
    assert failed["reason"].startswith("non-finite")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scores", "best"), [([math.nan, 20.0, math.nan], (20.0, 2)), ([30.0, math.nan, 20.0], (30.0, 1))]
)
def test_a_validation_without_a_value_neither_wins_nor_blocks(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float], best: tuple[float, int]
) -> None:
    values = iter(scores)
    monkeypatch.setattr("clef.engine.trainer.headline_score", lambda *_: next(values))
    result = train(tiny("caer_s_demo", "caer_net", "vanilla", epochs=3), tmp_path)
    assert (result["val"], result["best_epoch"]) == best
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["val"] for line in lines if "val" in line] == [None if math.isnan(s) else s for s in scores]


@pytest.mark.slow
def test_bf16_computes_in_bfloat16_and_says_so(tiny: Make, tmp_path: Path) -> None:
    result = train(tiny(mixed_precision="bf16"), tmp_path)
    assert result["environment"]["dtype"] == "bfloat16"
    assert np.load(tmp_path / "predictions-test.npz")["scores"].dtype == np.float32
    assert math.isfinite(result["splits"]["test"]["value"])


def test_fp16_on_a_cpu_is_refused_not_ignored(tiny: Make, tmp_path: Path) -> None:
    # Trap: accelerate takes fp16 on a CPU and computes in fp32 without a word.
    with pytest.raises(SetupError, match="fp16: not available on a CPU"):
        train(tiny(mixed_precision="fp16"), tmp_path)


def test_a_launch_flag_that_contradicts_the_config_is_an_error(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(ConfigError, match="--mixed_precision bf16, the config says fp32"):
        distributed.accelerate_precision(tiny(), on_cpu=True)
    assert distributed.accelerate_precision(tiny(mixed_precision="bf16"), on_cpu=True) == "bf16"
