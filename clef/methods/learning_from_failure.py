"""Learning from failure (Nam et al., NeurIPS 2020), with the context branch as the biased model."""

import torch
from torch import Tensor
from torch.nn import functional as F

from clef.config import LearningFromFailureConfig
from clef.data.batch_memory import Batch
from clef.methods.branched import BranchedMethod
from clef.methods.method import Parts, Prediction, bce, cross_entropy
from clef.models import BackboneOutput


class LearningFromFailure(BranchedMethod):
    """People whom the biased model finds hard count more: W = CE_b / (CE_b + CE_d), b the branch, d the backbone.

    The biased model is pushed towards what is easy by the generalized cross-entropy (1 - p_y^q) / q. With several
    labels all of this is done class by class, with the probability of the true value. Scores are Y_e.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method
        assert isinstance(config, LearningFromFailureConfig)
        self.q = config.q

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return Y_e as scores, B,K, the weighted task loss, and the branch's generalized cross-entropy."""
        assert output is not None
        assert context is not None
        target = batch["target"]
        losses = self.element_losses(output.logits, target)
        terms = {
            "hard": (self._difficulty(context, output.logits, target) * losses).sum(1).mean(),
            "context": self._generalized(context, target).sum(1).mean(),
        }
        return Prediction(output.logits, terms, {"Y_e": output.logits, "Y_c": context})

    def _difficulty(self, biased: Tensor, debiased: Tensor, target: Tensor) -> Tensor:
        """Return W of each person, B,1, or of each person and class, B,K: from 0 to 1, a constant in the loss."""
        loss = cross_entropy if self.is_single_label else bce
        of_biased, of_debiased = loss(biased.detach(), target), loss(debiased.detach(), target)
        return of_biased / (of_biased + of_debiased).clamp(min=1e-8)

    def _generalized(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return (1 - p_y^q) / q, B,1 or B,K."""
        if self.is_single_label:
            log_p = logits.log_softmax(1).gather(1, target[:, None])
        else:
            log_p = F.logsigmoid(torch.where(target > 0, logits, -logits))
        return (1 - (self.q * log_p).exp()) / self.q
