"""Reweighting by the biased model (Clark et al., EMNLP 2019, "reweight")."""

from torch import Tensor

from clef.data.batch_memory import Batch
from clef.methods.branched import BranchedMethod
from clef.methods.method import Prediction, sum_over_ranks
from clef.models import BackboneOutput


class BiasReweight(BranchedMethod):
    """Each person counts by 1 - p_c(y), what the context branch lacks in the true label: sum w l / sum w.

    With several labels each class of each person does, by what the branch lacks in its true value. Scores are Y_e. The
    branch is trained by its own loss alone.
    """

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return Y_e as scores, B,K, the weighted task loss, and that of the branch."""
        assert output is not None
        assert context is not None
        target, losses = batch["target"], self.element_losses(output.logits, batch["target"])
        weights = self._missing_probability(context.detach(), target)
        mean = sum_over_ranks(weights.sum()) / sum_over_ranks(weights.new_tensor(weights.numel()))
        terms = {
            "reweighted": (weights / mean.clamp(min=1e-12) * losses).sum(1).mean(),
            "context": self.task_loss(context, target),
        }
        return Prediction(output.logits, terms, {"Y_e": output.logits, "Y_c": context})

    def _missing_probability(self, context: Tensor, target: Tensor) -> Tensor:
        """Return 1 - p_c(y): B,1 for one label, of a softmax; B,K for several, of sigmoids."""
        if self.is_single_label:
            return 1 - context.softmax(1).gather(1, target[:, None])
        return (target - context.sigmoid()).abs()
