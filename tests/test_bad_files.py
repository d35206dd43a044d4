"""The commands on odd configs, grids and cards, on records and shards that were tampered with, and on odd paths.

`test_bad_input.py` has the common mistakes. Every table here is (arguments or damage, exit code, what the user reads).
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.io import savemat

from clef.config.methods import METHODS
from clef.data import manifest as manifests
from clef.data import order
from clef.errors import ConfigError
from tests import test_bad_input
from tests.test_bad_input import Run

run, damaged = test_bad_input.run, test_bad_input.damaged  # fixtures
SMALL = {
    "backbone": {"width": 0.0625, "weights": {"scene": "none", "body": "none"}},
    "inputs": {"scene": {"size": [24, 24]}, "body": {"size": [24, 24]}},
    "epochs": 1,
    "resources": {"gpus": 0},
    "runtime": {"num_workers": 0},
}
CELL = ("train", "dataset=caer_s_demo", "backbone=emot_net", "method=vanilla")
TINY = (
    *CELL, "backbone.width=0.0625", "backbone.weights={scene: none, body: none}", "inputs.scene.size=[24, 24]",
    "inputs.body.size=[24, 24]", "runtime.num_workers=0", "epochs=1",
)  # fmt: skip
GRID = {
    "datasets": ["caer_s_demo"], "backbones": ["emot_net"], "methods": ["vanilla"], "seeds": [0],
    "overrides": [{"set": SMALL}],
}  # fmt: skip
PLAN = ("grid", "--grid", "g.yaml", "--dry-run")


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def refused(outcome: tuple[int, str], code: int, message: str) -> None:
    found, said = outcome
    assert message in said
    assert found == code
    assert said.count("error:") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "cell.yaml: not valid YAML: while parsing a flow sequence"),
        ("- 1", "cell.yaml: a mapping (key: value) is expected at the top level"),
        ("dataset: caer_s_demo\nbackbone: resnet", "cell.yaml: method is missing; set it, for example method=clef"),
        ("dataset: emotik", "dataset 'emotik': unknown (did you mean emotic?)"),
    ],
)
def test_a_config_file_that_is_none(run: Run, text: str, message: str) -> None:
    write("cell.yaml", text)
    refused(run("train", "--config", "cell.yaml"), 2, message)


def test_an_override_beside_a_config_file_is_not_blamed_on_the_file_alone(run: Run) -> None:
    write("cell.yaml", "dataset: caer_s_demo\nbackbone: emot_net\nmethod: vanilla\n")
    said = "cell.yaml and command line: epoch: unknown (did you mean epochs?)"
    refused(run("train", "--config", "cell.yaml", "epoch=3"), 2, said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("method=clefx", f"method 'clefx': unknown (did you mean clef?); valid: {', '.join(sorted(METHODS))}"),
        ("backbone=no.module:Net", "backbone 'no.module:Net': No module named 'no'; is its folder on PYTHONPATH?"),
        (
            "optimizer.lrr=1",
            "optimizer.lrr: unknown (did you mean lr?); valid: gradient_accumulation_steps, head_lr_multiplier, lr",
        ),
        ("optimizer.name=sgdd", "optimizer.name: sgd, adam, adamw or module:Class is expected, not 'sgdd'"),
        ("optimizer=sgd", "optimizer: input should be a valid dictionary"),
        ("optimizer.lr=nan", "optimizer.lr: input should be a finite number, not 'nan'"),
        ("optimizer.lr=.nan", "optimizer.lr: input should be a finite number, not nan"),
        ("epochs=[1", "'epochs=[1': '[1' is not a YAML value"),
        ("a..b=1", "'a..b=1': overrides are written key=value or key.sub=value"),
        ("[bold]x=1", "[bold]x: unknown; valid: against, backbone"),
        ("inputs.face.size=[24, 24]", "inputs.face: unknown; valid: body, scene (what this backbone and method read)"),
        ("inputs.scene.crop=[900, 900]", "inputs.scene: crop (900, 900) is larger than size (24, 24)"),
        ("loss.categories=bce", "loss.categories: caer_s_demo is single_label, which takes cross_entropy"),
        ("loss.vad_weight=1", "caer_s_demo has no valence, arousal and dominance; set it to 0"),
        ("mixed_precision=fp8", "mixed_precision: input should be 'fp32', 'bf16' or 'fp16', not 'fp8'"),
        ("--restart", "argument --restart: not allowed with argument --resume"),
        ("--precision", "unrecognized arguments: --precision"),
    ],
)
def test_a_setting_that_cannot_be(run: Run, damaged: Path, setting: str, message: str) -> None:
    key = setting.partition("=")[0]
    others = [argument for argument in TINY if argument.partition("=")[0] != key]  # stated once
    refused(run(*others, "--resume", setting), 2, message)


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = manifests.load(root).model_dump()
    change(content)
    manifests.save(root, manifests.Manifest.model_construct(**content))


def index(root: Path, field: str, value: int) -> None:
    rows = np.load(root / "train.index.npy")
    rows[field] = value
    np.save(root / "train.index.npy", rows)


def replace(root: Path, old: bytes, new: bytes) -> None:
    tar = root / "train-000000.tar"
    data = tar.read_bytes()
    assert old in data
    assert len(old) == len(new)
    tar.write_bytes(data.replace(old, new))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: (root / "manifest.json").write_text("[]"),
            "manifest.json: damaged: not a manifest; restore it from a copy",
        ),
        (
            lambda root: edit(root, lambda m: m["splits"].pop("train")),
            "made with another card than the cell's",
        ),
        (
            lambda root: edit(root, lambda m: m["splits"]["val"]["members"].pop("body.jpg")),
            "damaged: splits.val.members: nothing is said of body.jpg; restore it from a copy",
        ),
        (lambda root: (root / "train.index.npy").unlink(), "train.index.npy: the index can't be read"),
        (lambda root: np.save(root / "train.index.npy", np.array(3)), "train.index.npy: not the index of 117 samples"),
        (lambda root: index(root, "shard", 99), "train.index.npy: points outside the tars for sample 0000"),
        (lambda root: index(root, "offset", -5), "train.index.npy: points outside the tars for sample 0000"),
        (lambda root: index(root, "size", 10**12), "train.index.npy: points outside the tars for sample 0000"),
        (lambda root: index(root, "offset", 512), "meta.json is not JSON; restore it from a copy"),
        (
            lambda root: replace(root, b'"Happy"', b'"Hoppy"'),
            "label 'Hoppy' is no class of this set; restore it from a copy",
        ),
        (lambda root: replace(root, b'"labels"', b'"labelz"'), "meta.json lacks labels; restore it from a copy"),
    ],
)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of what was meddled with
def test_shards_that_were_meddled_with(run: Run, damaged: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(damaged / "caer_s_demo")
    code, said = run(*TINY)
    assert message in said
    assert code == 4
    assert "Traceback" not in said
    assert "remove" not in said, "the other files are sound"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "test-000000.tar").unlink(), "1 fault: test-000000.tar: missing"),
        (lambda root: (root / "test.index.npy").unlink(), "1 fault: test.index.npy: missing"),
        (lambda root: (root / "more.tar").write_bytes(b""), "1 fault: more.tar: not in the manifest"),
        (lambda root: replace(root, b'"Happy"', b'"Hoppy"'), "1 fault: train-000000.tar: not the bytes that were"),
        (lambda root: [tar.unlink() for tar in root.glob("*.tar")], "4 faults: test-000000.tar: missing test_shift-0"),
    ],
)
def test_verify_finds(run: Run, damaged: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(damaged / "caer_s_demo")
    outcome = run("shard", "--dataset", "caer_s_demo", "--verify")
    refused(outcome, 4, message)
    foreign = "more.tar" in message
    assert outcome[1].endswith("move what isn't part of it elsewhere" if foreign else "in another folder (--out)")


@pytest.mark.slow
def test_records_that_were_meddled_with(run: Run, damaged: Path) -> None:
    assert run(*TINY, "runtime.stop_after=1")[0] == 0
    (folder,) = Path("runs/single").iterdir()
    (checkpoint,) = folder.glob("checkpoints/step-*")
    (checkpoint / "progress.json").write_text("{")
    refused(run(*TINY, "--resume"), 6, "no checkpoint is left to continue from, just damaged ones (damaged-000000001)")
    (folder / "result.json").write_text('{"a": 1}')
    refused(run(*TINY), 6, "result.json: not the result of a cell; train it again with --restart")


WHOLE = {"annotations_continuous": {"valence": 1, "arousal": 2, "dominance": 3}, "body_bbox": [1, 2, 3, 4]}
"""What a person of train must have besides categories."""


def only_train(**person: Any) -> dict[str, Any]:
    """An Annotations.mat of one image with one person."""
    return {"train": {"filename": "a.jpg", "folder": "mscoco/images", "person": person}, "val": 1, "test": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            only_train(**WHOLE | {"annotations_categories": {"categories": "Glee"}}),
            "unknown category 'Glee'; known: Affection, Anger",
        ),
        (only_train(body_bbox=[1, 2, 3, 4]), "person mscoco/images/a.jpg#0: not EMOTIC's fields"),
        ({"train": {"filename": "a.jpg", "folder": "x"}, "val": 1, "test": 1}, "x/a.jpg: no field `person`"),
        ({"train": 1, "val": 1, "test": 1}, "an image without `folder` or `filename`: 1"),
    ],
)
def test_annotations_with_other_content(run: Run, content: dict[str, Any], message: str) -> None:
    Path("emotic/mscoco/images").mkdir(parents=True)
    savemat("Annotations.mat", content)
    refused(run("shard", "--dataset", "emotic", "--source", ".", "--workers", 1), 3, message)


def caer_s(boxes: str) -> None:
    """One image in each class of each split, and these face boxes for both."""
    for split in ("train", "test"):
        for name in ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"):
            write(f"s/{split}/{name}/0001.png", "no image")
        write(f"s/{split}.txt", boxes)


def one_class_empty() -> None:
    caer_s("")
    Path("s/train/Happy/0001.png").unlink()


@pytest.mark.parametrize(
    ("prepare", "code", "message"),
    [
        (lambda: caer_s("Happy/0001.png,3,a,2,3,4\n"), 3, "train.txt:1: four numbers x1,y1,x2,y2 are expected"),
        (lambda: caer_s(""), 3, "split train lists nobody; is the source complete?"),
        (one_class_empty, 3, "s/train: no images of class Happy; expected: Anger"),
        (lambda: write("s", "a file"), 3, "s: CAER-S not found"),
        (lambda: write("card.yaml", "extends: caer_s\ncolour: red"), 2, "card.yaml: colour: unknown (did you mean"),
        (lambda: write("card.yaml", "extends: card.yaml"), 2, "extends: the name of another card is expected"),
        (lambda: write("card.yaml", "extends: emotik"), 2, "dataset 'emotik': unknown (did you mean emotic?)"),
        (lambda: write("card.yaml", ""), 2, "card.yaml: name: missing title: missing"),
        (
            lambda: write("card.yaml", "extends: caer_s\nname: card\nreader: mine"),
            2,
            "reader 'mine': unknown; valid: caer_s",
        ),
    ],
)
def test_sources_and_cards(run: Run, prepare: Callable[[], None], code: int, message: str) -> None:
    prepare()
    card = "card.yaml" if Path("card.yaml").exists() else "caer_s"
    refused(run("shard", "--dataset", card, "--source", "s", "--workers", 1), code, message)


def test_paths_that_cannot_be_written(run: Run, damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("file [b]", "")
    remedy = "check the path"
    refused(run(*TINY, "runtime.output_dir=file [b]"), 5, "file [b]/single/caer_s_demo-emot_net-vanilla-s0-")
    write("g.yaml", yaml.safe_dump(GRID))
    refused(run("grid", "--grid", "g.yaml", "--local", 1, "--out", "file [b]"), 5, f"Not a directory; {remedy}")
    write("runs/g/plan.json", '{"grid": "g", "cells": []}')
    refused(run("grid", "--grid", "g.yaml", "--gather", "--results", "file [b]"), 5, "file [b]/g: Not a dir")
    monkeypatch.setattr("clef.shard.prepare", full_disk)
    refused(run("shard", "--dataset", "caer_s"), 5, "error: No space left on device; free some disk space")


def full_disk(*_: object) -> None:
    raise OSError(28, os.strerror(28))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"dataset": ["emotic"]}, "g.yaml: dataset: unknown (did you mean datasets?); valid: backbones, datasets"),
        ({"backbones": ["emot_nett"]}, "g.yaml: backbones: 'emot_nett': unknown (did you mean emot_net?)"),
        ({"datasets": ["emotik"]}, "dataset 'emotik': unknown (did you mean emotic?)"),
        ({"methods": ["clefs"]}, "methods: 'clefs': unknown (did you mean clef?)"),
        ({"seeds": []}, "g.yaml: seeds: list should have at least 1 item"),
        ({"seeds": [1, 1]}, "g.yaml: some axis lists a value twice"),
        ({"exclude": [{"backbone": "caer_net"}]}, "g.yaml: exclude.backbone: 'caer_net': unknown"),
        ({"exclude": [{"seed": 0}]}, "g.yaml: no cell is left"),
        ({"overrides": [{"where": {}}]}, "g.yaml: overrides.0.set: missing"),
        ({"overrides": [{"set": {"epoch": 3}}]}, "g.yaml: epoch: unknown (did you mean epochs?)"),
        ({"overrides": [{"set": {"seed": 3}}]}, "g.yaml: seed=3: seed is an axis of the grid; change seeds in its"),
    ],
)
def test_a_grid_file_that_cannot_be(run: Run, grid: dict[str, Any], message: str) -> None:
    write("g.yaml", yaml.safe_dump(GRID | grid))
    refused(run(*PLAN), 2, message)


CELL_OF_PLAN = {
    "name": "n", "dataset": "caer_s", "backbone": "emot_net", "method": "vanilla", "seed": 0, "folder": "n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--local", "epochs=1"], 2, "a number of cells is expected, not 'epochs=1'; put key=value before --local"),
        (["--partition", "gpu"], 5, "no Slurm on this machine (sbatch is not on the PATH); to train here instead"),
        (["--partition", "gpu", "--sbatch", "=lab"], 2, "--sbatch =lab: key=value or key is expected, such as acc"),
        (["--partition", "gpu", "--sbatch", "my account"], 2, "--sbatch my account: key=value or key is expected"),
        (["--local", "--shards", "none [b]"], 4, "1 cell can't be trained: none [b]/caer_s/manifest.json: no shards"),
        (["--gather", "--out", "bad"], 6, "bad/g/plan.json: not a plan (KeyError: 'grid'); run the grid again"),
        (["--gather", "--out", "folder"], 6, "folder/g/plan.json: not a plan (IsADirectoryError"),
        (["--gather", "--out", "old"], 2, "dataset 'gone': unknown"),
    ],
)
def test_what_the_launcher_refuses(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    write("g.yaml", yaml.safe_dump(GRID | {"datasets": ["caer_s"]}))
    write("bad/g/plan.json", '{"cells": []}')
    Path("folder/g/plan.json").mkdir(parents=True)
    write("old/g/plan.json", json.dumps({"grid": "g", "cells": [CELL_OF_PLAN | {"dataset": "gone"}]}))
    refused(run("grid", "--grid", "g.yaml", *arguments), code, message)


def test_an_odd_result_is_a_missing_number_and_not_the_end(run: Run) -> None:
    write("g.yaml", yaml.safe_dump(GRID))
    write("runs/g/plan.json", json.dumps({"grid": "g", "cells": [CELL_OF_PLAN]}))
    write("runs/g/n/result.json", '{"splits": {"test": 3}}')
    assert run("grid", "--grid", "g.yaml", "--gather")[0] == 0
    said = Path("results/g/tables.md").read_text()
    what = "its result.json is not that of a cell; move it elsewhere and run the grid again"
    assert f"- no number from n: {what}\n" in said


@pytest.mark.slow
def test_demo_shards_that_cannot_be_made_end_with_the_code_of_their_cause(run: Run) -> None:
    # The demo's card with fewer people, because they are drawn before the shards are written.
    write("few.yaml", "extends: caer_s_demo\nname: few\ngenerator_options: {name: caer_s_demo, people: 60}\n")
    write("g.yaml", yaml.safe_dump(GRID | {"datasets": ["few.yaml"]}))
    write("file", "")
    code, said = run("grid", "--grid", "g.yaml", "--local", "--shards", "file")
    assert (code, "sharding few failed (exit code 5); the reason is above" in said) == (5, True)


def test_a_batch_that_ranks_cannot_share() -> None:
    with pytest.raises(ConfigError, match=r"batch_size=7 can't be shared equally by 2 ranks; 6 or 8 would do"):
        order.check_batch_size(7, 2)
