"""EmotiCon (Mittal et al., CVPR 2020): face and pose, the masked frame, and depth or the other people.

In order: the backbone; its product of modalities and the multiplicative loss (equations 1 and 2; Liu et al., 2018);
then a network for each cue: landmarks, the pose (ST-GCN; Yan et al., AAAI 2018), the masked frame (an attention branch
network; Fukui et al., CVPR 2019), depth, and the agents. K is the number of classes.
"""

from collections import deque

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from clef.config import EmotiConConfig
from clef.data.batch_memory import Batch
from clef.geometry import JOINTS, LIMBS, NUM_LANDMARKS
from clef.models.backbone import Backbone, Encoded, WeightLoader
from clef.models.encoders import ResNetEncoder, scaled
from clef.models.graph import GEOMETRY_SIZE, box_geometry, normalize_adjacency, valid_boxes
from clef.models.pooling import MaxPool2d

LANDMARK_NUMBERS = 144
"""The numbers of a face in the paper. 68 points are 136 of them; the rest are zeros."""
POSE_CHANNELS = (64, 64, 64, 128, 128, 128, 256, 256, 256)
"""Of ST-GCN's nine units."""
CENTER = JOINTS.index("nose")
"""ST-GCN's centre is the neck; COCO has none, and its limbs meet in the nose."""
MAX_DISTANCE = 0.5
"""mu: agents whose boxes' centres are farther apart, in frames, are not joined."""
FUSION_HIDDEN = 52
"""Between the three contexts and the classes; it goes with the classes, so `width` leaves it."""


class EmotiCon(Backbone):
    """Three interpretations of context, K numbers each: 3K -> 52 -> K.

    Context 1 is the logarithm of the product of what landmarks and pose say, h1: sigmoids, or softmaxes where targets
    are one label. A missing one is the neutral factor 1, and trains nothing. Context 2, h2, is the frame without the
    agent. Context 3, h3, is the depth map, or the graph of the agents; where the cue is missing it is zeros.
    """

    def build(self, config: EmotiConConfig, load: WeightLoader) -> None:
        """Make a network for each cue."""
        self.feature_dim = 3 * self.classes
        self.third, self.beta, self.weight = config.third, config.beta, config.multiplicative_weight
        self.landmarks = LandmarkNet(self.classes, config.width, config.dropout)
        self.pose = PoseGraph(self.classes, config.width)
        self.context = AttentionBranchNet(self.classes, config.width)
        load("context", self.context.encoder)
        third = DepthNet(self.classes, config.width, config.dropout) if config.third == "depth" else None
        self.third_context = third or AgentGraph(self.classes, config.width)

    def make_classifier(self, classes: int) -> nn.Module:
        """Return the fusion's two layers, B,3K to B,K."""
        return nn.Sequential(nn.Linear(self.feature_dim, FUSION_HIDDEN), nn.ReLU(), nn.Linear(FUSION_HIDDEN, classes))

    def encode(self, batch: Batch) -> Encoded:
        """Return h1, h2 and h3 side by side, B,3K, and the multiplicative loss where it has a weight.

        Reads `landmarks` B,68,2, `pose` B,17,3, `context` B,3,H,W, and `depth` B,1,H',W' or `agents` B,N,4.
        """
        first = torch.stack([self.landmarks(batch["landmarks"]), self.pose(batch["pose"])], dim=1)
        second = self.context(batch["context"])
        third = self.third_context(batch[self.third]) * batch["valid"][self.third][:, None]
        valid = torch.stack([batch["valid"]["landmarks"], batch["valid"]["pose"]], dim=1)
        target = batch["target"]
        single_label = not target.is_floating_point()
        with torch.autocast(first.device.type, enabled=False):  # small probabilities vanish in 16 bits
            log_p = log_probabilities(first, single_label)
            feature = torch.cat([log_product(log_p, valid), second.float(), third.float()], dim=1)
            if not self.weight:
                return Encoded(feature)
            true = F.one_hot(target, self.classes) if single_label else target
            loss = self.weight * multiplicative_loss(log_p, true, valid, self.beta)
            return Encoded(feature, {"multiplicative": loss})


def log_probabilities(logits: Tensor, single_label: bool) -> Tensor:
    """Return log softmax over the last dimension for a single label, log sigmoid for several; float32, same shape."""
    logits = logits.float()
    return logits.log_softmax(-1) if single_label else F.logsigmoid(logits)


def log_product(log_p: Tensor, valid: Tensor) -> Tensor:
    """Return the logarithm of the product over the n modalities, B,n,K to B,K; a missing one counts as 1.

    `valid` is B,n bool. The product itself would be a few hundredths beside the other contexts' logits; the layers
    after it would not see it.
    """
    return (log_p * valid[..., None]).sum(1)


def multiplicative_loss(log_p: Tensor, true: Tensor, valid: Tensor, beta: float) -> Tensor:
    """Return L_mult = - sum_i p_i^(beta / (n - 1)) log p_i over the valid modalities i and the true classes.

    `log_p` is B,n,K, `true` B,K 0/1 and `valid` B,n bool; the result is a mean over the batch. The weight p_i^(...) is
    held constant: it says how far a modality is trusted. Were it trained too, the loss would push p_i towards 0 where
    it is below e^(-(n - 1) / beta).
    """
    weight = (log_p * (beta / (log_p.shape[1] - 1))).exp().detach()
    terms = -weight * log_p * valid[..., None] * true[:, None]
    return terms.sum(dim=(1, 2)).mean()


class LandmarkNet(nn.Module):
    """Three 1-D convolutions (256, 512, 1024), then 1024, 512, 256, K: B,68,2 to the logits f1, B,K.

    Kernel 3, batch norm and ReLU are chosen here, and a pool of 2 after each convolution. The map is flattened: a mean
    over it would lose which landmark is where. The numbers are all x, then all y, as OpenFace writes them.
    """

    def __init__(self, classes: int, width: float, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for channels in (256, 512, 1024):
            outputs = scaled(channels, width)
            layers += [nn.Conv1d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
            layers.append(nn.MaxPool1d(2))
            inputs = outputs
        self.convolutions = nn.Sequential(*layers)
        sizes = [LANDMARK_NUMBERS // 8 * inputs, *(scaled(size, width) for size in (1024, 512, 256))]
        self.layers = nn.Sequential(
            nn.Linear(sizes[0], sizes[1]),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(sizes[1], sizes[2]),
            nn.ReLU(),
            nn.Linear(sizes[2], sizes[3]),
            nn.ReLU(),
            nn.Linear(sizes[3], classes),
        )

    def forward(self, landmarks: Tensor) -> Tensor:
        """Return f1, B,K, of points 0-1 in the face box, B,68,2."""
        numbers = F.pad((landmarks - 0.5).mT.flatten(1), (0, LANDMARK_NUMBERS - 2 * NUM_LANDMARKS))
        logits: Tensor = self.layers(self.convolutions(numbers[:, None]).flatten(1))
        return logits


class PoseGraph(nn.Module):
    """Nine units (64 x 3, 128 x 3, 256 x 3), the mean over the joints, a linear layer: B,17,3 to B,K.

    With a single frame, only the middle one of the nine taps of a convolution over time would ever meet data: it
    has one tap here. A joint is x and y from the middle of the frame, zero where its confidence is, and the confidence.
    """

    def __init__(self, classes: int, width: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("adjacency", spatial_partition(), persistent=False)
        self.adjacency: Tensor
        self.norm = nn.BatchNorm1d(3 * len(JOINTS))
        widths = [3, *(scaled(channels, width) for channels in POSE_CHANNELS)]
        self.units = nn.ModuleList(
            GraphUnit(widths[i], widths[i + 1], residual=i > 0) for i in range(len(POSE_CHANNELS))
        )
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, pose: Tensor) -> Tensor:
        """Return f2, B,K, of joints B,17,3: x and y 0-1 in the frame, and a confidence."""
        confidence = pose[..., 2:]
        joints = torch.cat([(pose[..., :2] - 0.5) * (confidence > 0), confidence], -1)
        values = self.norm(joints.mT.flatten(1)).view(-1, 3, len(JOINTS))
        for unit in self.units:
            values = unit(values, self.adjacency)
        logits: Tensor = self.classifier(values.mean(-1))
        return logits


class GraphUnit(nn.Module):
    """A graph convolution over the three partitions, with learned importances of the edges, and one over time."""

    def __init__(self, inputs: int, outputs: int, residual: bool) -> None:
        super().__init__()
        self.outputs = outputs
        self.space = nn.Conv1d(inputs, 3 * outputs, 1)
        self.importance = nn.Parameter(torch.ones(3, len(JOINTS), len(JOINTS)))
        self.time = nn.Sequential(
            nn.BatchNorm1d(outputs),
            nn.ReLU(),
            nn.Conv1d(outputs, outputs, 1, bias=False),
            nn.BatchNorm1d(outputs),
        )
        self.shortcut: nn.Module | None = None
        if residual and inputs == outputs:
            self.shortcut = nn.Identity()
        elif residual:
            self.shortcut = nn.Sequential(nn.Conv1d(inputs, outputs, 1, bias=False), nn.BatchNorm1d(outputs))

    def forward(self, values: Tensor, adjacency: Tensor) -> Tensor:
        """Return B,outputs,17 of values B,inputs,17 and an adjacency 3,17,17."""
        parts = self.space(values).unflatten(1, (3, self.outputs))
        gathered = torch.einsum("bkcv,kvw->bcw", parts, adjacency * self.importance)
        result: Tensor = self.time(gathered)
        if self.shortcut is not None:
            result = result + self.shortcut(values)
        return result.relu()


def spatial_partition() -> Tensor:
    """Return 3,17,17: the edges v -> w, divided by w's degree, of a joint to itself, centripetal, and centrifugal.

    ST-GCN's spatial partition: a neighbour as far from the centre as the joint, or farther, is in the second part,
    one that is nearer in the third.
    """
    count = len(JOINTS)
    distance = _distances_from_center()
    parts = torch.zeros(3, count, count)
    parts[0] = torch.eye(count)
    for a, b in LIMBS:
        for v, w in ((a, b), (b, a)):
            parts[1 if distance[v] >= distance[w] else 2, v, w] = 1
    return parts / parts.sum(dim=(0, 1))


def _distances_from_center() -> dict[int, int]:
    """Return how many limbs lie between each joint and the centre."""
    distances, queue = {CENTER: 0}, deque([CENTER])
    while queue:
        joint = queue.popleft()
        for limb in LIMBS:
            if joint in limb:
                other = sum(limb) - joint
                if other not in distances:
                    distances[other] = distances[joint] + 1
                    queue.append(other)
    return distances


class AttentionBranchNet(nn.Module):
    """B,3,H,W to B,K: a map of attention says where the last stage is to look.

    The branch is a copy of the last stage that keeps the map's size, a 1x1 convolution to K maps and a 3x3 one to the
    attention. The paper's branch classifies too, by a loss of its own; EmotiCon names no such loss, so none is built.
    """

    def __init__(self, classes: int, width: float = 1.0) -> None:
        super().__init__()
        self.encoder = ResNetEncoder("resnet18", width)
        inputs, dim = scaled(256, width), self.encoder.dim
        shortcut = nn.Sequential(nn.Conv2d(inputs, dim, 1, bias=False), nn.BatchNorm2d(dim))
        self.branch = nn.Sequential(
            BasicBlock(inputs, dim, 1, shortcut),
            BasicBlock(dim, dim),
            nn.BatchNorm2d(dim),
            nn.Conv2d(dim, classes, 1, bias=False),
            nn.BatchNorm2d(classes),
            nn.ReLU(),
            nn.Conv2d(classes, 1, 3, padding=1, bias=False),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )
        self.classifier = nn.Linear(dim, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits h2, B,K, of masked frames B,3,H,W."""
        map_ = self.encoder.stem(images)
        for number in (1, 2, 3):
            map_ = self.encoder.stage(number)(map_)
        attended = self.encoder.stage(4)(map_ * (1 + self.branch(map_)))
        logits: Tensor = self.classifier(attended.mean(dim=(2, 3)))
        return logits


class DepthNet(nn.Module):
    """A 5x5 and four 3x3 convolutions (32 to 512), a pool of 2 after each, 25088 -> 1000 -> K: B,1,H,W to h3, B,K.

    224 pixels make a map of 7x7; other sizes are pooled to it. Batch norm is chosen here: all of it starts at random.
    """

    def __init__(self, classes: int, width: float, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for channels, kernel in ((32, 5), (64, 3), (128, 3), (256, 3), (512, 3)):
            outputs = scaled(channels, width)
            layers += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(), MaxPool2d(2, ceil_mode=True)]
            inputs = outputs
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten())
        hidden = scaled(1000, width)
        self.layers = nn.Sequential(
            nn.Linear(49 * inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )

    def forward(self, depth: Tensor) -> Tensor:
        """Return the logits h3, B,K, of depth maps B,1,H,W in -1 to 1."""
        logits: Tensor = self.layers(self.convolutions(depth))
        return logits


class AgentGraph(nn.Module):
    """Two graph convolutions over the people of a scene, 256 and K; the subject's node is h3: B,N,4 to B,K.

    A(i,j) = exp(-d_ij) where d_ij < mu, 0 beyond. Chosen here: d is the distance of the boxes' centres in frames, mu
    half a frame, A is normalized symmetrically, and a node is the geometry of its box.
    """

    def __init__(self, classes: int, width: float) -> None:
        super().__init__()
        hidden = scaled(256, width)
        self.first, self.second = nn.Linear(GEOMETRY_SIZE, hidden), nn.Linear(hidden, classes)

    def forward(self, agents: Tensor) -> Tensor:
        """Return h3, B,K, of boxes B,N,4, 0-1 in the scene, the subject's first; rows of zeros are padding."""
        edges = normalize_adjacency(proximity_matrix(agents))
        nodes: Tensor = edges @ self.second((edges @ self.first(box_geometry(agents))).relu())
        return nodes[:, 0]


def proximity_matrix(agents: Tensor) -> Tensor:
    """Return A, B,N,N, of boxes B,N,4; rows and columns of padding are zeros."""
    centers = (agents[..., :2] + agents[..., 2:]) / 2
    distance = (centers[:, :, None] - centers[:, None, :]).norm(dim=-1)
    valid = valid_boxes(agents)
    joined = (distance < MAX_DISTANCE) & valid[:, :, None] & valid[:, None, :]
    return (-distance).exp() * joined
