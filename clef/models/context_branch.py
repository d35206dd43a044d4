"""N_C: the extra branch that reads a frame without the subject, and so captures what the context alone says."""

from torch import Tensor, nn

from clef.config import ContextBranchConfig
from clef.data.batch_memory import Batch
from clef.models.backbone import WeightLoader
from clef.models.encoders import build_encoder, encoder_dim
from clef.models.frozen import FrozenEncoder, read_images


class ContextBranch(nn.Module):
    """A network on the masked frame, B,3,H,W, whose last layer gives the logits Y_c, B,K (CLEF section 3.3).

    Frozen means the encoder's parameters *and* its batch-norm statistics; the new last layer is always trained.
    """

    def __init__(self, config: ContextBranchConfig, classes: int, load: WeightLoader, seed: int = 0) -> None:
        super().__init__()
        self.config, self.frozen = config, None
        if config.trainable:
            self.encoder = build_encoder(config)
            load("context_branch", self.encoder)
        else:
            self.frozen = FrozenEncoder("context_branch", config.input, config, load, seed)
        self.classifier = nn.Linear(encoder_dim(config), classes)

    def frozen_encoders(self) -> list[FrozenEncoder]:
        """Return its encoder, if that is not trained."""
        return [self.frozen] if self.frozen else []

    def forward(self, batch: Batch) -> Tensor:
        """Return Y_c, B,K, of the batch's masked frame, or of its features where they were computed beforehand."""
        if self.frozen:
            features = self.frozen(batch)
        else:
            features = read_images(self.encoder, batch[self.config.input], self.config)
        logits: Tensor = self.classifier(features)
        return logits
