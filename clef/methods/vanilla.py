"""The backbone alone: its loss, its logits as scores."""

from torch import Tensor

from clef.config import VanillaConfig
from clef.methods import losses
from clef.methods.method import Method, Parts, Prediction
from clef.models import BackboneOutput


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
