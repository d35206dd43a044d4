"""N_C: the extra branch that reads a frame without the subject, and so captures what the context alone says."""

from typing import Any

import torch
from torch import Tensor, nn

from clef.config import ContextBranchConfig, EncoderConfig
from clef.models.backbone import WeightLoader
from clef.models.encoders import encoder

FEATURES = "context_features"
"""The key of a batch that holds a frozen encoder's features, B,dim, where they were computed beforehand."""


class ContextBranch(nn.Module):
    """A network on the masked frame, B,3,H,W, whose last layer gives the logits Y_c, B,K (CLEF section 3.3).

    Frozen means the encoder's parameters *and* its batch-norm statistics; the new last layer is always trained.
    """

    def __init__(self, config: ContextBranchConfig, classes: int, load: WeightLoader, seed: int = 0) -> None:
        super().__init__()
        self.input, self.frozen = config.input, not config.trainable
        if self.frozen:
            self.encoder = frozen_encoder(config, "context_branch", load, seed)
        else:
            self.encoder = encoder(config.network, config.width)
            load("context_branch", self.encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)

    def train(self, mode: bool = True) -> "ContextBranch":
        """A frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, batch: dict[str, Any]) -> Tensor:
        """Y_c."""
        features = batch[FEATURES] if FEATURES in batch else self.encoder(batch[self.input])
        logits: Tensor = self.classifier(features)
        return logits


def frozen_encoder(config: EncoderConfig, name: str, load: WeightLoader, seed: int) -> Any:
    """An encoder that is never trained, in evaluation mode.

    Where its weights are random they depend on `seed` alone, so that its features can be computed once and shared.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = encoder(config.network, config.width)
    load(name, network)
    return network.requires_grad_(False).eval()
