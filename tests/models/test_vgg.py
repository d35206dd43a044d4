"""VGG-16 against torchvision's, weight by weight, and the places where it is used."""

import pytest
import torch
import torchvision
from torch import nn

from clef.config import ContextBranchConfig
from clef.errors import SetupError
from clef.models.context_branch import ContextBranch
from clef.models.encoders import Vgg16Encoder, make_encoder
from clef.models.pretrained import load_weights


def test_width_1_is_torchvisions_weight_by_weight() -> None:
    with torch.device("meta"):
        mine, theirs = Vgg16Encoder().eval(), torchvision.models.vgg16().eval()
    theirs.classifier[6] = nn.Identity()
    state = {name: torch.empty(value.shape).uniform_(-0.03, 0.03) for name, value in theirs.state_dict().items()}
    theirs.load_state_dict(state, assign=True)
    mine.load_state_dict(state, assign=True)
    images = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(mine(images), theirs(images))


def test_the_classes_of_a_published_file_are_dropped(tmp_path) -> None:
    theirs, mine = Vgg16Encoder(0.0625), Vgg16Encoder(0.0625)
    theirs.classifier.append(nn.Linear(theirs.dim, 1000))  # classifier.6
    torch.save(theirs.state_dict(), tmp_path / "vgg16.pth")
    assert "classifier.6.weight" in theirs.state_dict()
    load_weights(mine, tmp_path / "vgg16.pth")
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in mine.state_dict().items())


def test_weights_of_a_thin_network_are_refused(tmp_path) -> None:
    torch.save(Vgg16Encoder(0.0625).state_dict(), tmp_path / "thin.pth")
    with pytest.raises(SetupError, match="does not fit"):
        load_weights(Vgg16Encoder(0.125), tmp_path / "thin.pth")


def test_width_scales_every_layer() -> None:
    thin = Vgg16Encoder(0.125)
    with torch.device("meta"):
        full = Vgg16Encoder()
    assert list(thin.state_dict()) == list(full.state_dict())
    assert (thin.dim, thin.features[0].out_channels, thin.classifier[0].in_features) == (512, 8, 64 * 49)
    assert thin(torch.randn(1, 3, 24, 37)).shape == (1, 512), "a map of one pixel is not pooled away"


def test_a_thin_network_passes_as_much_on() -> None:
    torch.manual_seed(0)
    sizes = [Vgg16Encoder(width).eval()(torch.randn(8, 3, 64, 64)).std().item() for width in (0.125, 0.5)]
    assert 0.5 < sizes[0] / sizes[1] < 2


@pytest.mark.parametrize(
    ("network", "dim"), [("resnet18", 512), ("resnet50", 2048), ("resnet152", 2048), ("vgg16", 4096)]
)
def test_the_encoders_by_name(network: str, dim: int) -> None:
    with torch.device("meta"):
        made = make_encoder(network)
        assert made.dim == dim
        assert made(torch.empty(2, 3, 64, 64)).shape == (2, dim)


def test_a_context_branch_may_be_vgg16() -> None:
    config = ContextBranchConfig(network="vgg16", width=0.0625, weights="none")
    branch = ContextBranch(config, 7, lambda name, network: None)
    assert branch({"context": torch.randn(2, 3, 32, 32)}).shape == (2, 7)
