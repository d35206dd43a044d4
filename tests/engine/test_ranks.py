"""Two ranks: the same global batches as one, each sample scored once, the same learning rates. Real processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from clef.config import CellConfig, resolve
from clef.yaml_config import merge
from tests.assertions import assert_equal

Make = Callable[..., CellConfig]
# Runs are shared by the tests of this file.
pytestmark = [pytest.mark.xdist_group("ranks"), pytest.mark.slow]
SCRIPT = Path(__file__).parent / "rank_script.py"


def launch(ranks: int, config: Path, out: Path, launcher: list[str] | None = None) -> dict[str, Any]:
    """Run rank_script.py on so many ranks; what rank 0 wrote."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    command = [*(launcher or torchrun), str(SCRIPT), str(config), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads((out / "rank-0.json").read_text())
    content["ranks"] = [json.loads(path.read_text()) for path in sorted(out.glob("rank-*.json"))]
    content["stderr"] = done.stderr
    return content


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """The same cell on one rank and on two."""
    from tests.conftest import TINY, TINY_METHOD

    folder = tmp_path_factory.mktemp("ranks")
    layer = {
        "dataset": "emotic_demo", "epochs": 2, "batch_size": 12, "schedule": {"name": "step", "step_size": 1},
        "runtime": {"shards": str(shards), "num_workers": 0, "log_every": 3},
    }  # fmt: skip
    config = resolve.resolve(merge(layer, TINY["emot_net"], TINY_METHOD["clef"], {"backbone": {"dropout": 0.0}}))
    result = {}
    for ranks in (1, 2):
        out = folder / str(ranks)
        out.mkdir()
        (out / "config.yaml").write_text(resolve.to_yaml(config))
        result[ranks] = launch(ranks, out / "config.yaml", out)
    return result


def test_both_ranks_came_up_and_the_log_says_how_many(runs: dict[int, Any]) -> None:
    assert [rank["world"] for rank in runs[2]["ranks"]] == [2, 2]
    assert "2 ranks on cpu" in runs[2]["stderr"]
    assert "1 rank on cpu" in runs[1]["stderr"]


def test_one_and_two_ranks_read_the_same_global_batches(runs: dict[int, Any]) -> None:
    # Trap: a loader split by rank and then given to `accelerator.prepare` is split twice, and half the data is lost.
    one = runs[1]["ranks"][0]["batches"]
    halves = [rank["batches"] for rank in runs[2]["ranks"]]
    assert len(one) > 10
    assert [first + second for first, second in zip(*halves, strict=True)] == one
    samples = runs[1]["samples"]
    keys = [key for batch in one for key in batch][: 2 * samples]
    assert sorted(keys[:samples]) == sorted(keys[samples:]) == sorted(set(keys))
    assert len(set(keys)) == samples


def test_both_evaluate_each_sample_once_with_the_same_scores(runs: dict[int, Any]) -> None:
    # Trap: distributed evaluation that pads or drops. The weights are the same initial ones in both runs.
    one, two = (np.array(runs[ranks]["scores"]) for ranks in (1, 2))
    assert one.shape == two.shape
    assert runs[1]["index"] == runs[2]["index"] == list(range(len(one)))
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_the_learning_rate_does_not_depend_on_ranks(runs: dict[int, Any]) -> None:
    # Trap: a prepared scheduler steps once for every rank.
    assert runs[1]["rates"] == runs[2]["rates"]
    assert len(set(runs[1]["rates"])) > 1


def test_two_ranks_learn_what_one_does(runs: dict[int, Any]) -> None:
    # With batch norm in evaluation mode and no dropout. A rank's loss is that of its half.
    one, halves = runs[1]["ranks"][0]["losses"], [rank["losses"] for rank in runs[2]["ranks"]]
    np.testing.assert_allclose(np.mean(halves, axis=0), one, rtol=1e-4)
    assert one[-1] != pytest.approx(one[0], rel=0.01)


def test_accelerate_launch_with_two_cpu_processes_runs_one_and_the_log_says_so(
    runs: dict[int, Any], tmp_path: Path
) -> None:
    # Trap: without a GPU, `accelerate launch --cpu --num_processes 2` silently is one process.
    config = tmp_path / "config.yaml"
    text = resolve.to_yaml(resolve.from_yaml(Path(runs[1]["config"])))
    config.write_text(text.replace("stop_after: null", "stop_after: 1"))
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    done = launch(0, config, tmp_path, accelerate)
    assert [rank["world"] for rank in done["ranks"]] == [1]
    assert "1 rank on cpu" in done["stderr"]


def test_two_ranks_broken_off_and_resumed_end_as_unbroken(shards: Path, tmp_path: Path) -> None:
    from tests.conftest import TINY, TINY_METHOD

    layer = {
        "dataset": "caer_s_demo",
        "epochs": 1,
        "batch_size": 20,
        "runtime": {"shards": str(shards), "num_workers": 0, "keep_checkpoints": True},
    }
    config = tmp_path / "cell.yaml"
    config.write_text(yaml.safe_dump(merge(layer, TINY["emot_net"], TINY_METHOD["clef"])))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for out, *arguments in (("whole",), ("broken", "runtime.stop_after=2"), ("broken", "--resume")):
        full = [
            *torchrun,
            "-m",
            "clef.train",
            "--config",
            str(config),
            f"runtime.output_dir={tmp_path / out}",
            *arguments,
        ]
        done = subprocess.run(full, capture_output=True, text=True, timeout=240, env=environment)
        assert done.returncode == 0, done.stderr
    assert "continues after step 2/" in done.stderr
    whole, broken = (max((tmp_path / name).glob("single/*/checkpoints/step-*")) for name in ("whole", "broken"))
    assert whole.name == broken.name
    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()
    for name in ("optimizer.pt", "rank-0.pt", "rank-1.pt"):
        assert_equal(*(torch.load(folder / name, weights_only=True) for folder in (whole, broken)))
