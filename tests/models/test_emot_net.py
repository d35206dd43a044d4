"""EMOT-Net's layers: the official network of 1-D kernels, layer by layer, and the port's two ResNets."""

import pytest
import torch
import torchvision
from torch import nn

from clef import methods
from clef.config import resolve
from clef.models.emot_net import BODY, IMAGE, Decomposed
from tests.models.factories import on_meta, parameters

IMAGE_PAIRS = [
    (3, 32, 64, 11, 4),
    (64, 128, 256, 5, 2),
    (256, 384, 512, 3, 2),
    (512, 384, 384, 3, 1),
    (384, 640, 640, 3, 2),
    (640, 640, 640, 3, 1),
    (640, 640, 640, 3, 2),
    (640, 640, 640, 3, 1),
]
BODY_PAIRS = [(3, 32, 64, 3, 2), (64, 128, 128, 3, 2), (128, 128, 128, 3, 2)]


@pytest.mark.parametrize(("branch", "pairs"), [("scene", IMAGE_PAIRS), ("body", BODY_PAIRS)])
def test_the_official_branches_layer_by_layer(branch: str, pairs: list[tuple[int, ...]]) -> None:
    layers = list(on_meta(name="emot_net", variant="decomposed").get_submodule(branch))
    for inputs, between, outputs, kernel, stride in pairs:
        down, relu, across, norm, relu_too = layers[:5]
        del layers[:5]
        found = (down.in_channels, down.out_channels, down.kernel_size, down.stride)
        assert found == (inputs, between, (kernel, 1), (stride, 1))
        found = (across.in_channels, across.out_channels, across.kernel_size, across.stride)
        assert found == (between, outputs, (1, kernel), (1, stride))
        assert norm.num_features == outputs
        assert isinstance(relu, nn.ReLU)
        assert isinstance(relu_too, nn.ReLU)
    assert [type(layer) for layer in layers] == [nn.AdaptiveAvgPool2d, nn.Flatten]


def test_the_decomposed_network_has_so_many_parameters() -> None:
    def pair(inputs: int, between: int, outputs: int, kernel: int, _stride: int) -> int:
        return (inputs * between * kernel + between) + between * outputs * kernel + 2 * outputs

    branches = sum(pair(*numbers) for numbers in IMAGE_PAIRS + BODY_PAIRS)
    fusion = (768 * 256 + 256) + 2 * 256
    net = on_meta(name="emot_net", variant="decomposed", vad=True)
    assert parameters(net) == branches + fusion + (256 * 26 + 26) + (256 * 3 + 3)


def test_published_inputs_make_the_published_maps() -> None:
    for pairs, size, expected in ((IMAGE, 224, (640, 4, 4)), (BODY, 128, (128, 16, 16))):
        with torch.device("meta"):
            network = Decomposed(pairs)
            images = torch.empty(1, 3, size, size)
        map_ = nn.Sequential(*list(network)[:-2])(images)
        assert map_.shape[1:] == expected
        assert network(images).shape == (1, network.dim)


def test_a_pair_is_what_it_says() -> None:
    network = Decomposed(((4, 6, 3, 2),)).eval()
    down, across = network[0], network[2]
    images = torch.randn(2, 3, 9, 9)
    map_ = nn.functional.conv2d(images, down.weight, down.bias, (2, 1), (1, 0)).relu()
    map_ = nn.functional.conv2d(map_, across.weight, None, (1, 2), (0, 1)) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(network(images), map_.relu().mean(dim=(2, 3)))


def test_a_decomposed_cell_needs_no_weights() -> None:
    backbone = {"name": "emot_net", "variant": "decomposed", "width": 0.0625}
    made = resolve.resolve(
        {"dataset": "emotic", "method": "vanilla", "backbone": backbone, "runtime": {"weights": "/"}}
    )
    assert made.backbone.weights["scene"] == "places365-resnet18", "the recipe states weights, for the other variant"
    method = methods.build(made, [1] * 26, 26, lambda load: pytest.fail("a dictionary"))
    assert isinstance(method.backbone.scene, Decomposed)


def test_the_port_has_two_resnet18_and_the_published_fusion() -> None:
    resnet = parameters(torchvision.models.resnet18()) - (512 * 1000 + 1000)
    fusion = (1024 * 256 + 256) + 2 * 256
    expected = 2 * resnet + fusion + (256 * 26 + 26) + (256 * 3 + 3)
    assert parameters(on_meta(name="emot_net", vad=True)) == expected
