"""RUBi: reducing unimodal biases (Cadene et al., NeurIPS 2019), with the context in the place of the question."""

from torch import Tensor, nn

from clef.config import RubiConfig
from clef.data.batch_memory import Batch
from clef.methods.branched import BranchedMethod
from clef.methods.method import Parts, Prediction
from clef.models import BackboneOutput


class Rubi(BranchedMethod):
    """The branch masks the backbone's logits in training: Y_e * sigmoid(Y_c). Scores are Y_e.

    A last linear layer reads the branch's logits, and gives its own prediction, which has a loss, too.
    There is nothing to stop: the branch shares no encoder with the backbone.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method
        assert isinstance(config, RubiConfig)
        self.context_weight = config.context_weight
        self.context_classifier = nn.Linear(parts.classes, parts.classes)

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return Y_e as scores, B,K, and the task losses of the masked logits and of the branch's prediction."""
        assert output is not None
        assert context is not None
        masked = output.logits * context.sigmoid()
        alone = self.context_classifier(context)
        terms = {
            "masked": self.task_loss(masked, batch["target"]),
            "context": self.context_weight * self.task_loss(alone, batch["target"]),
        }
        return Prediction(output.logits, terms, {"Y_e": output.logits, "Y_c": alone, "factual": masked})
