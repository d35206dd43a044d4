"""Encoders by name in a config: what a library says of them, what the user says against it, and what can't be."""

import re
from pathlib import Path
from typing import Any

import pytest

from clef import networks
from clef.cells.identity import signature_of
from clef.config import CellConfig, resolve
from clef.config.recipes import about_backbone
from clef.data import manifest as manifests
from clef.errors import ConfigError, SetupError
from clef.networks import NetworkRecord
from clef.yaml_config import merge, nest, parse

SQUARE = NetworkRecord("timm:square", (96, 96), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bilinear", 12)
WIDE = NetworkRecord("open_clip:wide/mine", (64, 128), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "bicubic", 34)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks that no library needs to be asked about."""
    monkeypatch.setattr(networks, "_known", {record.name: record for record in (SQUARE, WIDE)})


def cell(*arguments: str, method: str = "vanilla", **settings: Any) -> CellConfig:
    base = {"dataset": "emotic", "backbone": {"name": "encoders"}, "method": {"name": method}}
    return resolve.resolve(merge(base, nest(settings), parse(arguments)))


def test_the_record_lies_between_the_recipe_and_the_users_settings() -> None:
    made = cell("backbone.encoders.body=timm:square", "inputs.body={size: [32, 48], jitter: 0.1}")
    body = made.inputs.body
    assert (body.size, body.jitter, body.flip) == ((32, 48), 0.1, True), "the user's; the recipe's flip"
    assert (body.mean, body.std, body.interpolation) == (SQUARE.mean, SQUARE.std, "bilinear"), "the library's"
    assert made.backbone.streams["body"].dim == 12
    assert made.inputs.context.size == (224, 224), "the recipe's encoder, of which the recipe states all"


@pytest.mark.parametrize("name", ["body=timm:square", "body.network=timm:square", "body={network: timm:square}"])
def test_a_name_alone_stands_for_the_usual_settings(name: str) -> None:
    stream = cell(f"backbone.encoders.{name}").backbone.streams["body"]
    assert (stream.weights, stream.trainable, stream.dim) == ("published", False, 12)


def test_null_leaves_an_encoder_of_the_recipe_out() -> None:
    made = cell("backbone.encoders={body: null, face: timm:square}")
    assert set(made.backbone.reads) == set(made.inputs.present) == {"context", "face"}


def test_a_context_branch_and_a_dictionary_take_names_too() -> None:
    branch = {"network": "open_clip:wide/mine", "weights": "published", "input": "scene"}
    made = cell(method="clef", **{"method.context_branch": branch})
    assert made.inputs.scene.size == (64, 128)
    assert (made.method.branch.dim, made.inputs.scene.flip) == (34, True)
    made = cell(method="ccim", **{"method.dictionary": {"network": "timm:square", "weights": "published"}})
    read = made.method.encoders["dictionary"].input  # type: ignore[attr-defined]
    assert (read.size, read.mean, made.method.encoders["dictionary"].dim) == ((96, 96), SQUARE.mean, 12)


def test_a_crop_of_the_recipe_does_not_outlive_its_size() -> None:
    branch = {"network": "timm:square", "weights": "published", "input": "scene_without_face"}
    settings = {"backbone.name": "caer_net", "method.context_branch": branch}
    made = resolve.resolve(nest({"dataset": "caer_s", "method.name": "context_only", **settings}))
    assert made.inputs.scene_without_face.shape == (96, 96)


def test_a_frame_that_no_recipe_lists_flips_as_the_context_does() -> None:
    branch = {"network": "timm:square", "weights": "published", "input": "scene_without_person"}
    made = resolve.resolve(
        nest({"dataset": "emotic", "backbone.name": "caer_net", "method.name": "clef", "method.context_branch": branch})
    )
    assert made.inputs.scene_without_person.flip
    assert made.inputs.scene_without_person.size == (96, 96)


def test_two_encoders_that_want_one_input_differently_are_named() -> None:
    branch = {"method.context_branch": {"network": "open_clip:wide/mine", "weights": "published"}}
    text = (
        "config: inputs.context.size: backbone.encoders.context (timm:square) and method.context_branch "
        "(open_clip:wide/mine) want [96, 96] and [64, 128]; state inputs.context.size, or choose one encoder for both"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        cell("backbone.encoders.context=timm:square", method="clef", **branch)
    decided = "inputs.context={size: [64, 64], mean: [0, 0, 0], std: [1, 1, 1], interpolation: lanczos}"
    made = cell("backbone.encoders.context=timm:square", decided, method="clef", **branch)
    assert made.inputs.context.size == (64, 64)
    with pytest.raises(ConfigError, match=r"backbone\.encoders\.context \(timm:vit_base.*wide/mine\) want"):
        cell(method="clef", **branch)


def test_what_was_resolved_is_read_back_without_any_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cell("backbone.encoders.body=timm:square", method="ccim")
    (tmp_path / "config.yaml").write_text(resolve.to_yaml(made))
    for library in networks.DISTRIBUTIONS:
        monkeypatch.setitem(networks.DISTRIBUTIONS, library, "not-installed")
    monkeypatch.setattr(networks, "_known", {})
    assert resolve.from_yaml(tmp_path / "config.yaml") == made
    assert resolve.resolve(made.model_dump(mode="json")) == made, "trained again as it is"


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("body=resnet81", "body.network: 'resnet81': unknown (did you mean resnet18?)"),
        ("body=resnet18", "body: weights: resnet18 takes places365, imagenet, a file's path or none"),
        ("body={network: resnet18, weights: none, dim: 3}", "body: dim: resnet18 has its own, by its width"),
        ("body={network: timm:square, width: 0.5}", "body: width: timm:square has the size that it is published in"),
        ("body={network: timm:square, weights: imagenet}", "body: weights: timm:square takes published, a file's path"),
        ("body={network: mine:make, weights: none}", "body.dim: missing; how many numbers does its feature have?"),
        ("body={network: mine:make}", "body: weights: mine:make takes a file's path or none, not published"),
        ("body=open_clip:wide", "open_clip:NAME/PRETRAINED is expected"),
        ("pose=timm:square", "pose: input should be 'context', 'scene'"),
    ],
)
def test_an_encoder_that_cannot_be_is_one_line(argument: str, text: str) -> None:
    with pytest.raises(ConfigError, match=r"backbone\.encoders\.") as error:
        cell(f"backbone.encoders.{argument}")
    assert text in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("backbone.encoders={body: null, context: null}", "backbone: encoders: empty; name one for an input"),
        ("backbone.weights.body=none", "backbone: weights: each encoder states its own, as encoders.INPUT.weights"),
        ("backbone.fusion={name: attention, dim: 30}", "backbone.fusion: heads: 4 equal parts of dim 30"),
    ],
)
def test_a_backbone_of_them_that_cannot_be_is_one_line(argument: str, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        cell(argument)


def test_a_library_that_is_not_installed_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.DISTRIBUTIONS, "timm", "timm-that-nobody-has")
    text = "timm is not installed, which builds the encoders timm:NAME; run pip install 'clef-caer[encoders]'"
    with pytest.raises(SetupError, match=re.escape(text)):
        cell("backbone.encoders.body=timm:another")
    assert cell().backbone.streams["body"].dim == 768, "a recipe that states all needs none"


def test_names_of_a_grid_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from clef.config.grid import Grid, resolve_cells

    asked: list[list[str]] = []

    def ask(names: list[str]) -> dict[str, Any]:
        asked.append(names)
        return {name: NetworkRecord(name, (32, 32), SQUARE.mean, SQUARE.std, "bicubic", 8) for name in names}

    monkeypatch.setattr(networks, "_ask", ask)
    monkeypatch.setattr(networks, "_keep", lambda library: None)
    streams = [{"body": "timm:one", "context": "timm:two"}, {"body": {"network": "timm:three"}}]
    presets = {f"p{i}": {"backbone": "encoders", "set": {"backbone.encoders": each}} for i, each in enumerate(streams)}
    grid = {"datasets": ["emotic"], "backbones": ["p0", "p1"], "methods": ["vanilla", "clef"], "seeds": [0, 1]}
    assert len(resolve_cells(Grid.model_validate(grid | {"presets": presets}), "grid", {})) == 8
    assert asked == [["timm:one", "timm:three", "timm:two"]]


def test_an_unknown_name_is_said_with_the_library_s_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_ask", lambda names: dict.fromkeys(names, "timm:squair: did you mean square?"))
    monkeypatch.setattr(networks, "_keep", lambda library: None)
    with pytest.raises(ConfigError, match="timm:squair: did you mean square"):
        cell("backbone.encoders.body=timm:squair")


def test_records_are_kept_for_the_next_process_and_asked_again_where_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(names: list[str]) -> dict[str, Any]:
        asked.extend(names)
        return dict.fromkeys(names, SQUARE)

    monkeypatch.setattr(networks, "FOLDER", str(tmp_path / "kept"))
    monkeypatch.setattr(networks, "_ask", ask)
    monkeypatch.setattr(networks, "version", lambda library: "1.0")
    for damage in (False, False, True):
        monkeypatch.setattr(networks, "_known", {})
        if damage:
            (tmp_path / "kept/timm-1.0.json").write_text('{"timm:square": {"size": [1')
        assert networks.describe(["timm:square"]) == {"timm:square": SQUARE}
    assert asked == ["timm:square"] * 2
    (tmp_path / "kept/timm-1.0.json").unlink()
    (tmp_path / "kept").rmdir()
    (tmp_path / "kept").write_text("no folder")
    monkeypatch.setattr(networks, "_known", {})
    assert networks.describe(["timm:square"]) == {"timm:square": SQUARE}, "a place that can't be written is no fault"


def test_the_signature_knows_weights_by_their_bytes(shards: Path, tmp_path: Path, tiny: Any) -> None:
    manifest = manifests.load(shards / "caer_s_demo")
    (tmp_path / "one.pth").write_bytes(b"1")
    (tmp_path / "same.pth").write_bytes(b"1")
    (tmp_path / "two.pth").write_bytes(b"2")

    def mark(**body: Any) -> str:
        stream = {"network": "timm:square", "trainable": False, "width": 1.0} | body
        return signature_of(tiny(backbone="encoders", **{"backbone.encoders.body": stream}), manifest)

    one = mark(weights=str(tmp_path / "one.pth"))
    assert one == mark(weights=str(tmp_path / "same.pth"))
    changed = [
        mark(weights=str(tmp_path / "two.pth")),
        mark(weights="none"),
        mark(weights=str(tmp_path / "one.pth"), features="fp16"),
        mark(weights=str(tmp_path / "one.pth"), trainable=True),
        mark(weights=str(tmp_path / "one.pth"), network="open_clip:wide/mine"),
    ]
    assert len({one, *changed}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("variant", [None, 0])
def test_what_the_recipe_states_is_what_the_libraries_say(variant: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_known", {})
    settings = {} if variant is None else about_backbone("encoders")["variants"][variant]["set"]
    made = cell(**settings)
    records = networks.describe(stream.network for stream in made.backbone.streams.values())
    for name, stream in made.backbone.streams.items():
        record, image = records[stream.network], made.inputs.images[name]
        assert (stream.dim, image.mean, image.std) == (record.dim, record.mean, record.std)
        assert image.interpolation == record.interpolation
        assert record.pretrained
        assert "dino" not in str(record.license)
