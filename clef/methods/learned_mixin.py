"""Learned-mixin, with its entropy term LMH (Clark et al., EMNLP 2019, "learned-mixin" and "learned-mixin +H")."""

from torch import Tensor, nn
from torch.nn import functional as F

from clef.config import LearnedMixinConfig
from clef.data.batch_memory import Batch
from clef.methods.branched import BranchedMethod
from clef.methods.method import Parts, Prediction, entropy
from clef.models import BackboneOutput


class LearnedMixin(BranchedMethod):
    """A product of experts that may trust the context less: softmax(log p_e + g(h) log p_c), g(h) = softplus(w h + b).

    The entropy of the biased distribution softmax(g(h) log p_c) keeps g from going to 0. Scores are Y_e. The branch is
    trained by its own loss alone.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method
        assert isinstance(config, LearnedMixinConfig)
        assert self.backbone is not None
        self.entropy_weight = config.entropy_weight
        self.gate = nn.Linear(self.backbone.feature_dim, 1)

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return Y_e as scores, B,K, the task losses of the mixture and of the branch, and the weighted entropy."""
        assert output is not None
        assert output.feature is not None
        assert context is not None
        bias = F.softplus(self.gate(output.feature)) * context.detach()
        terms = {
            "mixture": self.task_loss(output.logits + bias, batch["target"]),
            "context": self.task_loss(context, batch["target"]),
        }
        if self.entropy_weight:
            terms["entropy"] = self.entropy_weight * entropy(bias, self.is_single_label)
        effects = {"Y_e": output.logits, "Y_c": context, "factual": output.logits + bias}
        return Prediction(output.logits, terms, effects)
