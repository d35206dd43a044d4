"""The methods that debias nothing: the backbone alone, and the context branch alone."""

from typing import Any

from torch import Tensor

from clef.config import VanillaConfig
from clef.data.batch_memory import Batch
from clef.methods.method import Method, Parts, Prediction, category_loss
from clef.models import BackboneOutput
from clef.models.context_branch import ContextBranch


class Vanilla(Method):
    """The backbone alone: its loss; scores are its logits Y_e."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.backbone = parts.make_backbone(True)
        config = parts.config.method
        if isinstance(config, VanillaConfig) and config.output == "linear":
            self.category_loss = category_loss(self.loss_config, parts.counts, linear=True)

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return Y_e as scores, B,K, and the recipe's category loss."""
        assert output is not None
        terms = {"categories": self.task_loss(output.logits, batch["target"])}
        return Prediction(output.logits, terms, {"Y_e": output.logits})


class ContextOnly(Method):
    """The context branch alone; scores are Y_c, what the frame without the subject says. No backbone is built.

    This is the paper's ablation "without the CAER model", and a measure of a dataset's context bias.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method.branch
        assert config is not None
        self.context_branch = ContextBranch(config, parts.classes, parts.load, parts.config.seed)
        self.lr_multiplier = config.lr_multiplier

    def context_logits(self, batch: Batch) -> Tensor | None:
        """Return Y_c = N_C(I_x), B,K."""
        logits: Tensor = self.context_branch(batch)
        return logits

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return Y_c as scores, B,K, and its task loss."""
        assert context is not None
        return Prediction(context, {"categories": self.task_loss(context, batch["target"])}, {"Y_c": context})

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return all of the branch, at its own rate."""
        return [group | {"lr_multiplier": self.lr_multiplier} for group in super().parameter_groups(weight_decay)]
