"""CAER-Net-S: the published layers, and its fusion against one computed by hand."""

import math

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


def test_the_streams_are_weighed_against_each_other() -> None:
    net, whole = make(name="caer_net", width=0.0625).eval(), batch(2)
    feature = net(whole).feature
    for i in range(2):
        face = net.face(whole["face"][i : i + 1]).mean(dim=(2, 3))
        map_ = net.context(whole["scene_without_face"][i : i + 1])
        attention = net.attention(map_)[0, 0]
        total = attention.exp().sum()
        context = sum(map_[0, :, y, x] * attention[y, x].exp() / total for y in range(2) for x in range(2))[None]
        a, b = (math.exp(score.item()) for score in (net.face_weight(face), net.context_weight(context)))
        expected = net.fusion(torch.cat([face * a / (a + b), context * b / (a + b)], dim=1))
        torch.testing.assert_close(feature[i : i + 1], expected)


def test_without_a_face_the_context_has_all_the_weight() -> None:
    net, whole = make(name="caer_net", width=0.0625).eval(), batch(2)
    context = net._attend(net.context(whole["scene_without_face"]))
    expected = net.fusion(torch.cat([torch.zeros_like(context), context], dim=1))
    torch.testing.assert_close(net(without(whole, "face")).feature, expected)
