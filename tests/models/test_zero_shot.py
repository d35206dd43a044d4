"""The zero-shot head, against open_clip's own recipe on a real photograph; its prompts; a cell of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import clef
from clef.cells.identity import compute_signature
from clef.config import CellConfig, resolve
from clef.config.prompts import find_prompts
from clef.data.shards import SplitShards
from clef.engine import class_embeddings
from clef.errors import ConfigError, SetupError
from clef.models import Backbone, build_backbone, zero_shot
from clef.models.pretrained import Pretrained
from clef.yaml_config import merge, nest
from tests.engine.factories import train_cell

NAME = "clef-tests-tiny"
SIZE, DIM = 32, 16
Make = Callable[..., CellConfig]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny open_clip model with random weights, saved whole, and its name among open_clip's."""
    open_clip = pytest.importorskip("open_clip", reason="NOT TESTED: open_clip_torch is not installed")
    folder = tmp_path_factory.mktemp("open_clip")
    vision = {"image_size": SIZE, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = folder / f"{NAME}.json"
    config.write_text(json.dumps({"embed_dim": DIM, "vision_cfg": vision, "text_cfg": text, "init_logit_bias": -3.0}))
    open_clip.add_model_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = open_clip.create_model(NAME).eval()
    nn.init.constant_(model.logit_scale, 2.0)
    torch.save(model.state_dict(), folder / "weights.pt")
    model.path = folder / "weights.pt"
    return model


@pytest.fixture
def make(clip: Any, shards: Path, tmp_path: Path) -> Make:
    """A function that makes the config of a zero-shot cell: `make("caer_s_demo", "vanilla", epochs=3)`."""

    def config(
        dataset: str = "caer_s_demo", method: str = "vanilla", streams: str = "body context", **settings: Any
    ) -> CellConfig:
        encoder = {"network": f"open_clip:{NAME}/x", "weights": str(clip.path), "dim": DIM}
        branch = {"network": "resnet18", "width": 0.0625, "weights": "none"}
        image = {"size": [SIZE, SIZE], "flip": False}
        base = {
            "dataset": dataset,
            "backbone": {
                "name": "encoders",
                "encoders": {"body": None, "context": None} | dict.fromkeys(streams.split(), encoder),
                "fusion": {"name": "zero_shot"},
            },
            "method": {"name": method} | ({"context_branch": branch} if method == "clef" else {}),
            "inputs": dict.fromkeys(streams.split(), image),
            "batch_size": 16,
            "epochs": 1,
            "runtime": {
                "shards": str(shards), "output_dir": str(tmp_path / "runs"), "features": str(tmp_path / "cache"),
                "num_workers": 0, "checkpoints": True, "predictions": "full",
            },
        }  # fmt: skip
        return resolve.resolve(merge(base, nest(settings)))

    return config


def head_of(config: CellConfig) -> Backbone:
    """The backbone of a cell with its classes, as a run has it."""
    load = Pretrained(config)
    backbone = build_backbone(config.backbone, len(config.card.classes), False, load).eval()
    assert isinstance(backbone.classifier, zero_shot.TextClassifier)
    fusion = config.backbone.fusion  # type: ignore[attr-defined]
    streams = [zero_shot.embed_classes(e.config, e.role, fusion.texts, load, 0) for e in backbone.frozen_encoders()]
    backbone.classifier.set_classes(streams)
    return backbone


def own_logits(clip: Any, images: Tensor, prompts: list[list[str]], template: str) -> Tensor:
    """What open_clip makes of images and prompts, class by class, with its own recipe."""
    import open_clip

    tokenize = open_clip.get_tokenizer(NAME)
    with torch.no_grad():
        features = clip.encode_image(images, normalize=True)
        columns = [
            open_clip.build_zero_shot_classifier(clip, tokenize, [""], [lambda _, t=text: t for text in texts])
            for texts in ([template.format(prompt) for prompt in each] for each in prompts)
        ]
        return clip.logit_scale.exp() * features @ torch.cat(columns, dim=1) + clip.logit_bias


def photographs(clip: Any) -> dict[str, Tensor]:
    """A person and what is around her, as open_clip itself prepares them."""
    import open_clip
    from PIL import Image
    from skimage import data

    prepare = open_clip.image_transform(SIZE, is_train=False)
    photograph = Image.fromarray(data.astronaut())
    parts = {"body": photograph.crop((100, 0, 380, 400)), "context": photograph}
    return {name: torch.stack([prepare(part)] * 4) for name, part in parts.items()}


def test_logits_are_open_clips_own_on_a_photograph_averaged_over_the_streams_that_are_there(
    clip: Any, make: Make
) -> None:
    prompts = {name: [name, f"very {name}"] for name in make().card.classes}
    config = make(**{"backbone.fusion.prompts": prompts, "backbone.fusion.template": "a person, {}."})
    images = photographs(clip)
    own = [own_logits(clip, images[name], list(prompts.values()), "a person, {}.") for name in ("context", "body")]
    valid = {"body": torch.tensor([True, True, False, False]), "context": torch.tensor([True, False, True, False])}
    with torch.no_grad():
        logits = head_of(config)(images | {"valid": valid}).logits
    expected = torch.stack([(own[0][0] + own[1][0]) / 2, own[1][1], own[0][2], torch.zeros(len(prompts))])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert (own[0][0] - own[1][0]).abs().max() > 0.1


@pytest.mark.slow
def test_a_cell_is_scored_without_a_step_and_its_classes_are_embedded_once(
    clip: Any, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make(streams="context")
    folder = train_cell(config)
    result = json.loads((folder / "result.json").read_text())
    assert (result["steps"], result["best_epoch"]) == (0, 0)
    # The text encoder isn't needed again: neither by the cell's own weights, nor by the cell of another method.
    for module in (class_embeddings, zero_shot):
        monkeypatch.setattr(module, "embed_classes", lambda *_: pytest.fail("the classes are embedded a second time"))
    model = clef.load(folder)
    batch = next(iter(model.batches("test")))
    scores = model.predict(batch).scores
    image = config.inputs.images["context"]
    pixels = batch["context"] / 255
    normalized = (pixels - torch.tensor(image.mean)[:, None, None]) / torch.tensor(image.std)[:, None, None]
    template = "a photo of a person who feels {}"
    own = own_logits(clip, normalized.float(), [[name] for name in config.card.classes], template)
    torch.testing.assert_close(scores, own, rtol=1e-4, atol=1e-4)
    stored = np.load(folder / "predictions-test.npz")["scores"]
    assert len(stored) == len(SplitShards(config.shards, "test"))
    np.testing.assert_allclose(stored[: len(own)], own.numpy(), rtol=1e-4, atol=1e-4)
    around = train_cell(make(method="clef", streams="context"))
    kept = clef.load(around)
    assert {name for name, _ in kept.method.named_parameters() if name.startswith("backbone")} == set()
    torch.testing.assert_close(kept.predict(batch).effects["Y_e"], scores)
    [table] = (tmp_path / "cache/classes").glob("*.npy")
    table.write_bytes(table.read_bytes()[:-8])
    with pytest.raises(SetupError, match=f"{table.name}: damaged"):
        train_cell(config, output_dir=str(tmp_path / "again"))


def test_the_text_encoder_of_random_weights_belongs_to_the_image_encoder_of_the_same_seed(make: Make) -> None:
    import open_clip

    config = make(streams="context", **{"backbone.encoders.context.weights": "none"})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = open_clip.create_model(NAME).eval()
    images = photographs(whole)
    own = own_logits(whole, images["context"], [[n] for n in config.card.classes], "a photo of a person who feels {}")
    with torch.no_grad():
        logits = head_of(config)(images | {"valid": {"context": torch.ones(4, dtype=torch.bool)}}).logits
    torch.testing.assert_close(logits, own, rtol=1e-5, atol=1e-5)


# ---- prompts ----


def test_definitions_are_emotics_and_the_resolved_cell_has_the_words_themselves(make: Make, tmp_path: Path) -> None:
    config = make("emotic_demo", **{"backbone.fusion.prompts": "definitions"})
    fusion = config.backbone.fusion  # type: ignore[attr-defined]
    assert list(fusion.prompts) == list(config.card.classes)
    [anger] = fusion.texts[config.card.classes.index("Anger")]
    assert anger == "a photo of a person who feels Anger: intense displeasure or rage; furious; resentful"
    (tmp_path / "config.yaml").write_text(resolve.to_yaml(config))
    assert resolve.from_yaml(tmp_path / "config.yaml") == config


def test_a_file_of_prompts_is_known_by_what_it_says(make: Make, tmp_path: Path) -> None:
    names = make().card.classes
    texts = {name: f"someone {name}" if place else [f"{name} 1", f"{name} 2"] for place, name in enumerate(names)}
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(json.dumps(texts))
    two.write_text(json.dumps({"of another dataset": "x"} | dict(reversed(list(texts.items())))))
    other = tmp_path / "other.yaml"
    other.write_text(json.dumps(texts | {names[0]: "another"}))
    made = [make(**{"backbone.fusion.prompts": str(path)}) for path in (one, two, other)]
    made.append(make(**{"backbone.fusion.prompts": texts}))
    first, second, third, inline = (compute_signature(config, {}, {}) for config in made)
    assert first == second == inline != third
    changed = make(**{"backbone.fusion": {"prompts": str(one), "template": "{}"}})
    assert compute_signature(changed, {}, {}) != first
    assert changed.backbone.fusion.texts[0] == [f"{names[0]} 1", f"{names[0]} 2"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"backbone.fusion.prompts": "definitions"},
            "prompts: definitions are of EMOTIC's categories, and there is none",
        ),
        ({"backbone.fusion.prompts": "nmes"}, "'nmes': names, definitions or the path of a YAML file"),
        ({"backbone.fusion.prompts": "no.yaml"}, "backbone.fusion.prompts: no.yaml: no such file"),
        ({"backbone.fusion.prompts": {"Happy": 3}}, "a prompt, or a list of them, is expected for Happy"),
        ({"backbone.fusion.prompts": {"Happy": "x"}}, "there is none for Anger"),
        ({"backbone.fusion.template": "a person"}, "template: a text with {} in the place of the prompt is expected"),
        ({"backbone.fusion": {"name": "mlp", "prompts": "names"}}, "only zero_shot takes them, not mlp"),
        ({"backbone.encoders.body.trainable": True}, "encoders.body.trainable: zero_shot trains nothing"),
        (
            {"backbone.encoders.body": {"network": "timm:test_vit.r160_in1k", "dim": 64}},
            "encoders.body: timm:test_vit.r160_in1k can't be compared with text",
        ),
        ({"method.name": "ccim"}, "zero_shot is nothing but a classifier, and ccim brings its own"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(make: Make, settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(**settings)
    assert expected in str(error.value)


def test_a_tokenizer_that_is_not_here_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip

    def offline(_: str) -> None:
        raise OSError("we couldn't connect to the hub")

    monkeypatch.setattr(open_clip, "get_tokenizer", offline)
    with pytest.raises(
        SetupError, match=r"open_clip:ViT-B-16-SigLIP/webli: its tokenizer .* run it once where there is"
    ):
        zero_shot._tokenizer("open_clip:ViT-B-16-SigLIP/webli")


def test_prompts_keep_the_order_of_the_classes() -> None:
    assert list(find_prompts({"b": ["x"], "a": ["y"], "c": ["z"]}, ["a", "b"])) == ["a", "b"]
