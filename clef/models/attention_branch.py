"""The masked frame's network: an attention branch network on ResNet-18 (Fukui et al., CVPR 2019)."""

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from clef.models.resnet import Encoder, scaled


class AttentionBranch(nn.Module):
    """B,3,H,W to B,K: a map of attention says where the last stage is to look.

    The branch is a copy of the last stage that keeps the map's size, a 1x1 convolution to K maps and a 3x3 one to the
    attention. The paper's branch classifies too, by a loss of its own; EmotiCon names no such loss, so none is built.
    """

    def __init__(self, classes: int, width: float = 1.0) -> None:
        super().__init__()
        self.encoder = Encoder("resnet18", width)
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
        """The logits h2."""
        map_ = self.encoder.stem(images)
        for number in (1, 2, 3):
            map_ = self.encoder.stage(number)(map_)
        seen = self.encoder.stage(4)(map_ * (1 + self.branch(map_)))
        logits: Tensor = self.classifier(seen.mean(dim=(2, 3)))
        return logits
