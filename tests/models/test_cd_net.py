"""CD-Net: the t-product against the block-circulant matrix it stands for, tubal attention, the exchange of scales."""

import pytest
import torch
from torch import Tensor, nn

from clef.models.cd_net import TubalAttention, t_product, t_transpose
from tests.models.factories import batch, make, on_meta, parameters, without


def bcirc(a: Tensor) -> Tensor:
    """The block-circulant matrix of a tensor n,l,m: block (i, j) is slice i - j (mod n)."""
    n = len(a)
    return torch.cat([torch.cat([a[(i - j) % n] for j in range(n)], dim=1) for i in range(n)])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_the_t_product_is_the_block_circulant_product(n: int) -> None:
    a, b = torch.randn(n, 4, 6), torch.randn(n, 6, 2)
    folded = (bcirc(a) @ b.flatten(0, 1)).unflatten(0, (n, 4))
    torch.testing.assert_close(t_product(a, b), folded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_transpose_transposes_the_block_circulant_matrix(n: int) -> None:
    a = torch.randn(n, 3, 5)
    assert torch.equal(bcirc(t_transpose(a)), bcirc(a).T)


def test_batches_are_multiplied_one_by_one() -> None:
    a, weight = torch.randn(4, 3, 5, 6), torch.randn(3, 6, 2)
    together = t_product(a, weight)
    for i in range(4):
        torch.testing.assert_close(together[i], t_product(a[i], weight), rtol=1e-4, atol=1e-5)


def slow_attention(net: TubalAttention, tubes: Tensor) -> Tensor:
    """B = 1, in sums over components and positions: what TubalAttention says it is, without any transform."""
    n, places, _ = tubes.shape
    x = nn.functional.layer_norm(tubes, tubes.shape[-1:], net.norm.weight, net.norm.bias)

    def linear(values: Tensor, weight: Tensor) -> Tensor:
        return torch.stack([sum(values[j] @ weight[(i - j) % n] for j in range(n)) for i in range(n)])

    query, key, value = (linear(x, weight) for weight in (net.query, net.key, net.value))
    result = torch.zeros_like(value)
    for p in range(places):
        scores = torch.zeros(n, places)
        for shift in range(n):
            for q in range(places):
                scores[shift, q] = sum(query[i, p] @ key[(i - shift) % n, q] for i in range(n))
        weights = (scores / (n * query.shape[-1]) ** 0.5).flatten().softmax(0).view(n, places)
        for i in range(n):
            result[i, p] = sum(weights[s, q] * value[(i - s) % n, q] for s in range(n) for q in range(places))
    return linear(result, net.out)


def test_tubal_attention_in_sums() -> None:
    torch.manual_seed(0)
    net, tubes = TubalAttention(6, 4).requires_grad_(False), torch.randn(2, 3, 5, 6)
    found = net(tubes, torch.ones(2, 3, dtype=torch.bool))
    for i in range(2):
        torch.testing.assert_close(found[i], slow_attention(net, tubes[i]), rtol=1e-4, atol=1e-5)


def test_an_absent_component_gets_and_gives_nothing() -> None:
    torch.manual_seed(0)
    net, tubes = TubalAttention(6, 4), torch.randn(1, 3, 5, 6)
    valid = torch.tensor([[False, True, True]])
    nn.init.normal_(net.norm.bias)  # even where the norm would turn zeros into something
    found = net(tubes, valid)
    assert not found[0, 0].any()
    other = torch.cat([torch.randn(1, 1, 5, 6), tubes[:, 1:]], dim=1)
    torch.testing.assert_close(net(other, valid), found)
    assert not torch.allclose(net(other, torch.ones(1, 3, dtype=torch.bool)), found)


def test_the_layers_and_sizes() -> None:
    net = on_meta(name="cd_net")
    resnet = 11_689_512 - (512 * 1000 + 1000)  # torchvision's published number
    exchange = sum(3 * 3 * c * 128 + 3 * 128 * c + 2 * c for c in (128, 256, 512))
    fusion = (3 * 128 * 256 + 256) + ((3 * 256 + 256) * 256 + 256) + ((3 * 512 + 256) * 256 + 256)
    assert parameters(net) == 3 * resnet + exchange + fusion + (768 * 26 + 26)


def test_the_grid_says_how_many_tubes_there_are() -> None:
    net = make(name="cd_net", width=0.0625, grid=2).eval()
    seen = []
    for exchange in net.exchange:
        exchange.register_forward_hook(lambda m, args, out: seen.append((args[0].shape, out.shape)))
    net(batch(2))
    assert [shape for shape, _ in seen] == [(2, 3, 4, 8), (2, 3, 4, 16), (2, 3, 4, 32)]
    assert all(shape == out for shape, out in seen)


def test_pooled_tubes_go_back_to_where_they_came_from() -> None:
    net = make(name="cd_net", width=0.0625, grid=3)
    map_ = torch.randn(2, 5, 3, 3)
    tubes = net._pool_tubes([map_, 2 * map_, map_])
    assert torch.equal(tubes[0, 0, 5], map_[0, :, 1, 2]), "place 5 of a 3 x 3 grid is row 1, column 2"
    torch.testing.assert_close(net._enlarge(tubes[:, 1], map_), 2 * map_)
    enlarged = net._enlarge(tubes[:, 0], torch.empty(2, 5, 9, 12))
    torch.testing.assert_close(enlarged[:, :, 1, :2], map_[:, :, 0, :1].expand(-1, -1, 2), msg="corners keep theirs")


def test_what_one_stream_sees_reaches_the_others_next_stage() -> None:
    net, whole = make(name="cd_net", width=0.0625).eval(), batch(2)
    seen: list[Tensor] = []
    net.body.layer3.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    net(whole)
    net(whole | {"context": whole["context"].flip(0)})
    net(without(whole, "context"))
    assert not torch.allclose(seen[0], seen[1], atol=1e-6)
    assert not torch.allclose(seen[0], seen[2], atol=1e-6)


def test_a_missing_face_is_zeros_at_every_scale() -> None:
    net, whole = make(name="cd_net", width=0.0625).eval(), batch(2)
    seen: list[Tensor] = []
    for fusion in net.fusion:
        fusion.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    net(without(whole, "face", 1))
    for pooled, dim in zip(seen, (8, 16, 32), strict=True):
        assert pooled[0, :dim].any()
        assert not pooled[1, :dim].any(), "the face comes first"
        assert pooled[1, dim : 3 * dim].any()
