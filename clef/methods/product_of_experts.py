"""Product of experts (Hinton 2002; Clark et al., EMNLP 2019, as "bias product")."""

from torch import Tensor

from clef.config import ProductOfExpertsConfig
from clef.data.batch_memory import Batch
from clef.methods.branched import BranchedMethod
from clef.methods.method import Parts, Prediction
from clef.models import BackboneOutput


class ProductOfExperts(BranchedMethod):
    """The backbone learns what the context branch leaves to say: softmax(log p_e + log p_c), or sigmoid(Y_e + Y_c).

    Scores are Y_e: the branch is dropped after training. It has a loss of its own; with `stop_gradient` that alone
    trains it, as where the biased model was trained beforehand. Without, the product's loss reaches it, too.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method
        assert isinstance(config, ProductOfExpertsConfig)
        self.stop_gradient = config.stop_gradient

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return Y_e as scores, B,K, and the task losses of the product and of the branch alone.

        The logarithms of a product's probabilities are Y_e + Y_c up to a constant, which a softmax ignores.
        """
        assert output is not None
        assert context is not None
        bias = context.detach() if self.stop_gradient else context
        terms = {
            "product": self.task_loss(output.logits + bias, batch["target"]),
            "context": self.task_loss(context, batch["target"]),
        }
        return Prediction(output.logits, terms, {"Y_e": output.logits, "Y_c": context})
