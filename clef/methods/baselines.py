"""The context branch alone: the published ablation "without the CAER model", and a measure of a dataset's bias.

The backbone alone: its loss, its logits as scores.
"""

from typing import Any

from torch import Tensor

from clef.config import VanillaConfig
from clef.methods import losses
from clef.methods.method import Batch, Method, Parts, Prediction
from clef.models import BackboneOutput
from clef.models.context_branch import ContextBranch


class ContextOnly(Method):
    """Scores are Y_c, what the frame without the subject says. No backbone is built."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method.branch
        assert config is not None
        self.context_branch = ContextBranch(config, parts.classes, parts.load, parts.config.seed)
        self.lr_multiplier = config.lr_multiplier

    def context_logits(self, batch: Batch) -> Tensor | None:
        """Y_c = N_C(I_x), B,K."""
        logits: Tensor = self.context_branch(batch)
        return logits

    def predict(self, output: BackboneOutput | None, context: Tensor | None, target: Tensor) -> Prediction:
        """Y_c and its task loss."""
        assert context is not None
        return Prediction(context, {"categories": self.task_loss(context, target)}, {"Y_c": context})

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """All of the branch, at its own rate."""
        return [group | {"lr_multiplier": self.lr_multiplier} for group in super().parameter_groups(weight_decay)]


class Vanilla(Method):
    """Scores are the logits Y_e."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.backbone = parts.make_backbone(True)
        config = parts.config.method
        if isinstance(config, VanillaConfig) and config.output == "linear":
            self.category_loss = losses.categories(self.loss, parts.counts, linear=True)

    def predict(self, output: BackboneOutput | None, context: Tensor | None, target: Tensor) -> Prediction:
        """Logits and the recipe's category loss."""
        assert output is not None
        terms = {"categories": self.task_loss(output.logits, target)}
        return Prediction(output.logits, terms, {"Y_e": output.logits})
