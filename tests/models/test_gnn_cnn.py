"""GNN-CNN: its layers, regions as places of the map, and a graph in which padding plays no part."""

import pytest
import torch
from torch import nn

from clef.models.gnn_cnn import AffectiveGraph
from clef.models.graph import box_geometry, masked_mean, normalize_adjacency, valid_boxes
from tests.models.factories import batch, make, on_meta, parameters


def test_the_layers_and_sizes() -> None:
    net = on_meta(name="gnn_cnn", vad=True)
    vgg = 14_714_688 + (25088 * 4096 + 4096) + (4096 * 4096 + 4096)  # the convolutions' number is the published one
    stages = 64 * 3 * 49 + 128 + 147_968 + 525_568 + 2_099_712  # ResNet-18's stem and its stages 1 to 3
    node = (256 + 7) * 512 + 512
    graph = (1 + 6) * (512 * 512 + 512)
    body = 4096 * 512 + 512
    assert parameters(net) == vgg + stages + node + graph + body + (1024 * 26 + 26) + (1024 * 3 + 3)
    assert len(on_meta(name="gnn_cnn", layers=3).graph.layers) == 3


def test_padding_rows_change_nothing() -> None:
    net, whole = make(name="gnn_cnn", width=0.0625).eval(), batch(2)
    short = whole | {"regions": whole["regions"][:, :4]}
    long = whole | {"regions": nn.functional.pad(whole["regions"], (0, 0, 0, 6))}
    for other in (short, long):
        torch.testing.assert_close(net(other).logits, net(whole).logits, rtol=1e-5, atol=1e-6)


def test_the_order_of_regions_changes_nothing() -> None:
    net, whole = make(name="gnn_cnn", width=0.0625).eval(), batch(2)
    mixed = whole | {"regions": whole["regions"][:, [3, 0, 4, 1, 2]]}
    torch.testing.assert_close(net(mixed).logits, net(whole).logits, rtol=1e-5, atol=1e-6)


def test_without_a_region_the_graph_says_nothing() -> None:
    net, whole = make(name="gnn_cnn", width=0.0625).eval(), batch(2)
    feature = net(whole | {"regions": torch.zeros(2, 5, 4)}).feature
    dim = net.feature_dim // 2
    assert not feature[:, dim:].any()
    torch.testing.assert_close(feature[:, :dim], net(whole).feature[:, :dim])


class Ramp(nn.Module):
    """An encoder whose map, 2,8,16, holds at each place how far right and how far down it is, in pixels."""

    def stem(self, images: torch.Tensor) -> torch.Tensor:
        x, y = torch.arange(16) + 0.5, torch.arange(8) + 0.5
        return torch.stack([x.expand(8, 16), y[:, None].expand(8, 16)])[None].expand(len(images), -1, -1, -1)

    def stage(self, number: int) -> nn.Module:
        assert number in (1, 2, 3), "the fourth stage is not read"
        return nn.Identity()


def test_a_region_is_pooled_where_it_lies() -> None:
    net = make(name="gnn_cnn", width=0.0625)
    net.scene = Ramp()
    regions = torch.tensor([[[0.25, 0.25, 0.5, 0.5], [0.5, 0.125, 0.9, 0.875]], [[0.1, 0.5, 0.2, 0.75], [0.0] * 4]])
    pooled = net._pool_regions(torch.zeros(2, 3, 64, 128), regions)
    centres = (regions[..., :2] + regions[..., 2:]) / 2 * torch.tensor([16.0, 8.0])
    torch.testing.assert_close(pooled[0], centres[0])
    torch.testing.assert_close(pooled[1, 0], centres[1, 0])


def test_geometry_by_hand() -> None:
    boxes = torch.tensor([[[0.2, 0.1, 0.6, 0.6], [0.0, 0.0, 0.0, 0.0]]])
    torch.testing.assert_close(box_geometry(boxes)[0, 0], torch.tensor([0.2, 0.1, 0.6, 0.6, 0.4, 0.5, 0.2]))
    assert valid_boxes(boxes).tolist() == [[True, False]]
    assert valid_boxes(torch.tensor([[[0.0, 0.0, 0.0, 0.5]]])).item(), "a box at the corner is a box"


def test_normalisation_is_with_the_inverse_square_root_of_the_degree_matrix() -> None:
    affinity = torch.rand(2, 4, 4, dtype=torch.float64)
    affinity = affinity + affinity.mT
    for mine, a in zip(normalize_adjacency(affinity), affinity, strict=True):
        root = torch.linalg.inv(torch.diag(a.sum(1)).sqrt())
        torch.testing.assert_close(mine, root @ a @ root)
    affinity[0, 2], affinity[0, :, 2] = 0, 0
    found = normalize_adjacency(affinity)[0]
    assert found.isfinite().all()
    assert not found[2].any()


def test_the_graph_node_by_node() -> None:
    torch.manual_seed(0)
    graph, nodes = AffectiveGraph(6, 2), torch.randn(1, 4, 6)
    valid = torch.tensor([[True, True, False, True]])
    found = [nodes[0, i] for i in (0, 1, 3)]
    keys = [graph.key(node) for node in found]
    affinity = [[torch.sigmoid(a @ b / 6**0.5) + (a is b) for b in keys] for a in keys]
    degree = [sum(row) for row in affinity]
    for layer in graph.layers:
        sent = [layer(node) for node in found]
        found = [
            node + sum(affinity[i][j] / (degree[i] * degree[j]).sqrt() * sent[j] for j in range(3)).relu()
            for i, node in enumerate(found)
        ]
    torch.testing.assert_close(graph(nodes, valid)[0], sum(found) / 3)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_mean_over_what_is_valid(count: int) -> None:
    nodes, valid = torch.randn(1, 3, 5), torch.arange(3)[None] < count
    expected = nodes[0, :count].mean(0) if count else torch.zeros(5)
    torch.testing.assert_close(masked_mean(nodes, valid)[0], expected)
