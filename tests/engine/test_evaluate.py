"""`python -m clef.evaluate`: the recorded number comes out again to the last bit, or what differs is named."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import clef.evaluate
from clef.cells import records
from clef.config import CellConfig, resolve
from clef.data import manifest as manifests
from tests.conftest import Run
from tests.engine.factories import train_cell

pytestmark = pytest.mark.slow

Make = Callable[..., CellConfig]


@pytest.fixture
def run(run_of: Callable[..., Run]) -> Run:
    return run_of(clef.evaluate.main)


def process(
    *words: object, cwd: Path, launcher: tuple[str, ...] = ("-m",), code: int = 0
) -> subprocess.CompletedProcess[str]:
    """A real process of a module, one thread a rank."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stderr
    return done


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of a cell, and when it was written."""
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("dataset", "backbone", "method", "trained_with", "scored_with"),
    [
        ("caer_s_demo", "emot_net", "vanilla", 0, 2),
        ("emotic_demo", "caer_net", "clef", 2, 0),
        ("caer_s_demo", "cd_net", "ccim", 0, 0),
    ],
)
def test_the_recorded_metrics_and_predictions_come_out_to_the_last_bit(
    run: Run, tiny: Make, tmp_path: Path, dataset: str, backbone: str, method: str, trained_with: int, scored_with: int
) -> None:
    folder = train_cell(tiny(dataset, backbone, method), workers=trained_with)
    before, result = content(folder), records.read_json(folder / "result.json")
    for split in ("test", "test_shift"):
        outputs = ("--json", tmp_path / "score.json", "--predictions", tmp_path / "predictions.npz", "--force")
        code, said, _ = run(folder, "--split", split, "--workers", scored_with, *outputs)
        assert (code, "as recorded, to the last bit: the metric, and every prediction" in said) == (0, True)
        score = json.loads((tmp_path / "score.json").read_text())
        assert (score["reproduced"], score["largest_difference"], score["changed"]) == (True, 0.0, {})
        assert {key: score[key] for key in result["splits"][split]} == result["splits"][split]
        assert score["sha256"] == result["run"]["checkpoint"]["sha256"]
        one, two = np.load(folder / f"predictions-{split}.npz"), np.load(tmp_path / "predictions.npz")
        assert set(one.files) == set(two.files)
        assert all(np.array_equal(one[key], two[key]) and one[key].dtype == two[key].dtype for key in one.files)
    assert content(folder) == before, "nothing is written into the cell"


def test_predictions_that_were_changed_or_lack_an_array_are_noticed(run: Run, vanilla: Path) -> None:
    path = vanilla / "predictions-test.npz"
    arrays = dict(np.load(path))
    assert "as recorded, to the last bit: the metric, and every prediction" in run(vanilla)[1]
    np.savez(path, **arrays | {"scores": arrays["scores"] + 1})
    code, _, said = run(vanilla)
    assert (code, "was not reproduced" in said) == (6, True)
    assert len(arrays.pop("group")) == len(arrays["index"])
    np.savez(path, **arrays)
    code, _, said = run(vanilla)
    assert (code, "predictions of another method or split" in said) == (6, True)


def test_a_cell_that_computes_in_bf16_on_kept_features_too(run: Run, tiny: Make) -> None:
    frozen = {"method.context_branch.trainable": False, "inputs.context.flip": False, "mixed_precision": "bf16"}
    folder = train_cell(tiny(**frozen))
    code, said, _ = run(folder)
    assert (code, "as recorded, to the last bit" in said) == (0, True)


def test_val_is_held_against_what_validation_said(run: Run, tiny: Make, tmp_path: Path) -> None:
    folder = train_cell(tiny(epochs=2, **{"optimizer.lr": 0.05}))
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    by_step = {line["step"]: line["val"] for line in lines if "val" in line}
    assert len(set(by_step.values())) == 2, "else the weights could be mistaken for one another"
    for wanted in ("best", *(f"step-{step:09d}" for step in by_step)):
        written = ("--json", tmp_path / "s.json", "--force")
        code, said, _ = run(folder, "--split", "val", "--checkpoint", wanted, *written)
        assert (code, "as recorded, to the last bit: the metric" in said) == (0, True)
        value = by_step[int(wanted[5:])] if wanted != "best" else max(by_step.values())
        assert json.loads((tmp_path / "s.json").read_text())["value"] == value
    worse = min(by_step, key=lambda step: by_step[step])
    assert "no score is recorded for these weights" in run(folder, "--checkpoint", f"step-{worse:09d}")[1]


def test_an_unfinished_cell_is_scored_with_its_newest_checkpoint(run: Run, tiny: Make, tmp_path: Path) -> None:
    folder = train_cell(tiny(epochs=2), checkpoint_every=2, stop_after=6)
    assert not (folder / "result.json").exists()
    code, said, _ = run("caer_s_demo-emot_net-clef", "--split", "val", "--json", tmp_path / "s.json")
    assert (code, f"{folder.name}, step-000000006, val: accuracy" in said) == (0, True)
    assert json.loads((tmp_path / "s.json").read_text())["reproduced"] is None
    path = folder / "checkpoints" / "step-000000004"
    assert "step-000000004, train" in run(folder, "--split", "train", "--checkpoint", path)[1]


def test_a_cell_of_two_ranks_comes_out_on_two_and_one_rank_says_that_it_is_one(
    run: Run, tiny: Make, tmp_path: Path
) -> None:
    config = tmp_path / "cell.yaml"
    config.write_text(resolve.to_yaml(tiny(method="vanilla")))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    process("clef.train", "--config", config, cwd=tmp_path, launcher=torchrun)
    [folder] = (tmp_path / "runs" / "single").iterdir()
    done = process("clef.evaluate", folder, cwd=tmp_path, launcher=torchrun)
    assert "as recorded, to the last bit: the metric, and every prediction" in done.stdout
    assert done.stdout.count("test: accuracy") == 1, "the main rank alone speaks"
    assert run(folder, "--json", tmp_path / "s.json")[0] == 0
    score = json.loads((tmp_path / "s.json").read_text())
    assert score["changed"] == {"ranks": [2, 1]}
    assert score["samples"] == score["recorded"]["samples"]
    assert score["largest_difference"] < 1e-5
    assert score["value"] == pytest.approx(score["recorded"]["value"], abs=2)


def test_what_differs_is_named_where_the_number_does_not_come_out(run: Run, tiny: Make) -> None:
    folder = train_cell(tiny(method="vanilla"))
    environment = records.read_json(folder / "environment.json")
    environment["packages"]["torch"] = "2.0.0"
    records.write_json(folder / "environment.json", environment | {"threads": 64, "dtype": "bfloat16"})
    moved = folder / "predictions-test.npz"
    arrays = dict(np.load(moved))
    arrays["scores"][3, 1] += 0.25
    np.savez(moved, **arrays)
    code, said, _ = run(folder)
    assert code == 0
    assert "not as recorded" in said
    assert "predictions differ by up to 0.25; what differs: dtype: bfloat16 then, float32 now" in said
    assert "packages.torch: 2.0.0 then" in said
    assert "threads: 64 then, 1 now" in said


def test_a_number_that_nothing_explains_is_an_error(run: Run, tiny: Make, tmp_path: Path) -> None:
    folder = train_cell(tiny(method="vanilla"))
    result = records.read_json(folder / "result.json")
    value = result["splits"]["test"]["value"]
    result["splits"]["test"]["value"] = float(np.nextafter(value, 100))
    records.write_json(folder / "result.json", result)
    code, said, error = run(folder, "--json", tmp_path / "s.json")
    assert (code, "was not reproduced, though nothing that may change it differs" in error) == (6, True)
    assert f"not as recorded: accuracy {result['splits']['test']['value']!r} then, {value!r} now" in said
    assert json.loads((tmp_path / "s.json").read_text())["reproduced"] is False


def test_neither_pretrained_files_nor_the_place_of_the_shards_are_needed(
    run: Run, tiny: Make, tmp_path: Path, shards: Path
) -> None:
    import torch
    import torchvision

    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "mine.pth")
    whole = {"backbone.width": 1, "backbone.weights": {"scene": str(tmp_path / "mine.pth"), "body": "none"}}
    folder = train_cell(tiny(method="vanilla", batch_size=64, **whole))
    (tmp_path / "mine.pth").unlink()
    shutil.copytree(shards, tmp_path / "moved")
    code, said, _ = run(folder, "--shards", tmp_path / "moved")
    assert (code, "as recorded, to the last bit" in said) == (0, True)


def test_a_frozen_encoder_needs_the_file_that_it_was_trained_with(run: Run, tiny: Make, tmp_path: Path) -> None:
    import torch

    from clef.models.encoders import make_encoder
    from clef.weights import cells as weights_of_cells

    def save(seed: int) -> None:
        torch.manual_seed(seed)
        torch.save(make_encoder("resnet18", 0.0625).state_dict(), tmp_path / "mine.pth")
        weights_of_cells._checked.cache_clear()

    save(0)
    stream = {"weights": str(tmp_path / "mine.pth"), "trainable": False}
    folder = train_cell(tiny(backbone="encoders", method="vanilla", **{"backbone.encoders.body": stream}))
    code, said, _ = run(folder)
    assert (code, "as recorded, to the last bit" in said) == (0, True)
    save(1)
    code, _, error = run(folder)
    assert (code, "mine.pth: not the weights that the cell's frozen encoder body had in training" in error) == (5, True)
    (tmp_path / "mine.pth").unlink()
    code, _, error = run(folder)
    assert (code, "mine.pth: no such weights file" in error) == (5, True)


def other_images(root: Path) -> None:
    manifest = manifests.load(root / "caer_s_demo")
    manifest.splits["val"].content["body.jpg"] = "0" * 64
    manifests.save(root / "caer_s_demo", manifest)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.fixture
def vanilla(tiny: Make) -> Path:
    return train_cell(tiny(method="vanilla"))


def test_bad_input_is_refused_by_name(run: Run, vanilla: Path, tmp_path: Path, shards: Path) -> None:
    refusals: list[tuple[tuple[Any, ...], int, str]] = [
        (("nosuch",), 2, "nosuch: no such folder, and none of the 1 cells below runs matches"),
        (("caer_s_demo-emot_net-vanila-s0",), 2, f"did you mean single/{vanilla.name}?"),
        ((tmp_path,), 2, "not a cell's folder: config.yaml is missing"),
        ((vanilla, "--split", "tset"), 2, "--split tset: no such split in"),
        ((vanilla, "--split", "tset"), 2, "there are: train, val, test, test_shift"),
        ((vanilla, "--checkpoint", "step-1"), 6, "no weights 'step-1'; there are: best, step-0000000"),
        ((vanilla, "--workers", "-1"), 2, "--workers -1: 0 or more are expected"),
        ((vanilla, "--shards", tmp_path), 4, "no shards here"),
    ]
    before = content(vanilla)
    for arguments, code, message in refusals:
        found, _, said = run(*arguments)
        assert message in said
        assert found == code
    moved = shutil.copytree(shards, tmp_path / "moved")
    other_images(moved)
    code, _, said = run(vanilla, "--shards", moved)
    assert (code, "was trained on: other content in val/body.jpg; say where" in said) == (4, True)
    assert content(vanilla) == before


def test_two_cells_of_one_name_are_listed(run: Run, tiny: Make) -> None:
    names = [train_cell(tiny(method="vanilla", seed=seed), stop_after=1).name for seed in (0, 1)]
    code, _, said = run("emot_net-vanilla")
    assert (code, said) == (2, f"error: emot_net-vanilla: 2 cells match: single/{names[0]} single/{names[1]}")
    assert f"{names[1]}, step-000000001, test" in run(names[1])[1]


def test_weights_that_are_missing_or_damaged(run: Run, vanilla: Path, tmp_path: Path, tiny: Make) -> None:
    best = vanilla / "checkpoints" / "best.safetensors"
    short, other, changed = (tmp_path / name / "best.safetensors" for name in ("short", "other", "changed"))
    for path in (short, other, changed):
        path.parent.mkdir()
    short.write_bytes(best.read_bytes()[:-9])
    tensors = load_file(best)
    save_file({key: value for key, value in tensors.items() if "classifier" not in key}, other)
    save_file({key: value * 0.5 if value.is_floating_point() else value for key, value in tensors.items()}, changed)
    assert "no score is recorded for these weights" in run(vanilla, "--checkpoint", changed)[1]
    for path in (short, other):
        code, _, said = run(vanilla, "--checkpoint", path)
        assert (code, f"{path}: not the weights of this cell: " in said) == (6, True)
    flip_a_bit(best)
    code, _, said = run(vanilla)
    assert (code, "damaged, or other weights than those that result.json was scored with" in said) == (6, True)
    best.unlink()
    code, _, said = run(vanilla)
    assert (code, "no weights 'best'; there are: step-0000000" in said) == (6, True)
    shutil.rmtree(vanilla / "checkpoints")
    (vanilla / "result.json").unlink()
    assert "no weights 'last'; it has none yet" in run(vanilla)[2]


def test_a_config_that_was_changed_is_another_cell(run: Run, vanilla: Path) -> None:
    path = vanilla / "config.yaml"
    path.write_text(path.read_text().replace("lr: 0.0", "lr: 0.1", 1))
    code, _, said = run(vanilla)
    assert (code, "config.yaml was changed, or this is no cell's folder" in said) == (6, True)


def test_real_processes(vanilla: Path, tmp_path: Path) -> None:
    done = process("clef.evaluate", "emot_net-vanilla", "--split", "test_shift", cwd=tmp_path)
    assert "as recorded, to the last bit" in done.stdout
    assert "test_shift: " in done.stderr, "how far it is"
    assert "Traceback" not in process("clef.evaluate", "emot_net-clef", cwd=tmp_path, code=2).stderr
    assert "exit codes:" in process("clef.evaluate", "--help", cwd=tmp_path).stdout
