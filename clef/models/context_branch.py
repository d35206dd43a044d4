"""N_C: the extra branch that reads a frame without the subject, and so captures what the context alone says."""

import torch
from torch import Tensor, nn

from clef.config import ContextBranchConfig, EncoderConfig
from clef.data.batch_memory import Batch
from clef.models.backbone import WeightLoader
from clef.models.encoders import ResNetEncoder, Vgg16Encoder, make_encoder

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
            self.encoder = make_frozen_encoder(config, "context_branch", load, seed)
        else:
            self.encoder = make_encoder(config.network, config.width)
            load("context_branch", self.encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)

    def train(self, mode: bool = True) -> "ContextBranch":
        """Set the mode, but keep a frozen encoder in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, batch: Batch) -> Tensor:
        """Return Y_c, B,K, of the batch's masked frame, or of its features where they were computed beforehand."""
        features = batch[FEATURES] if FEATURES in batch else self.encoder(batch[self.input])
        logits: Tensor = self.classifier(features)
        return logits


def make_frozen_encoder(
    config: EncoderConfig, name: str, load: WeightLoader, seed: int
) -> ResNetEncoder | Vgg16Encoder:
    """Return an encoder that is never trained, in evaluation mode, with the weights that go by `name`.

    Where its weights are random they depend on `seed` alone, so that its features can be computed once and shared.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = make_encoder(config.network, config.width)
    load(name, encoder)
    return encoder.requires_grad_(False).eval()
