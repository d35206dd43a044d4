"""N_C: the extra branch that reads the masked frame and so captures what the context alone says (CLEF section 3.3)."""

from torch import Tensor, nn

from clef.config import ContextBranchConfig
from clef.models.backbone import WeightLoader
from clef.models.resnet import Encoder


class ContextBranch(nn.Module):
    """A ResNet on the masked frame, B,3,H,W, whose last layer gives the logits Y_c, B,K.

    Frozen means the encoder's parameters *and* its batch-norm statistics; the new last layer is always trained.
    """

    def __init__(self, config: ContextBranchConfig, classes: int, load: WeightLoader) -> None:
        super().__init__()
        self.frozen = not config.trainable
        self.encoder = Encoder(config.network, config.width)
        load("context_branch", self.encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.encoder.requires_grad_(config.trainable)

    def train(self, mode: bool = True) -> "ContextBranch":
        """A frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, context: Tensor) -> Tensor:
        """Y_c."""
        logits: Tensor = self.classifier(self.encoder(context))
        return logits
