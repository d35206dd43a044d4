"""CAER-Net-S: the published layers, and its fusion against one computed by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.factories import batch, make, on_meta, parameters, without


def test_the_published_layers() -> None:
    net = on_meta(name="caer_net", classes=7)
    three = (3, 3)
    for encoder in (net.face, net.context):
        convolutions = [(m.in_channels, m.out_channels, m.kernel_size) for m in encoder if isinstance(m, nn.Conv2d)]
        assert convolutions == [(3, 32, three), (32, 64, three), (64, 128, three), (128, 256, three), (256, 256, three)]
        assert [type(m).__name__ for m in encoder].count("MaxPool2d") == 4
    encoder = sum(i * o * 9 + o + 2 * o for i, o in ((3, 32), (32, 64), (64, 128), (128, 256), (256, 256)))
    attention = (256 * 128 * 9 + 128 + 256) + (128 * 9 + 1 + 2)
    weights = 2 * ((256 * 128 + 128) + (128 + 1))
    fusion = 512 * 128 + 128
    assert parameters(net) == 2 * encoder + attention + weights + fusion + 128 * 7 + 7


def test_the_features_norm_is_one_batch_norm_a_stream() -> None:
    plain, normed = (on_meta(name="caer_net", feature_norm=on) for on in (False, True))
    assert parameters(normed) - parameters(plain) == 2 * (256 + 256)
    net = make(name="caer_net", feature_norm=True, width=0.0625).train()
    seen = {}
    for name in ("face", "context"):
        net.get_submodule(f"{name}_norm").register_forward_hook(lambda m, args, out, n=name: seen.__setitem__(n, out))
    net(batch(16))
    for normalised in seen.values():
        torch.testing.assert_close(normalised.mean(0), torch.zeros(16), atol=1e-5, rtol=0)


PORT_LOGITS = {
    True: [
        [-2.505594, -0.637695, 0.368000, -0.532369, 1.391640, -0.260893, -1.122452],
        [-2.454887, -0.599436, 0.344679, -0.389241, 1.449410, -0.206229, -0.949793],
    ],
    False: [
        [-2.412261, -0.536055, 0.179083, -0.358898, 1.709869, -0.302219, -0.794841],
        [-2.372460, -0.477470, 0.211365, -0.210701, 1.705676, -0.262673, -0.652313],
    ],
}
"""What github.com/ndkhanh360/CAER at 93d2582 says with the weights and images below, with its batch norm and without.
"""


@pytest.mark.parametrize("feature_norm", PORT_LOGITS)
def test_logits_are_a_public_ports(feature_norm: bool) -> None:
    net = make(classes=7, name="caer_net", feature_norm=feature_norm).eval()
    for number, layer in enumerate(layers_in_the_ports_order(net)):
        fill(layer, np.random.RandomState(number))
    random, whole = np.random.RandomState(100), batch(2, classes=7)
    whole["face"], whole["scene_without_face"] = (drawn(random, (2, 3, size, size)) for size in (48, 32))
    torch.testing.assert_close(net(whole).logits, torch.tensor(PORT_LOGITS[feature_norm]), atol=1e-4, rtol=1e-4)


def layers_in_the_ports_order(net: nn.Module) -> list[nn.Module | None]:
    """Encoders, the batch norms of both features (None where there are none), attention, scores, fusion, head."""
    norms = [m if isinstance(m, nn.BatchNorm1d) else None for m in (net.face_norm, net.context_norm)]
    after = (net.attention, net.face_weight, net.context_weight, net.fusion, net.classifier)
    return [*weighted(net.face, net.context), *norms, *weighted(*after)]


def weighted(*parts: nn.Module) -> list[nn.Module]:
    return [layer for part in parts for layer in part.modules() if hasattr(layer, "weight")]


def fill(layer: nn.Module | None, random: np.random.RandomState) -> None:
    """Draw the weights of a layer, and the statistics of a batch norm."""
    if layer is None:
        return
    norm = isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
    weight, bias = drawn(random, layer.weight.shape), drawn(random, layer.bias.shape)
    weight = 1 + 0.1 * weight if norm else weight * (2 / layer.weight[0].numel()) ** 0.5
    state = {"weight": weight, "bias": 0.1 * bias}
    if norm:
        state["running_mean"] = 0.1 * drawn(random, layer.running_mean.shape)
        state["running_var"] = 1 + 0.1 * drawn(random, layer.running_var.shape).abs()
    layer.load_state_dict(state, strict=False)


def drawn(random: np.random.RandomState, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(random.standard_normal(shape)).float()


@pytest.mark.parametrize(("pooling", "share"), [("average", 1 / 4), ("sum", 1)])
def test_the_streams_are_weighed_against_each_other(pooling: str, share: float) -> None:
    net, whole = make(name="caer_net", width=0.0625, context_pooling=pooling).eval(), batch(2)
    feature = net(whole).feature
    for i in range(2):
        face = net.face(whole["face"][i : i + 1]).mean(dim=(2, 3))
        map_ = net.context(whole["scene_without_face"][i : i + 1])
        attention = net.attention(map_)[0, 0]
        total = attention.exp().sum()
        context = sum(map_[0, :, y, x] * attention[y, x].exp() / total for y in range(2) for x in range(2))[None]
        context = context * share
        a, b = (math.exp(score.item()) for score in (net.face_weight(face), net.context_weight(context)))
        expected = net.fusion(torch.cat([face * a / (a + b), context * b / (a + b)], dim=1))
        torch.testing.assert_close(feature[i : i + 1], expected)


def test_without_a_face_the_context_has_all_the_weight() -> None:
    net, whole = make(name="caer_net", width=0.0625).eval(), batch(2)
    context = net._attend(net.context(whole["scene_without_face"]))
    expected = net.fusion(torch.cat([torch.zeros_like(context), context], dim=1))
    torch.testing.assert_close(net(without(whole, "face")).feature, expected)
