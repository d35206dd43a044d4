"""ResNet encoders against torchvision's, the context branch, and pre-trained weights."""

import inspect
import re
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from clef import methods
from clef.config import BackboneConfig, CellConfig
from clef.config.backbones import CustomBackboneConfig
from clef.data.batch_memory import Batch
from clef.errors import ConfigError, SetupError
from clef.models import Backbone, WeightLoader
from clef.models.context_branch import ContextBranch, ContextBranchConfig
from clef.models.encoders import ResNetEncoder
from clef.models.pretrained import Pretrained


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet152"])
def test_encoders_of_width_1_are_torchvisions_weight_by_weight(name: str) -> None:
    theirs = torchvision.models.get_model(name)
    theirs.fc = nn.Identity()
    mine = ResNetEncoder(name)
    assert {k: v.shape for k, v in mine.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    mine.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(mine.eval()(images), theirs.eval()(images))


def test_torchvision_still_makes_resnet_stages_by_the_method_that_we_override() -> None:
    method = getattr(torchvision.models.ResNet, "_make_layer", None)
    assert method is not None, "torchvision's ResNet has no _make_layer any more: scale ResNetEncoder in another way"
    found = list(inspect.signature(method).parameters)
    expected = ["self", "block", "planes", "blocks", "stride", "dilate"]
    assert found == expected, f"ResNet._make_layer takes {found} now: ResNetEncoder overrides it with {expected}"
    with torch.device("meta"):
        stages = [getattr(ResNetEncoder("resnet18", 0.5), f"layer{number}") for number in (1, 2, 3, 4)]
    assert [stage[0].conv1.out_channels for stage in stages] == [32, 64, 128, 256], "_make_layer is not called any more"


def test_torchvision_still_has_what_vgg16_is_made_of() -> None:
    vgg = torchvision.models.vgg
    for name in ("cfgs", "make_layers"):
        assert hasattr(vgg, name), f"torchvision.models.vgg has no {name} any more: Vgg16Encoder is made of it"
    assert vgg.cfgs["D"][:3] == [64, 64, "M"], "torchvision.models.vgg.cfgs has another format now"


def test_width_scales_channels_and_keeps_the_structure() -> None:
    thin, full = ResNetEncoder("resnet18", 0.25), ResNetEncoder("resnet18")
    assert list(thin.state_dict()) == list(full.state_dict())
    assert thin.dim == 128
    assert thin.layer3[0].conv1.weight.shape == (64, 32, 3, 3)
    assert thin(torch.randn(2, 3, 32, 32)).shape == (2, 128)


class ReadsTheFace(Backbone):
    """A network that reads what neither its recipe nor its class lists."""

    inputs = ("scene",)

    def build(self, config: BackboneConfig, load: WeightLoader) -> None:
        self.feature_dim = 3

    def features(self, batch: Batch) -> Tensor:
        valid = batch["valid"]["face"]  # type: ignore[typeddict-item]
        return batch["face"].mean((2, 3)) * valid[:, None]


@pytest.mark.parametrize(
    ("config", "where"),
    [
        (BackboneConfig(name="caer_net"), "inputs of configs/backbones/caer_net.yaml do not list"),
        (CustomBackboneConfig(name="mine:Net"), "class attribute `inputs` does not list"),
    ],
)
def test_an_input_that_is_read_but_not_listed_is_named(config: BackboneConfig, where: str) -> None:
    network = ReadsTheFace(config, 7, False, lambda encoder, network: None)
    expected = f"backbone {config.name} reads the input face, which the {where}; add it there"
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}$"):
        network({"scene": torch.ones(2, 3, 8, 8), "valid": {"scene": torch.ones(2)}})
    batch = {"face": torch.ones(2, 3, 8, 8), "valid": {"face": torch.ones(2)}}
    assert network(batch).logits.shape == (2, 7)


def test_a_frozen_context_branch_keeps_parameters_and_statistics() -> None:
    config = ContextBranchConfig(network="resnet18", width=0.0625, weights="none", trainable=False)
    branch = ContextBranch(config, 7, lambda encoder, network: None).train()
    encoder = branch.frozen_encoders()[0].network()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    branch({"context": torch.randn(4, 3, 32, 32)}).sum().backward()
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())
    assert list(branch.state_dict()) == ["classifier.weight", "classifier.bias"], "no checkpoint holds what is frozen"
    assert {n for n, p in branch.named_parameters() if p.grad is not None} == {"classifier.weight", "classifier.bias"}


@pytest.fixture
def places(tmp_path):  # noqa: ANN201
    """A Places365 file as published: a dict with `state_dict`, keys below `module.`, 365 classes."""
    network = torchvision.models.resnet18(num_classes=365)
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 90, "arch": "resnet18", "state_dict": state}, tmp_path / "resnet18_places365.pth.tar")
    return network


@pytest.mark.slow
def test_places365_weights_arrive_in_the_scene_encoder(tiny: Callable[..., CellConfig], tmp_path, places) -> None:
    settings = {"backbone.width": 1.0, "backbone.weights.scene": "places365-resnet18", "runtime.weights": str(tmp_path)}
    method = methods.build(tiny(method="vanilla", **settings), [1] * 7, 7, lambda load: pytest.fail("a dictionary"))
    assert torch.equal(method.backbone.scene.layer4[1].conv2.weight, places.layer4[1].conv2.weight)
    assert torch.equal(method.backbone.scene.bn1.running_var, places.bn1.running_var)
    assert not torch.equal(method.backbone.body.conv1.weight, places.conv1.weight)


def test_missing_weights_are_an_error_that_says_what_to_fetch(tiny: Callable[..., CellConfig], tmp_path) -> None:
    settings = {"method.context_branch.weights": "places365", "runtime.weights": str(tmp_path)}
    with pytest.raises(SetupError, match=r"resnet18_places365\.pth\.tar: .* not there") as error:
        methods.build(tiny(**settings), [1] * 7, 7, lambda load: pytest.fail("a dictionary"))
    assert "places2.csail.mit.edu" in str(error.value)
    assert "none for random" in str(error.value)


def test_places365_resnet152_must_be_converted(tiny: Callable[..., CellConfig], tmp_path) -> None:
    branch = {"method.context_branch.weights": "places365", "method.context_branch.network": "resnet152"}
    settings = {**branch, "runtime.weights": str(tmp_path)}
    with pytest.raises(SetupError, match=r"there is no official PyTorch file of them\. Convert"):
        methods.build(tiny(**settings), [1] * 7, 7, lambda load: pytest.fail("a dictionary"))


def test_weights_of_another_network_are_refused(tiny: Callable[..., CellConfig], tmp_path) -> None:
    path = tmp_path / "other.pth"
    torch.save(torchvision.models.resnet50().state_dict(), path)
    with pytest.raises(SetupError, match="does not fit"):
        methods.build(
            tiny(**{"backbone.width": 1.0, "backbone.weights.body": str(path)}),
            [1] * 7,
            7,
            lambda load: pytest.fail("a dictionary"),
        )


def test_random_initialisation_must_be_said(tiny: Callable[..., CellConfig]) -> None:
    config = tiny(method="vanilla")
    silent = config.model_copy(update={"backbone": config.backbone.model_copy(update={"weights": {}})})
    with pytest.raises(ConfigError, match=r"backbone\.weights\.scene: missing"):
        Pretrained(silent)("scene", ResNetEncoder("resnet18", 0.0625))
