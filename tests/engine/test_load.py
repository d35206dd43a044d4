"""`clef.load`: the model that was trained, without shards or pre-trained files; and the example of docs/python.md."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import clef
from clef.config import CellConfig, resolve
from clef.config.inputs import BoxesConfig, DepthConfig, InputConfig, Inputs, PointsConfig
from clef.data import manifest as manifests
from clef.engine import model_io
from clef.errors import CellError, ConfigError, ShardError
from tests.engine.factories import train_cell

pytestmark = pytest.mark.slow

Make = Callable[..., CellConfig]
PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("dataset", "backbone", "method"),
    [("emotic_demo", "emot_net", "vanilla"), ("caer_s_demo", "emoticon", "clef"), ("caer_s_demo", "emot_net", "ccim")],
)
def test_it_scores_as_the_cell_was_scored(tiny: Make, dataset: str, backbone: str, method: str) -> None:
    # 32 samples: the batches that were scored were twice the training ones, and other batches sum in another order.
    folder = train_cell(tiny(dataset, backbone, method))
    model = clef.load(folder)
    recorded = np.load(folder / "predictions-test.npz")
    batches = list(model.batches("test", workers=1))
    assert torch.cat([batch["index"] for batch in batches]).tolist() == recorded["index"].tolist()
    predictions = [model.predict(batch) for batch in batches]
    names = {"scores": [prediction.scores for prediction in predictions]}
    names |= {name: [prediction.effects[name] for prediction in predictions] for name in predictions[0].effects}
    if predictions[0].vad is not None:
        names["vad"] = [prediction.vad for prediction in predictions]
    assert {"index", "target", "group", *names} == set(recorded.files) - {"vad_target"}
    for name, tensors in names.items():
        np.testing.assert_allclose(torch.cat(tensors).numpy(), recorded[name], atol=1e-5, err_msg=name)
    assert len(model.classes) == recorded["scores"].shape[1]
    assert not predictions[0].losses, "it knows nothing of the training set that some losses want"


def test_its_weights_are_the_best_and_it_is_in_evaluation_mode(tiny: Make) -> None:
    folder = train_cell(tiny(epochs=2, **{"optimizer.lr": 0.05}))
    model = clef.load(folder)
    best = load_file(folder / "checkpoints" / "best.safetensors")
    assert all(torch.equal(value, best[name]) for name, value in model.method.state_dict().items())
    assert not any(module.training for module in model.method.modules())
    first = sorted((folder / "checkpoints").glob("step-*"))[0]
    older = clef.load(folder, checkpoint=first.name).method.state_dict()
    assert all(torch.equal(older[name], value) for name, value in load_file(first / "model.safetensors").items())


def test_a_cell_stays_what_it_was_trained_as_when_its_card_changes_or_goes(
    tiny: Make, shards: Path, tmp_path: Path
) -> None:
    own = tmp_path / "shards" / "mine"
    shutil.copytree(shards / "caer_s_demo", own)
    manifests.save(own, manifests.load(own).model_copy(update={"dataset": "mine"}))
    card = tmp_path / "mine.yaml"
    stated = "extends: caer_s_demo\nname: mine\n"
    card.write_text(stated)
    settings = {"runtime.shards": str(own.parent)}
    folder = train_cell(tiny(str(card), method="vanilla", **settings))
    classes, image = clef.load(folder).classes, next(iter(clef.load(folder).batches("val")))
    scores = clef.load(folder).predict(image).scores
    card.write_text(stated + f"classes: [{', '.join(classes[::-1])}]\n")
    assert clef.load(folder).classes == classes
    assert torch.equal(torch.cat([b["index"] for b in clef.load(folder).batches("val")])[:4], image["index"][:4])
    swapped = manifests.load(own).model_copy(update={"classes": classes[::-1]})
    manifests.save(own, swapped)
    with pytest.raises(ShardError, match=r"made with another card than the cell's \(classes"):
        next(iter(clef.load(folder).batches("val")))
    with pytest.raises(CellError, match=r"trained on another card than this cell's \(classes: \['Anger'"):
        train_cell(tiny(str(card), **settings, **{"method.start_from": str(folder)}))
    card.unlink()
    moved = Path(shutil.move(folder, tmp_path / "elsewhere" / folder.name))
    shutil.rmtree(own)
    assert clef.load(moved).classes == classes
    assert torch.equal(clef.load(moved).predict(image).scores, scores)


def test_weights_that_share_memory_are_trained_resumed_and_loaded_as_any_other(tiny: Make, tmp_path: Path) -> None:
    stated = tiny(method="vanilla", epochs=2).model_dump(mode="json")
    config = resolve.resolve(stated | {"backbone": {"name": "tests.engine.own_backbones:Shared"}})
    unbroken = train_cell(config)
    broken = train_cell(config, output_dir=str(tmp_path / "broken"), stop_after=5)
    assert train_cell(config, output_dir=str(tmp_path / "broken")) == broken
    one, two = (np.load(folder / "predictions-test.npz") for folder in (unbroken, broken))
    assert all(np.array_equal(one[key], two[key]) for key in one.files)
    model = clef.load(unbroken)
    scores = torch.cat([model.predict(batch).scores for batch in model.batches("test")])
    np.testing.assert_allclose(scores.numpy(), one["scores"], atol=1e-5)
    backbone = model.method.backbone
    assert backbone is not None
    assert backbone.encoders["body"] is backbone.encoders["scene"]
    stored = load_file(unbroken / "checkpoints" / "best.safetensors")
    assert {name for name in stored if name.endswith("0.weight")} == {
        "backbone.encoders.body.0.weight", "backbone.encoders.scene.0.weight"
    }  # fmt: skip


def test_images_of_ones_own_need_no_labels(tiny: Make, shards: Path) -> None:
    config = tiny("emotic_demo", method="clef")
    folder = train_cell(config)
    shutil.rmtree(Path(config.runtime.cache), ignore_errors=True)
    model = clef.load(folder)
    batch = next(iter(model.batches("val")))
    images = {name: batch[name] for name in ("context", "scene", "body")}
    torch.testing.assert_close(model.predict(images).scores, model.predict(batch).scores, atol=0, rtol=0)
    one = model.predict({name: value[3:4] for name, value in images.items()}).scores
    torch.testing.assert_close(one, model.predict(batch).scores[3:4], atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigError, match=r"the batch lacks body, scene; emotic_demo-emot_net-clef-s0 reads context"):
        model.predict({"context": images["context"]})
    labels = {
        "target": torch.zeros(1),
        "vad": None,
        "valid": {"body": torch.ones(len(batch["body"]), dtype=torch.bool)},
    }
    torch.testing.assert_close(model.predict(images | labels).scores, model.predict(batch).scores, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            lambda b: {"body": b["body"] / 255},
            r"'body': uint8 of shape B,3,24,24 is expected, .* not float32 .*times 255",
        ),
        (lambda b: {"body": b["body"].long()}, r"not int64 .*convert it with \.to\(torch\.uint8\)$"),
        (lambda b: {"body": b["body"].permute(0, 2, 3, 1)}, r"shape 16,24,24,3; put channels first with \.permute"),
        (lambda b: {"body": b["body"][0]}, r"not uint8 of shape 3,24,24; add the first dimension with \[None\]"),
        (lambda b: {"body": b["body"][:, :1]}, r"in RGB, not uint8 of shape 16,1,24,24$"),
        (lambda b: {"face": b["face"][..., :20]}, "'face': uint8 of shape B,3,24,24 .* not uint8 of shape 16,3,24,20$"),
        (lambda b: {"depth": b["face"]}, "'depth': uint8 of shape B,1,24,24 .* from 0 to 255, not uint8"),
        (lambda b: {"body": b["body"].numpy()}, "a tensor, uint8 .* not ndarray; make one with torch.as_tensor"),
        (lambda b: {"body": b["body"][:3]}, "must be of the same people, one at least; there are: .*body 3"),
        (lambda b: {"valid": {"body": b["valid"]["body"][:3]}}, "same people, .*valid body 3"),
        (lambda b: {"landmarks": 100 * b["landmarks"]}, "'landmarks': parts of the image are expected, from 0 to 1"),
        (lambda b: {"landmarks": b["landmarks"] * torch.nan}, "'landmarks': parts of the image .* not finite"),
        (lambda b: {"landmarks": b["landmarks"].double()}, "float32 of shape B,68,2 is expected, not float64"),
        (lambda b: {"regions": b["regions"][:, :2]}, "'regions': float32 of shape B,10,4 is expected, not float32"),
    ],
)
def test_a_batch_of_other_types_layouts_sizes_or_ranges_is_refused(changes: Any, message: str) -> None:
    inputs = Inputs(
        body=InputConfig(size=(24, 24)), face=InputConfig(size=(30, 30), crop=(24, 24)),
        depth=DepthConfig(size=(24, 24)), landmarks=PointsConfig(), regions=BoxesConfig(),
    ).present  # fmt: skip
    images = torch.randint(0, 256, (16, 24, 24, 4), dtype=torch.uint8).permute(0, 3, 1, 2)
    batch = {
        "body": images[:, :3], "face": images[:, 1:], "depth": images[:, :1],
        "landmarks": torch.rand(16, 68, 2), "regions": torch.rand(16, 10, 4),
        "valid": dict.fromkeys(inputs, torch.ones(16, dtype=torch.bool)),
    }  # fmt: skip
    assert model_io._check_batch(batch, inputs, "cell") == 16
    with pytest.raises(ConfigError, match=message):
        model_io._check_batch(batch | changes(batch), inputs, "cell")
    with pytest.raises(ConfigError, match="a batch is a dictionary of tensors"):
        model_io._check_batch(images, inputs, "cell")  # type: ignore[arg-type]


def test_a_model_that_computes_in_bf16_does_so_here(tiny: Make) -> None:
    folder = train_cell(tiny(method="vanilla", mixed_precision="bf16"))
    model, recorded = clef.load(folder), np.load(folder / "predictions-test.npz")
    scores = torch.cat([model.predict(batch).scores for batch in model.batches("test")])
    assert scores.dtype == torch.float32
    assert torch.equal(scores, scores.bfloat16().float()), "the logits of bf16 matrix products"
    np.testing.assert_allclose(scores.numpy(), recorded["scores"], atol=0.02)


def test_what_cannot_be_loaded_says_why(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = train_cell(tiny(method="ccim"))
    with pytest.raises(ConfigError, match=r"none of the 1 cells below runs matches; did you mean single/caer_s"):
        clef.load("caer_s_demo-emot_net-vanilla-s0")
    assert clef.load("emot_net-ccim").folder == folder
    (folder / "checkpoints" / "best.safetensors").write_bytes(b"short")
    with pytest.raises(CellError, match="damaged, or other weights"):
        clef.load(folder)
    (tmp_path / "other.safetensors").write_bytes(b"short")
    with pytest.raises(CellError, match=r"other.safetensors: not the weights of this cell"):
        clef.load(folder, checkpoint="other.safetensors")


def test_importing_clef_imports_nothing_heavy() -> None:
    heavy = "torch", "numpy", "pydantic", "yaml", "rich"
    code = f"import clef, sys; clef.load; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_page_runs_as_printed(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = train_cell(tiny("caer_s_demo", "emot_net", "clef"))
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    variables: dict = {}
    exec(compile(example, "docs/python.md", "exec"), variables)
    said = capsys.readouterr().out.split()
    recorded = np.load(folder / "predictions-test.npz")
    classes = variables["model"].classes
    first = [classes[place] for place in recorded["scores"][:16].argmax(1)]
    assert said[: len(first)] == first
    assert float(said[-1]) == pytest.approx((recorded["scores"].argmax(1) == recorded["target"]).mean(), abs=0.02)


def test_asking_for_batches_again_and_again_leaves_no_file_open(cells: Callable[..., Path]) -> None:
    model = clef.load(cells("caer_s_demo", "emot_net", "vanilla"))
    next(model.batches("test"))  # imports what it needs
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        next(model.batches("test"))
    assert len(os.listdir("/proc/self/fd")) == before
