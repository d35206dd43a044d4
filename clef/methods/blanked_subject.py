"""Methods that ask the backbone twice: about a person, and about the same frame with the person blanked."""

from typing import Any

import torch
from torch import Tensor

from clef.config import ClefAtTestConfig, MaskConfusionConfig
from clef.data.batch_memory import Batch
from clef.methods.baselines import Vanilla
from clef.methods.method import Parts, Prediction, entropy
from clef.metrics import headline_score, or_none
from clef.models import BackboneOutput


class MaskConfusion(Vanilla):
    """The backbone learns to know nothing without the subject: L(f(s, c)) - weight * H(f(blank, c)).

    The human-mask confusion loss of "Why Can't I Dance in the Mall?" (Choi et al., NeurIPS 2019). Scores are Y_e.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method
        assert isinstance(config, MaskConfusionConfig)
        self.weight = config.weight

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return Y_e as scores, B,K, the task loss, and the negative entropy without the subject."""
        assert output is not None
        prediction = super().predict(output, context, batch)
        if self.weight and output.without_subject is not None:  # in training alone
            unknowing = entropy(output.without_subject.logits, self.is_single_label)
            prediction.losses["confusion"] = -self.weight * unknowing
        return prediction


class ClefAtTest(Vanilla):
    """A trained vanilla cell whose scores are f(s, c) - lambda f(blank, c), in logits; nothing is trained.

    The cheapest counterfactual there is: that of MCIS (Yang et al., ECCV 2024, on sentiment) for the context alone.
    lambda is chosen on val.
    """

    subtracted: Tensor
    """lambda, one number."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.config.method
        assert isinstance(config, ClefAtTestConfig)
        self.candidates = config.candidates
        self.requires_grad_(False)
        self.register_buffer("subtracted", torch.zeros(()))

    def predict(self, output: BackboneOutput | None, context: Tensor | None, batch: Batch) -> Prediction:
        """Return f(s, c) - lambda f(blank, c) as scores, B,K."""
        assert output is not None
        assert output.without_subject is not None
        y_e, blanked = output.logits, output.without_subject.logits
        terms = {"categories": self.task_loss(y_e, batch["target"])}
        return Prediction(y_e - self.subtracted * blanked, terms, {"Y_e": y_e, "Y_blank": blanked})

    def fit(self, arrays: dict[str, Any], metric: str) -> str:
        """Choose lambda by the metric on val, whose predictions are `arrays`; return what was chosen, in words."""
        y_e, blanked, target = arrays["Y_e"], arrays["Y_blank"], arrays["target"]
        found = {each: or_none(headline_score(y_e - each * blanked, target, metric)) for each in self.candidates}
        best = max(found, key=lambda each: -1.0 if (score := found[each]) is None else score)
        self.subtracted.fill_(best)
        return f"lambda {best:g} of {len(found)} by {metric} on val"
