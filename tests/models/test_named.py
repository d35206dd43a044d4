"""Networks by name are those of their libraries: their records, and their pooled features, number by number."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from clef import networks
from clef.errors import ConfigError
from clef.models import named

TIMM = ["test_vit", "test_convnext", "test_efficientnet", "test_resnet", "tf_efficientnet_lite0"]


def images(size: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


def features(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = network.eval()(pixels)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", TIMM)
def test_timm_s_record_and_pooled_feature(model: str) -> None:
    import timm
    from timm.data import resolve_model_data_config

    theirs = timm.create_model(model).eval()
    record = networks.describe([f"timm:{model}"])[f"timm:{model}"]
    stated = resolve_model_data_config(theirs)
    assert {"size": stated["input_size"][1:], "mean": stated["mean"], "std": stated["std"]} == {
        "size": record.size, "mean": record.mean, "std": record.std
    }  # fmt: skip
    assert record.interpolation == stated["interpolation"]
    assert (record.license, record.hub) == ("apache-2.0", theirs.pretrained_cfg["hf_hub_id"])
    ours = named.build_named(f"timm:{model}")
    ours.load_state_dict(theirs.state_dict(), strict=False)
    pixels = images(record.size)
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(pixels), pre_logits=True)
    torch.testing.assert_close(features(ours, pixels), expected)
    assert record.dim == expected.shape[1]


@pytest.mark.slow
def test_a_vision_transformer_of_timm_takes_other_sizes() -> None:
    network = named.build_named("timm:test_vit")
    assert features(network, images((64, 96))).shape == (2, 64)


@pytest.mark.slow
def test_open_clip_s_record_and_image_embedding() -> None:
    import open_clip

    whole, _, transform = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")
    record = networks.describe(["open_clip:ViT-B-32/openai"])["open_clip:ViT-B-32/openai"]
    resize, *_, normalize = transform.transforms
    assert record.size == (224, 224)
    assert (record.mean, record.std) == (tuple(normalize.mean), tuple(normalize.std))
    assert record.interpolation == resize.interpolation.value
    assert record.hub
    ours = named.build_named("open_clip:ViT-B-32/openai")
    ours.load_state_dict(whole.visual.state_dict())
    pixels = images(record.size)
    with torch.no_grad():
        expected = whole.eval().encode_image(pixels)
    torch.testing.assert_close(features(ours, pixels), expected)
    assert record.dim == expected.shape[1] == 512


@pytest.mark.parametrize(
    ("name", "size", "dim"),
    [("resnet18", 224, 512), ("vgg16/IMAGENET1K_V1", 224, 4096), ("vit_b_16/IMAGENET1K_SWAG_E2E_V1", 384, 768)],
)
def test_torchvision_s_record(name: str, size: int, dim: int) -> None:
    record = named.record_of(f"torchvision:{name}")
    assert (record.size, record.dim, record.mean) == ((size, size), dim, (0.485, 0.456, 0.406))
    assert record.url
    assert record.url.startswith("https://download.pytorch.org/models/")
    assert record.source == record.url


def test_torchvision_s_feature_is_what_its_classifier_reads() -> None:
    from torchvision import models

    theirs, ours = models.resnet18().eval(), named.build_named("torchvision:resnet18/IMAGENET1K_V1")
    ours.load_state_dict(theirs.state_dict(), strict=False)
    pixels = images((64, 64))
    torch.testing.assert_close(theirs.fc(features(ours, pixels)), features(theirs, pixels))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("timm:test_vitt", "timm has no 'test_vitt'; did you mean test_vit"),
        ("timm:test_vit.in22k", "timm has no 'test_vit.in22k'; did you mean test_vit"),
        ("open_clip:VitB16/openai", "open_clip has no 'VitB16'; did you mean ViT-B-16?"),
        ("open_clip:ViT-B-16/openia", "open_clip's ViT-B-16 has no 'openia'; did you mean openai?"),
        ("torchvision:resnet19", "torchvision has no 'resnet19'; did you mean resnet1"),
        ("torchvision:resnet18/IMAGENET", "torchvision's resnet18 has no 'IMAGENET'; did you mean IMAGENET1K_V1?"),
        ("torchvision:squeezenet1_0", "torchvision can't build it: it has no linear classifier to leave out"),
    ],
)
def test_what_a_library_does_not_have_is_said_with_the_nearest(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        networks.describe([name])
    assert str(error.value).startswith(f"{name}: {text}")
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_all_names_are_asked_in_one_process() -> None:
    names = ["timm:test_resnet", "timm:nothing_like_it", "torchvision:resnet18"]
    command = [sys.executable, "-m", "clef.models.named", *names]
    answers = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert list(answers) == names
    assert answers["timm:test_resnet"]["dim"] == 96
    assert "has no" in answers["timm:nothing_like_it"]["error"]


@pytest.mark.parametrize(
    ("made", "text"), [(lambda: nn.Identity(), None), (lambda: "net", "gives no torch.nn.Module, but a str")]
)
def test_a_function_of_ones_own(monkeypatch: pytest.MonkeyPatch, made: Any, text: str | None) -> None:
    monkeypatch.setattr(named, "made_here", made, raising=False)
    name = "clef.models.named:made_here"
    if text is None:
        assert isinstance(named.build_named(name), nn.Identity)
        return
    with pytest.raises(ConfigError, match=text):
        named.build_named(name)
    with pytest.raises(ConfigError, match="has no 'nothing'"):
        named.build_named("clef.models.named:nothing")
