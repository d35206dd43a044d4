"""EmotiCon (Mittal et al., CVPR 2020): face and pose, the masked frame, and depth or the other people."""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from clef.config import EmotiConConfig, InputName
from clef.models.attention_branch import AttentionBranch
from clef.models.backbone import Backbone, Batch, Encoded, WeightLoader
from clef.models.emoticon_contexts import AgentGraph, DepthNet, LandmarkNet
from clef.models.multiplicative import fused, log_probabilities, multiplicative
from clef.models.pose_graph import PoseGraph

HIDDEN = 52
"""Between the three contexts and the classes; it goes with the classes, so `width` leaves it."""


class EmotiCon(Backbone):
    """Three interpretations of context, K numbers each: 3K -> 52 -> K.

    Context 1 is the logarithm of the product of what landmarks and pose say, h1: sigmoids, or softmaxes where targets
    are one label. A missing one is the neutral factor 1, and trains nothing. Context 2, h2, is the frame without the
    agent. Context 3, h3, is the depth map, or the graph of the agents; where the cue is missing it is zeros.
    """

    inputs: ClassVar[tuple[InputName, ...]] = ("landmarks", "pose", "context", "depth")

    def build(self, config: EmotiConConfig, load: WeightLoader) -> None:
        """A network for each cue."""
        self.feature_dim = 3 * self.classes
        self.third, self.beta, self.weight = config.third, config.beta, config.multiplicative_weight
        self.landmarks = LandmarkNet(self.classes, config.width, config.dropout)
        self.pose = PoseGraph(self.classes, config.width)
        self.context = AttentionBranch(self.classes, config.width)
        load("context", self.context.encoder)
        third = DepthNet(self.classes, config.width, config.dropout) if config.third == "depth" else None
        self.third_context = third or AgentGraph(self.classes, config.width)

    def make_classifier(self, classes: int) -> nn.Module:
        """The fusion's two layers."""
        return nn.Sequential(nn.Linear(self.feature_dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))

    def encode(self, batch: Batch) -> Encoded:
        """B,3K, and the multiplicative loss where it has a weight."""
        first = torch.stack([self.landmarks(batch["landmarks"]), self.pose(batch["pose"])], dim=1)
        second = self.context(batch["context"])
        third = self.third_context(batch[self.third]) * batch["valid"][self.third][:, None]
        there = torch.stack([batch["valid"]["landmarks"], batch["valid"]["pose"]], dim=1)
        target = batch["target"]
        single_label = not target.is_floating_point()
        with torch.autocast(first.device.type, enabled=False):  # small probabilities vanish in 16 bits
            log_p = log_probabilities(first, single_label)
            feature = torch.cat([fused(log_p, there), second.float(), third.float()], dim=1)
            if not self.weight:
                return Encoded(feature)
            true = F.one_hot(target, self.classes) if single_label else target
            loss = self.weight * multiplicative(log_p, true, there, self.beta)
            return Encoded(feature, {"multiplicative": loss})
