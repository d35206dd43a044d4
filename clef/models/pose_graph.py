"""The pose's network: ST-GCN (Yan et al., AAAI 2018) on the 17 joints of one frame."""

from collections import deque

import torch
from torch import Tensor, nn

from clef.geometry import JOINTS, LIMBS
from clef.models.resnet import scaled

CHANNELS = (64, 64, 64, 128, 128, 128, 256, 256, 256)
CENTRE = JOINTS.index("nose")
"""ST-GCN's centre is the neck; COCO has none, and its limbs meet in the nose."""


class PoseGraph(nn.Module):
    """Nine units (64 x 3, 128 x 3, 256 x 3), the mean over the joints, a linear layer: B,17,3 to B,K.

    With a single frame, only the middle one of the nine taps of a convolution over time would ever meet data: it
    has one tap here. A joint is x and y from the middle of the frame, zero where its confidence is, and the confidence.
    """

    def __init__(self, classes: int, width: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("adjacency", partition(), persistent=False)
        self.adjacency: Tensor
        self.norm = nn.BatchNorm1d(3 * len(JOINTS))
        widths = [3, *(scaled(channels, width) for channels in CHANNELS)]
        self.units = nn.ModuleList(Unit(widths[i], widths[i + 1], residual=i > 0) for i in range(len(CHANNELS)))
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, pose: Tensor) -> Tensor:
        """x and y are 0-1 in the frame."""
        confidence = pose[..., 2:]
        joints = torch.cat([(pose[..., :2] - 0.5) * (confidence > 0), confidence], -1)
        values = self.norm(joints.mT.flatten(1)).view(-1, 3, len(JOINTS))
        for unit in self.units:
            values = unit(values, self.adjacency)
        logits: Tensor = self.classifier(values.mean(-1))
        return logits


class Unit(nn.Module):
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
        """B,inputs,17 to B,outputs,17."""
        parts = self.space(values).unflatten(1, (3, self.outputs))
        gathered = torch.einsum("bkcv,kvw->bcw", parts, adjacency * self.importance)
        result: Tensor = self.time(gathered)
        if self.shortcut is not None:
            result = result + self.shortcut(values)
        return result.relu()


def partition() -> Tensor:
    """3,17,17: the edges v -> w, normalised by w's degree, of a joint to itself, centripetal, and centrifugal.

    ST-GCN's spatial partition: a neighbour as far from the centre as the joint, or farther, is in the second part,
    one that is nearer in the third.
    """
    count = len(JOINTS)
    distance = _distances()
    parts = torch.zeros(3, count, count)
    parts[0] = torch.eye(count)
    for a, b in LIMBS:
        for v, w in ((a, b), (b, a)):
            parts[1 if distance[v] >= distance[w] else 2, v, w] = 1
    return parts / parts.sum(dim=(0, 1))


def _distances() -> dict[int, int]:
    """Limbs between each joint and the centre."""
    found, queue = {CENTRE: 0}, deque([CENTRE])
    while queue:
        joint = queue.popleft()
        for limb in LIMBS:
            if joint in limb:
                other = sum(limb) - joint
                if other not in found:
                    found[other] = found[joint] + 1
                    queue.append(other)
    return found
