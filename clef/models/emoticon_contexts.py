"""EmotiCon's networks for landmarks, depth and agents (Mittal et al., CVPR 2020, sections 3 and 4)."""

from torch import Tensor, nn
from torch.nn import functional as F

from clef.geometry import LANDMARKS
from clef.models.graph import GEOMETRY, geometry, normalised, present
from clef.models.resnet import scaled

NUMBERS = 144
"""A face in the paper. 68 points are 136 of them; the rest are zeros."""
REACH = 0.5
"""mu: agents whose boxes' centres are farther apart, in frames, are not joined."""


class LandmarkNet(nn.Module):
    """Three 1-D convolutions (256, 512, 1024), then 1024, 512, 256, K: B,68,2 to the logits f1, B,K.

    Kernel 3, batch norm and ReLU are chosen here, and a pool of 2 behind each convolution. The map is flattened: a mean
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
        sizes = [NUMBERS // 8 * inputs, *(scaled(size, width) for size in (1024, 512, 256))]
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
        """Points are 0-1 in the face box."""
        numbers = F.pad((landmarks - 0.5).mT.flatten(1), (0, NUMBERS - 2 * LANDMARKS))
        logits: Tensor = self.layers(self.convolutions(numbers[:, None]).flatten(1))
        return logits


class DepthNet(nn.Module):
    """A 5x5 and four 3x3 convolutions (32 to 512), a pool of 2 behind each, 25088 -> 1000 -> K: B,1,H,W to h3, B,K.

    224 pixels make a map of 7x7; other sizes are pooled to it. Batch norm is chosen here: all of it starts at random.
    """

    def __init__(self, classes: int, width: float, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for channels, kernel in ((32, 5), (64, 3), (128, 3), (256, 3), (512, 3)):
            outputs = scaled(channels, width)
            layers += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            inputs = outputs
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten())
        hidden = scaled(1000, width)
        self.layers = nn.Sequential(
            nn.Linear(49 * inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )

    def forward(self, depth: Tensor) -> Tensor:
        """Depth is -1 to 1."""
        logits: Tensor = self.layers(self.convolutions(depth))
        return logits


class AgentGraph(nn.Module):
    """Two graph convolutions over the people of a scene, 256 and K; the subject's node is h3: B,N,4 to B,K.

    A(i,j) = exp(-d_ij) where d_ij < mu, 0 beyond. Chosen here: d is the distance of the boxes' centres in frames, mu
    half a frame, A is normalised symmetrically, and a node is the geometry of its box.
    """

    def __init__(self, classes: int, width: float) -> None:
        super().__init__()
        hidden = scaled(256, width)
        self.first, self.second = nn.Linear(GEOMETRY, hidden), nn.Linear(hidden, classes)

    def forward(self, agents: Tensor) -> Tensor:
        """Boxes are 0-1 in the scene, the subject's first; zero rows are nobody."""
        edges = normalised(proximity(agents))
        nodes: Tensor = edges @ self.second((edges @ self.first(geometry(agents))).relu())
        return nodes[:, 0]


def proximity(agents: Tensor) -> Tensor:
    """A, B,N,N; zeros for nobody's rows and columns."""
    centres = (agents[..., :2] + agents[..., 2:]) / 2
    distance = (centres[:, :, None] - centres[:, None, :]).norm(dim=-1)
    there = present(agents)
    joined = (distance < REACH) & there[:, :, None] & there[:, None, :]
    return (-distance).exp() * joined
