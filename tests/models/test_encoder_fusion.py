"""Encoders by name and their fusion: against brute force, without what is missing, and with frozen ones left alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from clef import methods
from clef.config import CellConfig, ContextBranchConfig, EncoderConfig, FusionConfig
from clef.errors import ConfigError
from clef.models import encoder_fusion
from clef.models.context_branch import ContextBranch
from clef.models.encoders import build_encoder, encoder_dim
from clef.models.frozen import FrozenEncoder
from tests.models.factories import STREAM, batch, make, without

DIMS, OUT = [5, 3, 7], 8
FUSIONS = ("linear", "mlp", "gated", "attention")
FROZEN = STREAM | {"trainable": False}


def no_weights(encoder: str, network: nn.Module) -> None:
    """Leave a network as it is."""


def fusion(name: str, dims: list[int] = DIMS) -> nn.Module:
    torch.manual_seed(1)
    return encoder_fusion._FUSIONS[name](dims, OUT, FusionConfig(name=name, dim=OUT, heads=2))  # type: ignore[arg-type]


def features(samples: int = 6) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Features of three streams, and which are there: every combination but none."""
    torch.manual_seed(2)
    valid = torch.tensor([[bool(i & 1), bool(i & 2), bool(i & 4)] for i in range(1, samples + 1)])
    return [torch.randn(samples, dim) for dim in DIMS], valid


def by_hand(name: str, net: nn.Module, streams: list[torch.Tensor]) -> torch.Tensor:
    """The fusion of one sample from the streams that it has, written out; `None` stands for one that it lacks."""
    state = dict(net.state_dict())
    if name in ("linear", "mlp"):
        prefix = "layers" if name == "linear" else "layers.0"
        x, offset = state[f"{prefix}.bias"].clone(), 0
        for dim, stream in zip(DIMS, streams, strict=True):
            if stream is not None:
                x = x + state[f"{prefix}.weight"][:, offset : offset + dim] @ stream
            offset += dim
        return x if name == "linear" else (state["layers.2.weight"] @ x.relu() + state["layers.2.bias"]).relu()
    tokens = [
        (state[f"projections.layers.{i}.weight"] @ stream + state[f"projections.layers.{i}.bias"]).relu()
        for i, stream in enumerate(streams)
        if stream is not None
    ]
    if name == "gated":
        scores = torch.tensor([float(state["score.weight"][0] @ token) for token in tokens])
        return sum(w * token for w, token in zip(scores.softmax(0), tokens, strict=True))
    read = []
    for token in tokens:
        parts = []
        for head in (slice(0, 4), slice(4, 8)):
            q = (state["queries.weight"] @ token + state["queries.bias"])[head]
            keys = [(state["keys.weight"] @ other)[head] for other in tokens]
            values = [(state["values.weight"] @ other + state["values.bias"])[head] for other in tokens]
            weights = torch.stack([q @ key / 2 for key in keys]).softmax(0)  # 2: the root of 4 components
            parts.append(sum(w * value for w, value in zip(weights, values, strict=True)))
        read.append(token + state["out.weight"] @ torch.cat(parts) + state["out.bias"])
    return torch.stack(read).mean(0)


@pytest.mark.parametrize("name", FUSIONS)
def test_each_fusion_is_its_definition_over_the_streams_that_are_there(name: str) -> None:
    net, (streams, valid) = fusion(name), features(7)
    found = net(streams, valid)
    for i in range(7):
        there = [stream[i] if valid[i, j] else None for j, stream in enumerate(streams)]
        torch.testing.assert_close(found[i], by_hand(name, net, there))


@pytest.mark.parametrize("name", FUSIONS)
def test_what_stands_in_a_missing_stream_s_place_changes_no_bit(name: str) -> None:
    net, (streams, valid) = fusion(name), features()
    noise = [torch.where(valid[:, i, None], stream, 1e6) for i, stream in enumerate(streams)]
    assert torch.equal(net(noise, valid), net(streams, valid))


@pytest.mark.parametrize("name", FUSIONS)
def test_a_stream_that_nobody_has_is_as_good_as_none(name: str) -> None:
    whole, (streams, valid) = fusion(name), features()
    valid[:, 1] = False
    valid[:, 0] |= ~valid.any(1)
    part = fusion(name, [DIMS[0], DIMS[2]])
    state = {key: value.clone() for key, value in whole.state_dict().items()}
    if name in ("linear", "mlp"):
        key = "layers.weight" if name == "linear" else "layers.0.weight"
        state[key] = torch.cat([state[key][:, :5], state[key][:, 8:]], dim=1)
    else:
        for kind in ("weight", "bias"):
            state.pop(f"projections.layers.1.{kind}")
            state[f"projections.layers.1.{kind}"] = state.pop(f"projections.layers.2.{kind}")
    part.load_state_dict(state)
    torch.testing.assert_close(whole(streams, valid), part([streams[0], streams[2]], valid[:, [0, 2]]))


@pytest.mark.parametrize("name", FUSIONS)
def test_a_sample_without_any_stream_gives_finite_numbers_and_gradients(name: str) -> None:
    net, (streams, valid) = fusion(name), features()
    streams = [stream.requires_grad_() for stream in streams]
    out = net(streams, torch.zeros_like(valid))
    out.sum().backward()
    assert out.isfinite().all()
    assert all(not stream.grad.any() for stream in streams if stream.grad is not None)
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_the_scale_of_an_encoder_does_not_matter() -> None:
    net = make(name="encoders", encoders={"body": FROZEN, "scene": FROZEN}, classes=7).eval()
    known = {"body": torch.randn(3, 32), "scene": torch.randn(3, 32)}
    assert [encoder.dim for encoder in net.frozen_encoders()] == [32, 32]
    whole = batch(3, classes=7)
    first, second = (
        net(whole | {"features": {**known, "body": known["body"] * k + 3 * (k - 1)}}).logits for k in (1, 50)
    )
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


def test_features_that_come_with_a_batch_stand_for_the_encoder_s(monkeypatch: pytest.MonkeyPatch) -> None:
    net = make(name="encoders", encoders={"body": FROZEN, "face": FROZEN}, classes=7).eval()
    whole = without(batch(4, classes=7), "face", 2)
    known = {encoder.role: encoder(whole) for encoder in net.frozen_encoders()}
    expected = net(whole).logits
    monkeypatch.setattr(FrozenEncoder, "network", lambda self: pytest.fail("built"))
    tables = {key: value for key, value in whole.items() if key not in ("body", "face")} | {"features": known}
    assert torch.equal(net(tables).logits, expected)


def test_a_frozen_encoder_is_no_part_of_the_model() -> None:
    net = make(name="encoders", encoders={"body": FROZEN, "face": STREAM}, classes=7)
    assert {key.split(".")[1] for key in net.state_dict() if key.startswith("encoders.")} == {"face"}
    trained, [frozen] = net.encoder_rates(), net.frozen_encoders()
    network = frozen.network()
    assert not network.training
    assert not set(network.parameters()) & (set(trained) | set(net.parameters()))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    net.train()(batch(4, classes=7)).logits.sum().backward()
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())


def test_a_frozen_encoder_is_computed_in_float32_and_rounded_as_it_is_kept() -> None:
    images = torch.randn(3, 3, 32, 32)
    exact, rounded = (
        FrozenEncoder("body", "body", EncoderConfig(**settings, features=precision), no_weights)
        for settings in [{key: FROZEN[key] for key in ("network", "width", "weights")}]
        for precision in ("fp32", "fp16")
    )
    with torch.autocast("cpu", torch.bfloat16):
        found = exact({"body": images})
        assert found.dtype == torch.float32
        assert torch.equal(rounded({"body": images}), found.half().float())
    torch.testing.assert_close(found, exact.network()(images))


def test_random_numbers_are_drawn_alike_whether_it_is_built_or_not() -> None:
    frozen = FrozenEncoder(
        "body", "body", EncoderConfig(network="resnet18", width=0.0625, weights="none"), no_weights, 3
    )
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    first = frozen.network()
    assert torch.equal(torch.rand(4), expected)
    torch.manual_seed(1)
    again = FrozenEncoder("body", "body", frozen.config, no_weights, 3).network()
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), "its own random weights depend on its seed alone"


@pytest.mark.parametrize(
    "config",
    [
        {"network": "resnet18", "width": 0.25},
        {"network": "resnet50", "width": 0.1},
        {"network": "vgg16", "width": 0.01},
    ],
)
def test_the_feature_s_size_is_known_without_the_network(config: dict[str, Any]) -> None:
    settings = EncoderConfig(**config, weights="none")
    with torch.no_grad():
        assert build_encoder(settings).eval()(torch.randn(2, 3, 64, 64)).shape[1] == encoder_dim(settings)


class Pool(nn.Module):
    """Means of the channels over the image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


OWN = {"network": "tests.models.test_encoder_fusion:Pool", "weights": "none", "dim": 3}


def test_a_function_of_ones_own_is_held_to_its_dim() -> None:
    right, wrong = (EncoderConfig(**OWN | {"dim": dim}) for dim in (3, 4))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(FrozenEncoder("body", "body", right, no_weights)({"body": images}), images.mean((2, 3)))
    with pytest.raises(ConfigError, match=r"Pool: gives features of shape 2,3, not 2,4 \(dim\)"):
        FrozenEncoder("body", "body", wrong, no_weights)({"body": images})
    branch = ContextBranch(ContextBranchConfig(**OWN, trainable=True), 7, no_weights)
    assert branch({"context": images}).shape == (2, 7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dim", "text"),
    [
        ("open_clip:ViT-B-32/openai", 512, "takes no images of 64x48: 224x224 are expected"),
        ("timm:test_vit", 64, "takes no images of 64x48"),
    ],
)
def test_a_size_that_an_encoder_cannot_take_is_said(name: str, dim: int, text: str) -> None:
    size = (64, 48) if "clip" in name else (64, 50)
    frozen = FrozenEncoder("body", "body", EncoderConfig(network=name, weights="none", dim=dim), no_weights)
    with pytest.raises(ConfigError, match=text.replace("64x48", f"{size[0]}x{size[1]}")):
        frozen({"body": torch.randn(1, 3, *size)})


@pytest.mark.parametrize("method", ["vanilla", "clef", "ccim", "context_only"])
@pytest.mark.parametrize("dataset", ["caer_s_demo", "emotic_demo"])
def test_every_method_works_around_frozen_encoders(tiny: Callable[..., CellConfig], dataset: str, method: str) -> None:
    settings: dict[str, Any] = {f"backbone.encoders.{name}.trainable": False for name in ("body", "context")}
    if method in ("clef", "context_only"):
        settings["method.context_branch.trainable"] = False
    if dataset == "emotic_demo":
        settings["loss.vad_weight"] = 0.5
    config = tiny(dataset, "encoders", method, **settings)
    single = dataset == "caer_s_demo"
    classes = len(config.card.classes)
    dictionary = methods.ConfounderDictionary(torch.randn(4, 3), torch.full((4,), 0.25), torch.arange(9) % 4)
    model = methods.build(config, [1] * classes, 7, lambda load: dictionary).train()
    expected = {"clef": ["body", "context", "context_branch"], "context_only": ["context_branch"]}
    assert sorted(e.role for e in model.frozen_encoders()) == expected.get(method, ["body", "context"])
    whole = batch(5, classes=classes, size=24, single=single) | {"vad": torch.rand(5, 3) * 10}
    prediction = model(whole)
    torch.stack(list(prediction.losses.values())).sum().backward()
    assert prediction.scores.shape == (5, classes)
    assert ("vad" in prediction.losses) == (not single and method != "context_only")
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert not [key for key in model.state_dict() if "encoders." in key or "encoder." in key]


def test_trainable_streams_learn_at_their_own_rates(tiny: Callable[..., CellConfig]) -> None:
    rates = {"backbone.encoders.body.lr_multiplier": 0.1, "backbone.encoders.context.lr_multiplier": 0.01}
    config = tiny(backbone="encoders", method="vanilla", **rates, **{"optimizer.head_lr_multiplier": 2.0})
    model = methods.build(config, [1] * 7, 7, lambda load: pytest.fail("a dictionary"))
    groups = {group["lr_multiplier"]: group["params"] for group in model.parameter_groups(0.0)}
    assert model.backbone is not None
    encoders = model.backbone.get_submodule("encoders")
    for rate, name in ((0.1, "body"), (0.01, "context")):
        assert {id(p) for p in groups[rate]} == {id(p) for p in encoders.get_submodule(name).parameters()}
    assert {id(p) for group in groups.values() for p in group} == {id(p) for p in model.parameters()}
    assert len(groups) == 3
