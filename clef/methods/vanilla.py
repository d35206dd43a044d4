"""The backbone alone: its loss, its logits as scores."""

from torch import Tensor

from clef.methods.method import Method, Prediction
from clef.models import BackboneOutput


class Vanilla(Method):
    """Scores are the logits Y_e."""

    def predict(self, output: BackboneOutput, context: Tensor | None, target: Tensor) -> Prediction:
        """Logits and the recipe's category loss."""
        terms = {"categories": self.task_loss(output.logits, target)}
        return Prediction(output.logits, terms, {"Y_e": output.logits})
