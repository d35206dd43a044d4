"""EmotiCon: layers and sizes, ST-GCN's partition, the product of modalities, and its loss against slow float64 ones."""

import math

import pytest
import torch
from torch import Tensor, nn

from clef.geometry import JOINTS, LIMBS
from clef.models.emoticon import (
    AgentGraph,
    AttentionBranchNet,
    GraphUnit,
    LandmarkNet,
    PoseGraph,
    log_probabilities,
    log_product,
    multiplicative_loss,
    proximity_matrix,
    spatial_partition,
)
from tests.models.factories import batch, make, on_meta, parameters, without


def sizes(module: nn.Module, kind: type) -> list[tuple[int, int]]:
    layers = [m for m in module.modules() if isinstance(m, kind)]
    return [
        (m.in_channels, m.out_channels) if hasattr(m, "in_channels") else (m.in_features, m.out_features)
        for m in layers
    ]


def test_the_landmarks_layers() -> None:
    net = on_meta(name="emoticon").landmarks
    assert sizes(net, nn.Conv1d) == [(1, 256), (256, 512), (512, 1024)]
    assert sizes(net, nn.Linear) == [(144 // 8 * 1024, 1024), (1024, 512), (512, 256), (256, 26)]


def test_144_numbers_are_all_x_then_all_y_then_zeros() -> None:
    net = LandmarkNet(7, 0.0625, 0.0).eval()
    seen: list[Tensor] = []
    net.convolutions.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    landmarks = torch.rand(2, 68, 2)
    net(landmarks)
    assert seen[0].shape == (2, 1, 144)
    torch.testing.assert_close(seen[0][:, 0, :68], landmarks[..., 0] - 0.5)
    torch.testing.assert_close(seen[0][:, 0, 68:136], landmarks[..., 1] - 0.5)
    assert not seen[0][:, 0, 136:].any()


def test_the_depth_layers() -> None:
    net = on_meta(name="emoticon").third_context
    assert sizes(net, nn.Conv2d) == [(1, 32), (32, 64), (64, 128), (128, 256), (256, 512)]
    assert [m.kernel_size for m in net.modules() if isinstance(m, nn.Conv2d)] == [(5, 5)] + 4 * [(3, 3)]
    assert sizes(net, nn.Linear) == [(25088, 1000), (1000, 26)]
    with torch.device("meta"):
        map_ = net.convolutions[:-2](torch.empty(1, 1, 224, 224))
    assert map_.shape == (1, 512, 7, 7), "the published size is not pooled any further"


def test_the_fusion_is_of_three_times_the_classes() -> None:
    for classes in (26, 7):
        assert sizes(on_meta(name="emoticon", classes=classes).classifier, nn.Linear) == [
            (3 * classes, 52),
            (52, classes),
        ]


def test_the_attention_branch_network() -> None:
    net = AttentionBranchNet(7, 0.0625).eval()
    resnet = sum(p.numel() for p in net.encoder.parameters())
    # A copy of the fourth stage (the shortcut has no stride, but the same weights), K maps, one map of attention.
    stage = parameters(net.encoder.layer4)
    assert parameters(net) == resnet + stage + 2 * 32 + 32 * 7 + 2 * 7 + 7 * 9 + 2 + (32 * 7 + 7)
    seen: dict[str, Tensor] = {}
    net.encoder.layer3.register_forward_hook(lambda m, args, out: seen.__setitem__("map", out))
    net.branch.register_forward_hook(lambda m, args, out: seen.__setitem__("attention", out))
    net.encoder.layer4.register_forward_hook(lambda m, args, out: seen.__setitem__("stressed", args[0]))
    net(torch.randn(2, 3, 48, 64))
    assert seen["attention"].shape == (2, 1, *seen["map"].shape[2:])
    assert (seen["attention"] > 0).all()
    assert (seen["attention"] < 1).all()
    torch.testing.assert_close(seen["stressed"], seen["map"] + seen["map"] * seen["attention"])


def test_the_nine_units() -> None:
    units = on_meta(name="emoticon").pose.units
    spatial = [(unit.space.in_channels, unit.space.out_channels // 3) for unit in units]
    assert spatial == [
        (3, 64),
        (64, 64),
        (64, 64),
        (64, 128),
        (128, 128),
        (128, 128),
        (128, 256),
        (256, 256),
        (256, 256),
    ]
    assert [type(unit.shortcut).__name__ for unit in units] == (
        ["NoneType", "Identity", "Identity", "Sequential", "Identity", "Identity", "Sequential", "Identity", "Identity"]
    )


def slow_partition() -> Tensor:
    """As ST-GCN's own code goes: hop distances by powers of the adjacency, columns normalised, three kinds of edges."""
    count = len(JOINTS)
    joined = torch.eye(count)
    for a, b in LIMBS:
        joined[a, b] = joined[b, a] = 1
    reached = [torch.linalg.matrix_power(joined.double(), hops) > 0 for hops in range(count)]
    hops = torch.stack(reached).float().argmax(0)
    normal = joined / joined.sum(0)
    parts = torch.zeros(3, count, count)
    centre = 0  # the nose
    for i in range(count):
        for j in range(count):
            if hops[j, i] == 0:
                parts[0, j, i] = normal[j, i]
            elif hops[j, i] == 1:
                parts[1 if hops[j, centre] >= hops[i, centre] else 2, j, i] = normal[j, i]
    return parts


def test_the_spatial_partition() -> None:
    assert torch.allclose(spatial_partition(), slow_partition())
    torch.testing.assert_close(spatial_partition().sum(dim=(0, 1)), torch.ones(17))
    wrist, elbow = JOINTS.index("left_wrist"), JOINTS.index("left_elbow")
    assert spatial_partition()[1, wrist, elbow] > 0, "the wrist is farther out than the elbow"
    assert spatial_partition()[2, elbow, wrist] > 0, "the elbow is nearer the centre than the wrist"


def test_a_unit_joint_by_joint() -> None:
    torch.manual_seed(0)
    unit, adjacency, values = GraphUnit(3, 5, residual=True).eval(), spatial_partition(), torch.randn(1, 3, 17)
    nn.init.uniform_(unit.importance)
    parts = unit.space(values)[0]  # 3 * 5, 17
    gathered = torch.zeros(1, 5, 17)
    for k in range(3):
        for v in range(17):
            for w in range(17):
                gathered[0, :, w] += parts[5 * k : 5 * k + 5, v] * adjacency[k, v, w] * unit.importance[k, v, w]
    expected = (unit.time(gathered) + unit.shortcut(values)).relu()
    torch.testing.assert_close(unit(values, adjacency), expected)


def test_a_joint_that_was_not_seen_says_nothing_of_where_it_is() -> None:
    net, pose = PoseGraph(7, 0.0625).eval(), torch.rand(2, 17, 3)
    pose[:, 4, 2] = 0
    moved = pose.clone()
    moved[:, 4, :2] = torch.rand(2, 2)
    assert torch.equal(net(pose), net(moved))


def test_h1_is_the_log_of_the_product_of_what_face_and_pose_say() -> None:
    net, whole = make(name="emoticon", width=0.0625).eval(), batch(3)
    f1, f2 = net.landmarks(whole["landmarks"]), net.pose(whole["pose"])
    torch.testing.assert_close(net(whole).feature[:, :26].exp(), f1.sigmoid() * f2.sigmoid())
    torch.testing.assert_close(net(without(whole, "pose")).feature[:, :26].exp(), f1.sigmoid())
    torch.testing.assert_close(net(without(whole, "landmarks")).feature[:, :26].exp(), f2.sigmoid())
    neither = without(without(whole, "landmarks"), "pose")
    assert torch.equal(net(neither).feature[:, :26], torch.zeros(3, 26))
    single = batch(3, single=True)
    torch.testing.assert_close(net(single).feature[:, :26].exp(), f1.softmax(1) * f2.softmax(1))


def test_h2_and_h3_follow() -> None:
    net, whole = make(name="emoticon", width=0.0625).eval(), batch(3)
    feature = net(without(whole, "depth", 1)).feature
    torch.testing.assert_close(feature[:, 26:52], net.context(whole["context"]))
    depth = net.third_context(whole["depth"])
    assert not feature[1, 52:].any(), "no depth map, no say"
    torch.testing.assert_close(feature[[0, 2], 52:], depth[[0, 2]], rtol=1e-4, atol=1e-6)


def slow_loss(p: Tensor, true: Tensor, valid: Tensor, beta: float) -> float:
    """The paper's sum, number by number, in float64."""
    samples, modalities, classes = p.shape
    total = 0.0
    for b in range(samples):
        for i in range(modalities):
            for k in range(classes):
                if true[b, k] and valid[b, i]:
                    total -= float(p[b, i, k]) ** (beta / (modalities - 1)) * math.log(float(p[b, i, k]))
    return total / samples


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("single", [False, True])
def test_the_multiplicative_loss_number_by_number(beta: float, modalities: int, single: bool) -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, modalities, 6) * 3
    valid = torch.rand(4, modalities) > 0.3
    valid[0], valid[1] = True, False
    true = nn.functional.one_hot(torch.randint(6, (4,)), 6) if single else (torch.rand(4, 6) > 0.5).float()
    p = logits.double().softmax(-1) if single else logits.double().sigmoid()
    found = multiplicative_loss(log_probabilities(logits, single), true, valid, beta)
    assert found.item() == pytest.approx(slow_loss(p, true, valid, beta), rel=1e-5)
    product = (p * valid[..., None] + ~valid[..., None]).prod(1)
    torch.testing.assert_close(
        log_product(log_probabilities(logits, single), valid).double().exp(), product, rtol=1e-5, atol=1e-7
    )


def test_its_gradient_holds_the_weight_constant() -> None:
    # d/dz of -w log sigmoid(z) is -w (1 - p): always up, and never more than 1, whatever p.
    logits = torch.tensor([[[-9.0, -1.0, 0.0, 4.0], [2.0, 2.0, 2.0, 2.0]]], requires_grad=True)
    multiplicative_loss(
        log_probabilities(logits, False), torch.ones(1, 4), torch.ones(1, 2, dtype=torch.bool), 2.0
    ).backward()
    p = logits.detach().sigmoid()
    torch.testing.assert_close(logits.grad, -(p**2.0) * (1 - p))


def test_extreme_logits_give_numbers() -> None:
    for single in (False, True):
        logits = torch.tensor([[[-1e4, 1e4, 0.0], [1e4, -1e4, 0.0]]], requires_grad=True)
        log_p, valid = log_probabilities(logits, single), torch.ones(1, 2, dtype=torch.bool)
        loss = multiplicative_loss(log_p, torch.ones(1, 3), valid, 1.0) + log_product(log_p, valid).sum()
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("single", [False, True])
def test_the_backbone_reports_the_loss_with_its_weight(single: bool) -> None:
    whole = batch(3, single=single)
    lacking = without(without(whole, "landmarks", 0), "pose", 2)
    net = make(name="emoticon", width=0.0625, multiplicative_weight=0.25, beta=2.0).eval()
    logits = torch.stack([net.landmarks(lacking["landmarks"]), net.pose(lacking["pose"])], 1).detach().double()
    p = logits.softmax(-1) if single else logits.sigmoid()
    true = nn.functional.one_hot(whole["target"], 26) if single else whole["target"]
    valid = torch.tensor([[False, True], [True, True], [True, False]])
    assert net(lacking).aux["multiplicative"].item() == pytest.approx(0.25 * slow_loss(p, true, valid, 2.0), rel=1e-4)
    assert make(name="emoticon", width=0.0625, multiplicative_weight=0.0)(whole).aux == {}


def test_a_missing_face_trains_nothing_of_the_faces_network() -> None:
    net, whole = make(name="emoticon", width=0.0625).eval(), without(batch(3), "landmarks")
    output = net(whole)
    (output.logits.sum() + output.aux["multiplicative"]).backward()
    assert not any(p.grad.any() for p in net.landmarks.parameters())
    assert any(p.grad.any() for p in net.pose.parameters())


AGENTS = torch.tensor([[[0.1, 0.2, 0.3, 0.6], [0.4, 0.1, 0.5, 0.5], [0.8, 0.8, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])


def test_proximity_by_hand() -> None:
    near = math.exp(-math.hypot(0.45 - 0.2, 0.3 - 0.4))  # the third is farther than half a frame from both
    expected = torch.tensor([[1, near, 0, 0], [near, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(proximity_matrix(AGENTS)[0], expected)


def test_h3_of_agents_is_the_subjects_node() -> None:
    torch.manual_seed(0)
    net = AgentGraph(7, 0.0625)
    near = math.exp(-math.hypot(0.25, 0.1))
    share = torch.tensor([[1, near], [near, 1]]) / (1 + near)  # both have the degree 1 + near
    x = torch.tensor([[0.1, 0.2, 0.3, 0.6, 0.2, 0.4, 0.08], [0.4, 0.1, 0.5, 0.5, 0.1, 0.4, 0.04]])
    expected = (share @ net.second((share @ net.first(x)).relu()))[0]
    torch.testing.assert_close(net(AGENTS)[0], expected)
    torch.testing.assert_close(net(AGENTS[:, :2])[0], expected)
    moved = AGENTS.clone()
    moved[0, 1, :] += 0.05
    assert not torch.allclose(net(moved)[0], expected)
    assert not net(torch.zeros(2, 3, 4)).any(), "nobody"
